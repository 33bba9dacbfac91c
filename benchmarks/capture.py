"""The logs of MariaDB and MongoDB as a capture reads them, with nothing behind."""

from __future__ import annotations

import time

from benchmarks.bed import Bed
from benchmarks.ends import TABLE, USUAL, End, MongoEnd, MysqlEnd
from benchmarks.engines import url_of
from benchmarks.load import LoadFailed
from benchmarks.options import Options
from benchmarks.report import Figure, Report
from connectors.base import Source
from connectors.registry import open_source
from worker_sync.core.change import Piece

SOURCE = "bench_capture"
#: Seconds without a change after which the log is taken to have lost some.
SILENCE_S = 30.0


def capture(bed: Bed, options: Options, report: Report) -> None:
    """Everything is committed before the reading begins, so no client is timed."""
    if bed.mysql:
        maria = MysqlEnd(url_of(bed, MysqlEnd, "source"))
        _measure(maria, options.rows, USUAL, report)
        _measure(maria, max(USUAL, options.rows // 10), 1, report)
    else:
        print("capture     MariaDB skipped: none on this machine", flush=True)
    _measure(MongoEnd(url_of(bed, MongoEnd, "source")), max(USUAL, options.rows // 3), USUAL, report)


def _measure(end: End, rows: int, size: int, report: Report) -> None:
    end.create(rows)
    try:
        with open_source(SOURCE, end.url) as source:
            [table] = [schema.table for schema in source.tables() if schema.table.name == TABLE]
            start = source.create_stream([table])
            try:
                end.fill(rows, size)
                seconds, cpu = _read(source, start.commit, rows)
            finally:
                source.drop_stream()
    finally:
        end.drop()
    note = f"{cpu * 1_000_000 / rows:.1f} ms CPU per 1k rows"
    what = f"{end.name}, transactions of {size:,}" if end.transactional else f"{end.name}, inserts"
    report.add(Figure("capture", what, "rows/s", rows / seconds, None, note, rows, rows))


def _read(source: Source, start: str, rows: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU, from the opening of the stream to the last of so many changes."""
    with source.open_stream(start) as stream:
        started, cpu, read, heard = time.monotonic(), time.process_time(), 0, time.monotonic()
        while read < rows:
            pieces = [event for event in stream.read(1.0, USUAL) if isinstance(event, Piece)]
            read += sum(len(piece.changes) for piece in pieces)
            now = time.monotonic()
            heard = now if pieces else heard
            if now - heard > SILENCE_S:
                raise LoadFailed(f"{source.engine}: {read} of {rows} changes were read")
        return time.monotonic() - started, time.process_time() - cpu
