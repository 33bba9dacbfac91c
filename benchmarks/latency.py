"""From a commit in the source to the commit in the target."""

from __future__ import annotations

import random
import time
from typing import Final

import psycopg

from benchmarks import load
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.report import Figure, Report, cpu_note
from benchmarks.sides import Native, Side, WorkerSync
from benchmarks.throughput import table

#: Mean seconds between two transactions of an idle database.
PAUSE_S: Final = 0.05
CONNECTIONS: Final = 8
SHARES: Final = (0.5, 0.99)


def idle(bed: Bed, options: Options, report: Report) -> None:
    """One row now and then, each alone on its way."""
    found: dict[str, dict[str, list[float]]] = {}
    arrived = 0
    for side in (Native(bed), WorkerSync(bed)):
        with table(bed, f"idle_{side.name.replace('-', '_')}") as fresh:
            with side.running(fresh):
                observed = _observe(bed, fresh, options.samples)
            arrived = load.compare(bed.source, bed.target, fresh)
            found[side.name] = {
                "commit to arrival, clocks": load.lags(bed.source, bed.target, fresh),
                "commit to visible, observed": observed,
            }
    for way in found["native"]:
        for share in SHARES:
            ours, native = (load.percentile(found[name][way], share) for name in ("worker-sync", "native"))
            report.add(
                Figure(
                    "idle", f"p{share * 100:.0f} {way}", "ms", ours, native, "", options.samples, arrived, rate=False
                )
            )


def _observe(bed: Bed, fresh: str, samples: int) -> list[float]:
    """Commit single rows with pauses; milliseconds from the end of each COMMIT to its row being seen, ascending."""
    lags = []
    pauses = random.Random(1)
    with (
        psycopg.connect(bed.source, autocommit=True) as source,
        psycopg.connect(bed.target, autocommit=True) as target,
    ):
        insert = f"INSERT INTO public.{fresh} VALUES (%s, 1, 1.5, 'idle', true, now())"
        for number in range(1, samples + 1):
            time.sleep(PAUSE_S * pauses.uniform(0.5, 1.5))
            source.execute(insert.encode(), (number,))
            committed = time.monotonic()
            while not target.execute(f"SELECT 1 FROM public.{fresh} WHERE id = %s".encode(), (number,)).fetchone():
                # A busy loop would take one of few cores.
                time.sleep(0.0005)
            lags.append((time.monotonic() - committed) * 1000)
    return sorted(lags)


def under_load(bed: Bed, options: Options, report: Report) -> None:
    """Single-row transactions at fixed rates."""
    for rate in options.rates:
        found, notes = {}, []
        arrived = 0
        for side in (Native(bed), WorkerSync(bed)):
            with table(bed, f"lag_{rate}_{side.name.replace('-', '_')}") as fresh:
                reached, used = _run(bed, side, fresh, rate, options)
                arrived = load.compare(bed.source, bed.target, fresh)
                found[side.name] = load.lags(bed.source, bed.target, fresh)
                notes.append(f"{side.name} at {reached:,.0f}/s, ms CPU/1k rows: {used}")
        for share in SHARES:
            ours, native = (load.percentile(found[name], share) for name in ("worker-sync", "native"))
            what = f"p{share * 100:.0f} at {rate:,} transactions/s"
            report.add(
                Figure("lag", what, "ms", ours, native, notes.pop() if notes else "", arrived, arrived, rate=False)
            )


def _run(bed: Bed, side: Side, fresh: str, rate: int, options: Options) -> tuple[float, str]:
    with side.running(fresh):
        before = side.usage()
        connections = min(CONNECTIONS, max(1, rate // 100))
        reached = load.paced(bed.source, fresh, rate, options.seconds, connections)
        count = connections * max(1, int(rate * options.seconds / connections))
        load.arrival(bed.target, fresh, count)
        return reached, cpu_note(before, side.usage(), count)
