"""Rows per second from PostgreSQL to PostgreSQL, ours and native replication's in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import load
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.report import Figure, Report, cpu_note, middle
from benchmarks.sides import Native, Side, WorkerSync

#: Rows of a transaction.
USUAL = 1_000

#: Fills the table and waits until all is at the target; returns rows per second and what there is to say about it.
Leg = Callable[[Bed, Side, str, Options], tuple[float, str]]


def throughput(bed: Bed, options: Options, report: Report) -> None:
    """Transactions of 1,000 rows, applied while they are committed."""
    _alternate("throughput", _streaming(USUAL), bed, options, report)


def large(bed: Bed, options: Options, report: Report) -> None:
    """All rows in one transaction."""
    _alternate("large", _streaming(options.rows), bed, options, report, pairs=1)


def drain(bed: Bed, options: Options, report: Report) -> None:
    """All committed while nothing runs, then applied: the generator takes no part in it."""
    _alternate("drain", draining, bed, options, report)


def _alternate(name: str, leg: Leg, bed: Bed, options: Options, report: Report, pairs: int | None = None) -> None:
    figures = []
    for number in range(1, (pairs or options.pairs) + 1):
        native, _, _ = measured(Native(bed), f"{name}_{number}_native", leg, bed, options)
        ours, note, arrived = measured(WorkerSync(bed), f"{name}_{number}_ours", leg, bed, options)
        figure = Figure(name, f"pair {number}", "rows/s", ours, native, note, options.rows, arrived)
        report.add(figure)
        figures.append(figure)
    if len(figures) > 1:
        report.add(middle(figures))


def measured(side: Side, name: str, leg: Leg, bed: Bed, options: Options) -> tuple[float, str, int]:
    with table(bed, name) as fresh:
        rate, note = leg(bed, side, fresh, options)
        return rate, note, load.compare(bed.source, bed.target, fresh)


@contextmanager
def table(bed: Bed, name: str) -> Iterator[str]:
    """A fresh table on both servers, gone afterwards."""
    load.create(bed.source, bed.target, name)
    yield name
    load.drop(bed.source, bed.target, name)


def _streaming(size: int) -> Leg:
    def leg(bed: Bed, side: Side, fresh: str, options: Options) -> tuple[float, str]:
        with side.running(fresh):
            before = side.usage()
            started = time.time()
            generated = load.bulk(bed.source, fresh, options.rows, size)
            load.arrival(bed.target, fresh, options.rows)
            used = cpu_note(before, side.usage(), options.rows)
        _, last = load.span(bed.target, fresh)
        return options.rows / (last - started), f"generated {options.rows / generated:,.0f}/s; ms CPU/1k rows: {used}"

    return leg


def draining(bed: Bed, side: Side, fresh: str, options: Options) -> tuple[float, str]:
    side.set_up(fresh)
    try:
        load.bulk(bed.source, fresh, options.rows, USUAL)
        started = time.time()
        side.go()
        load.arrival(bed.target, fresh, options.rows)
    finally:
        side.tear_down()
    first, last = load.span(bed.target, fresh)
    return options.rows / (last - first), f"from the first row; {last - started:.1f} s from the start of the processes"
