"""Rows per second from engine to engine."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import urlsplit

from benchmarks.bed import Bed
from benchmarks.ends import TABLE, USUAL, End, MongoEnd, MysqlEnd, PostgresDocuments, PostgresEnd
from benchmarks.load import LoadFailed
from benchmarks.options import Options
from benchmarks.report import Figure, Report, cpu_note
from benchmarks.sides import WorkerSync

Pair = tuple[type[End], type[End]]

#: Source and target of each.
PAIRS: Final[tuple[Pair, ...]] = (
    (PostgresEnd, MongoEnd),
    (PostgresEnd, MysqlEnd),
    (MysqlEnd, PostgresEnd),
    (MongoEnd, PostgresDocuments),
)


def engines(bed: Bed, options: Options, report: Report) -> None:
    """Transactions of 1,000 rows (into MongoDB: inserts of 1,000 documents) applied while they are committed."""
    for source, target in PAIRS:
        if MysqlEnd in (source, target) and not bed.mysql:
            print(f"engines     {source.name} to {target.name} skipped: no MariaDB on this machine", flush=True)
            continue
        _measure(bed, source(url_of(bed, source, "source")), target(url_of(bed, target, "target")), options, report)


def url_of(bed: Bed, end: type[End], role: str) -> str:
    """Where an end of that kind is, for a source or a target."""
    if issubclass(end, PostgresEnd):
        return bed.source if role == "source" else bed.target
    url = bed.mysql if end is MysqlEnd else bed.documents
    return urlsplit(url)._replace(path=f"/bench_{role}").geturl()


def _measure(bed: Bed, source: End, target: End, options: Options, report: Report) -> None:
    rows = max(USUAL, options.rows // 3)
    source.create(rows)
    side = WorkerSync(bed, target.url, source.url, source.tables)
    try:
        with side.running(TABLE):
            before = side.usage()
            started = time.monotonic()
            source.fill(rows)
            target.await_row(rows)
            seconds = time.monotonic() - started
            note = f"ms CPU/1k rows: {cpu_note(before, side.usage(), rows)}"
            notes = target.notes()
        if notes != source.notes():
            raise LoadFailed(f"{target.name} does not hold the rows of {source.name}")
    finally:
        source.drop()
        target.drop()
    what = f"{source.name} to {target.name}"
    report.add(Figure("engines", what, "rows/s", rows / seconds, None, note, rows, len(notes)))
