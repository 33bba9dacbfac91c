"""Makes evidence packs: what an auditor is handed about one period of the ledger, in one directory."""

from __future__ import annotations

import json
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec

from connectors.ledger.exporting import export_ledger, is_checkpoint, size_of
from connectors.ledger.reader import LedgerReader
from connectors.ledger.verification import verify_tables
from worker_sync.core.errors import ConfigError, WorkerSyncError
from worker_sync.ledger import evidence, export
from worker_sync.ledger.check import Trust
from worker_sync.ledger.checkpoint import open_checkpoint, parse
from worker_sync.ledger.entries import Progress
from worker_sync.ledger.evidence import Manifest, Period, moment, seal
from worker_sync.ledger.evidence_facts import EntryFacts, facts_of, signed_by
from worker_sync.ledger.evidence_readme import readme
from worker_sync.ledger.findings import Kind, Report, exit_code
from worker_sync.ledger.note import NoteError, Signer, Verifier, split
from worker_sync.ledger.verify import verify


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pack that is to be made: of which log, about when, whom to trust when it is verified, who signs it."""

    origin: str
    period: Period
    trust: Trust
    signers: Sequence[Signer]


@dataclass(frozen=True, slots=True)
class Stated:
    """What the ledger doesn't know: documents about trails by source, and about runs of the schedule."""

    trails: Mapping[str, Any]
    runs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    """The pack, counts of its entries, and what verification found in its export and in the tables."""

    manifest: Manifest
    facts: EntryFacts
    export: Report
    tables: Report

    @property
    def exit_code(self) -> int:
        """That of what was found. Entries that are recorded and not signed yet count in the export alone: in the
        tables, which are verified to their end, there nearly always are some."""
        return exit_code({*self.export.counts, *(self.tables.counts.keys() - {Kind.UNSIGNED})})


def make_pack(
    reader: LedgerReader,
    directory: Path,
    wanted: Wanted,
    stated: Callable[[], Stated],
    progress: Progress | None = None,
) -> Made:
    """Write a pack into a new directory, which appears when everything in it is complete and signed.

    `stated` is called before the ledger is read, so that what it waits for is in the pack. Verification reads the
    tables from the newest checkpoint before the period on. What it finds does not keep the pack from being made.
    Raises ConfigError for a directory that is not new, WorkerSyncError where it can't be written, and what `stated` and
    LedgerReader raise.
    """
    with _appearing(directory) as partial:
        said = stated()
        made_at = reader.now()
        first, end = span_of(reader, wanted.period)
        about = Manifest(
            origin=wanted.origin,
            since=moment(wanted.period.since),
            until=moment(wanted.period.until),
            made_at=moment(made_at),
            first=str(first),
            end=str(end),
            files={},
        )
        within, tables = _verified(reader, partial / evidence.EXPORT, wanted, (first, end), progress)
        facts = _write_facts(partial, wanted.trust.keys, said)
        _write_json(partial / evidence.VERIFICATION, _verification(wanted.trust, within, tables))
        _write_json(partial / evidence.RUNS, said.runs)
        text = readme(about, [str(key) for key in wanted.trust.keys])
        (partial / evidence.README).write_text(text, encoding="utf-8", newline="\n")
        try:
            manifest = seal(partial, about, wanted.signers)
        except NoteError as error:
            raise ConfigError(f"ledger.origin: {error}") from None
    return Made(manifest, facts, within, tables)


def span_of(reader: LedgerReader, period: Period) -> tuple[int, int]:
    """The numbers [first, end) of the entries recorded in a period. The time of recording never goes back from one
    number to the next, so a few entries are looked at."""
    numbers = range(size_of(reader, (stored.note for stored in reader.notes() if is_checkpoint(stored.note))))

    def first_from(at: datetime) -> int:
        return bisect_left(numbers, True, key=lambda number: reader.is_recorded_from(number, at))

    return first_from(period.since), first_from(period.until)


def start_below(reader: LedgerReader, trust: Trust, first: int) -> int:
    """The newest checkpoint of at most `first` entries that a trusted key signed, as its size; 0 without one."""
    for stored in reader.notes_backwards():
        if stored.size > first:
            continue
        try:
            tree, _ = open_checkpoint(stored.note, trust.keys)
        except NoteError:
            continue
        if tree.size <= first and trust.origin in (None, tree.origin):
            return tree.size
    return 0


def _verified(
    reader: LedgerReader, directory: Path, wanted: Wanted, span: tuple[int, int], progress: Progress | None
) -> tuple[Report, Report]:
    """Export the entries, and what verification finds in the export and in the tables."""
    trust = wanted.trust
    sizes = [parse(split(note)[0]).size for note in trust.anchors if is_checkpoint(note)]
    export_ledger(reader, directory, wanted.origin, trust.keys, span, sizes, progress)
    within = verify(directory, trust, span, progress)
    return within, verify_tables(reader, trust, start_below(reader, trust, span[0]), progress)


def _verification(trust: Trust, within: Report, tables: Report) -> dict[str, Any]:
    reports = {"export": msgspec.to_builtins(within), "tables": msgspec.to_builtins(tables)}
    return {**reports, "trusted_keys": [str(key) for key in trust.keys], "anchors": len(trust.anchors)}


def _write_facts(directory: Path, keys: Sequence[Verifier], stated: Stated) -> EntryFacts:
    with (directory / evidence.EXPORT / export.ENTRIES).open("rb") as lines:
        facts = facts_of(lines)
    counts = facts.document()
    for name in stated.trails:
        counts["sources"].setdefault(name, {"entries": {}, "tables": {}, "gaps": []})
    for name, source in counts["sources"].items():
        source["trail"] = stated.trails.get(name)
    _write_json(directory / evidence.COUNTS, counts)
    notes = sorted((directory / evidence.EXPORT / export.CHECKPOINTS).iterdir())
    signed = signed_by((note.read_bytes().decode(errors="surrogateescape") for note in notes), keys)
    _write_json(directory / evidence.KEY_EVENTS, {"entries": facts.keys, "signed": signed})
    return facts


def _write_json(path: Path, document: Any) -> None:
    """For people and programs. A lone surrogate, which is no Unicode, stands there as JSON escapes it."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_bytes(f"{text}\n".encode(errors="backslashreplace"))


@contextmanager
def _appearing(directory: Path) -> Iterator[Path]:
    """A directory beside `directory`, for its owner alone, that takes its name at the end, or is removed."""
    if directory.exists() or directory.is_symlink():
        raise ConfigError(f"{directory} exists; name a new directory")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(prefix=f".{directory.name}.", suffix=".partial", dir=directory.parent))
    except OSError as error:
        raise ConfigError(f"{directory} can't be written: {error.strerror}") from None
    try:
        yield partial
        partial.rename(directory)
    except OSError as error:
        raise WorkerSyncError(f"{directory} can't be written: {error.strerror}") from error
    finally:
        # Nothing is there any more once it has its name.
        shutil.rmtree(partial, ignore_errors=True)
