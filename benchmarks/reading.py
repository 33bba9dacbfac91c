"""Single steps of the way: reading the log, decoding it, comparing both sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from benchmarks import load
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.report import Figure, Report
from benchmarks.throughput import USUAL, table
from connectors.base import Source
from connectors.postgres.pgoutput import Decoder
from connectors.postgres.relations import Relations
from connectors.postgres.slot import stream_name
from connectors.registry import open_sink, open_source
from worker_sync.core.change import Piece
from worker_sync.core.schema import TableName
from worker_sync.verification.compare import Comparison
from worker_sync.verification.result import TablePair

SOURCE = "bench_reading"


def decode(bed: Bed, options: Options, report: Report) -> None:
    """The log as the capture reads it, without anything behind; then the decoder alone, on the same bytes in memory."""
    with table(bed, "decode") as fresh, stream(bed, fresh) as source:
        load.bulk(bed.source, fresh, options.rows, USUAL)
        for what, read in (("pgoutput decoder alone", _decoder), ("stream, nothing published", read_stream)):
            rows, seconds, cpu = read(bed, source)
            if rows != options.rows:
                raise load.LoadFailed(f"{what}: {rows} of {options.rows} rows were decoded")
            note = f"{cpu * 1_000_000 / rows:.1f} ms CPU per 1k rows"
            report.add(Figure("decode", what, "rows/s", rows / seconds, None, note, options.rows, rows))


@contextmanager
def stream(bed: Bed, fresh: str) -> Iterator[Source]:
    """Our slot for one table; gone afterwards."""
    with open_source(SOURCE, bed.source) as source:
        source.create_stream([TableName("public", fresh)])
        try:
            yield source
        finally:
            source.drop_stream()


def _timed(work: Callable[[], int]) -> tuple[int, float, float]:
    started, cpu = time.monotonic(), time.process_time()
    rows = work()
    return rows, time.monotonic() - started, time.process_time() - cpu


def read_stream(_: Bed, source: Source) -> tuple[int, float, float]:
    """Read all that is committed now: rows, seconds, seconds of CPU."""
    head = source.stream_status().head
    with source.open_stream(source.stream_status().confirmed) as opened:

        def read() -> int:
            rows, done = 0, False
            while not done:
                for event in opened.read(1.0, USUAL):
                    rows += len(event.changes) if isinstance(event, Piece) else 0
                    done = (event.info.commit if isinstance(event, Piece) else event.commit) >= head
            return rows

        return _timed(read)


def _decoder(bed: Bed, _: Source) -> tuple[int, float, float]:
    name = stream_name(SOURCE)
    query = (
        "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1', "
        "'publication_names', %s, 'messages', 'true')"
    )
    with psycopg.connect(bed.source) as connection:
        messages = [row[0] for row in connection.cursor(binary=True).execute(query, (name, name))]
    relations = Relations(bed.source)
    decoder = Decoder(relations.describe)

    def feed() -> int:
        rows = 0
        for message in messages:
            if decoder.feed(message):
                rows += len(decoder.changes)
                decoder.info, decoder.changes = None, []
        return rows

    try:
        return _timed(feed)
    finally:
        relations.close()


def verify(bed: Bed, options: Options, report: Report) -> None:
    """A keyed comparison of a table that both sides hold alike."""
    with table(bed, "verified") as fresh:
        load.bulk(bed.source, fresh, options.rows, USUAL)
        _copy(bed, fresh)
        with (
            open_source(SOURCE, bed.source) as origin,
            origin.reader() as source,
            open_sink(SOURCE, bed.target) as sink,
            sink.reader() as target,
        ):
            schema = source.schema(TableName("public", fresh))
            assert schema is not None
            comparison = Comparison(source, target, lambda: None)
            started = time.monotonic()
            result = comparison.table(TablePair(schema, schema))
            seconds = time.monotonic() - started
        if not result.ok:
            raise load.LoadFailed("two equal tables were found to differ")
        figure = Figure("verify", "both sides by key", "rows/s", options.rows / seconds)
        figure.sent, figure.arrived = options.rows, result.target_rows
        report.add(figure)


def _copy(bed: Bed, fresh: str) -> None:
    out = f"COPY public.{fresh} ({load.COLUMNS}) TO STDOUT (FORMAT binary)".encode()
    into = f"COPY public.{fresh} ({load.COLUMNS}) FROM STDIN (FORMAT binary)".encode()
    with (
        psycopg.connect(bed.source) as source,
        psycopg.connect(bed.target) as target,
        source.cursor().copy(out) as reading,
        target.cursor().copy(into) as writing,
    ):
        for data in reading:
            writing.write(data)
