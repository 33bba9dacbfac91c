"""The audit ledger: how fast it records two sources, how fast it is verified, and what auditing costs a pipeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

from benchmarks import load
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.report import Figure, Report, cpu_note
from benchmarks.sides import WorkerSync
from benchmarks.throughput import USUAL, table
from connectors.ledger.checkpoints import make_checkpoint
from connectors.ledger.exporting import export_ledger
from connectors.ledger.reader import LedgerReader
from connectors.ledger.verification import verify_tables
from tasks.ledger import signing_key, trust, trusted_keys
from worker_sync.composition.workspace import Workspace
from worker_sync.core.settings import Settings
from worker_sync.ledger.findings import Kind
from worker_sync.ledger.findings import Report as Verified
from worker_sync.ledger.verify import verify as verify_export

#: The other audited source: a database of the same server.
OTHER: Final = "other"
CHECKPOINT_EVERY_S: Final = 1.0
_LOOK_S: Final = 0.05


class Audited(WorkerSync):
    """Captures of audited sources, and one worker. With `sync` the first one's pipeline is there too."""

    name = "audited"

    def __init__(self, bed: Bed, sources: dict[str, str], *, sync: bool) -> None:
        super().__init__(bed)
        self._sources = sources
        self._sync = sync

    def _document(self, table: str) -> dict[str, Any]:
        document = super()._document(table)
        document["databases"] |= {name: {"url": url} for name, url in self._sources.items()}
        document["audit"] = {name: {"tables": [f"public.{table}"]} for name in self._sources}
        if not self._sync:
            del document["pipelines"]
        return document

    def go(self) -> None:
        self._start("worker", "worker", "--queues=sync,audit,default", "--grace=1")
        for name in self._sources:
            self._start(f"capture {name}", "capture", name)

    def ready(self) -> None:
        with Workspace(self.settings) as space:
            for name in self.settings.flows:
                space.waiter(self.settings.pipeline(name)).wait(60)

    def tear_down(self) -> None:
        for name in self._sources:
            self._end(f"capture {name}")
        with Workspace(self.settings) as space:
            for name in self._sources:
                space.source(name).drop_stream()
        super().tear_down()


def audit(bed: Bed, options: Options, report: Report) -> None:
    """Two audited sources, and the verification of what they left; then one pipeline with auditing and without."""
    _record_and_verify(bed, options, report)
    _cost(bed, options, report)


def _record_and_verify(bed: Bed, options: Options, report: Report) -> None:
    name = "audit_record"
    with _other_source(bed) as other, table(bed, name):
        load.create_source(other, name)
        side = Audited(bed, {"shop": bed.source, OTHER: other}, sync=False)
        with side.running(name):
            _record(bed, side, [bed.source, other], name, options, report)
            _verify(bed, side.settings, options, report)


def _record(bed: Bed, side: Audited, urls: list[str], name: str, options: Options, report: Report) -> None:
    rows = options.rows
    before = side.usage()
    with _checkpointing(side.settings) as signed, ThreadPoolExecutor(len(urls)) as pool:
        started = time.monotonic()
        writers = [pool.submit(load.bulk, url, name, rows // len(urls), USUAL) for url in urls]
        recorded = _await_changes(bed.control, rows // len(urls) * len(urls))
        seconds = time.monotonic() - started
        for writer in writers:
            writer.result()
    note = f"{len(signed)} checkpoints meanwhile; ms CPU/1k entries: {cpu_note(before, side.usage(), recorded)}"
    report.add(Figure("audit", "two sources recorded", "entries/s", recorded / seconds, None, note, rows, recorded))


def _verify(bed: Bed, settings: Settings, options: Options, report: Report) -> None:
    make_checkpoint(bed.control, settings.ledger.origin, [signing_key(settings)])
    with LedgerReader(bed.control) as reader:
        _timed("verified in the tables", lambda: verify_tables(reader, trust(settings)), options, report)
        folder = bed.directory / "export"
        export_ledger(reader, folder, settings.ledger.origin, trusted_keys(settings), (0, None))
    _timed("verified in an export", lambda: verify_export(folder, trust(settings)), options, report)


def _timed(what: str, verify: Any, options: Options, report: Report) -> None:
    started, cpu = time.monotonic(), time.process_time()
    found: Verified = verify()
    seconds, used = time.monotonic() - started, time.process_time() - cpu
    if not found.ok or found.counts.get(Kind.GAP):
        raise load.LoadFailed(f"{what}: {found.counts}")
    note = f"{used * 1_000_000 / found.intact:.1f} ms CPU per 1k entries in our process"
    report.add(Figure("audit", what, "entries/s", found.intact / seconds, None, note, options.rows, found.intact))


def _cost(bed: Bed, options: Options, report: Report) -> None:
    sides = {"without": WorkerSync(bed), "with": Audited(bed, {"shop": bed.source}, sync=True)}
    rates = {word: _synced(bed, side, f"audit_{word}", options) for word, side in sides.items()}
    rows = options.rows
    ratio = rates["with"] / rates["without"]
    note = f"without auditing {rates['without']:,.0f}, ratio {ratio:.2f}; all rows at the target, and in the ledger"
    report.add(Figure("audit", "a pipeline and its trail", "rows/s", rates["with"], None, note, rows, rows))


def _synced(bed: Bed, side: WorkerSync, name: str, options: Options) -> float:
    with table(bed, name), side.running(name):
        started = time.monotonic()
        load.bulk(bed.source, name, options.rows, USUAL)
        load.arrival(bed.target, name, options.rows)
        if isinstance(side, Audited):
            _await_changes(bed.control, options.rows)
        seconds = time.monotonic() - started
        load.compare(bed.source, bed.target, name)
    return options.rows / seconds


@contextmanager
def _other_source(bed: Bed) -> Iterator[str]:
    with psycopg.connect(bed.source, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {OTHER}")
        yield urlsplit(bed.source)._replace(path=f"/{OTHER}").geturl()
        connection.execute(f"DROP DATABASE {OTHER} WITH (FORCE)")


@contextmanager
def _checkpointing(settings: Settings) -> Iterator[list[int]]:
    """Sign the ledger every second meanwhile; the sizes that were signed."""
    assert settings.control is not None
    signed, stop, url = list[int](), threading.Event(), settings.control.reveal()

    def work() -> None:
        while not stop.wait(CHECKPOINT_EVERY_S):
            signed.append(make_checkpoint(url, settings.ledger.origin, [signing_key(settings)]).checkpoint.size)

    with ThreadPoolExecutor(1) as pool:
        signing = pool.submit(work)
        try:
            yield signed
        finally:
            stop.set()
            signing.result()


def _await_changes(control: str, count: int) -> int:
    """Wait until so many changes are recorded; raises LoadFailed after load.PATIENCE_S."""
    deadline = time.monotonic() + load.PATIENCE_S
    with psycopg.connect(control, autocommit=True) as connection:
        while (found := _changes(connection)) < count:
            if time.monotonic() > deadline:
                raise load.LoadFailed(f"{found} of {count} changes are recorded")
            time.sleep(_LOOK_S)
    return found


def _changes(connection: psycopg.Connection[Any]) -> int:
    """Entries that are no key and no beginning of a trail; those are few."""
    row = connection.execute(
        "SELECT (SELECT size FROM worker_sync_ledger.head) "
        "- (SELECT count(*) FROM worker_sync_ledger.entries WHERE kind <> 'change')"
    ).fetchone()
    assert row is not None
    return int(row[0])
