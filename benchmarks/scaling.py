"""Rows per second of one pipeline with more and more workers."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.report import Figure, Report
from benchmarks.sides import PIPELINE, WorkerSync
from benchmarks.throughput import draining, measured

#: As many as there are workers at most: a shard is applied by one at a time.
SHARDS: Final = 4
WORKERS: Final = (1, 2, 4)


class Pool(WorkerSync):
    """So many workers, of one task at a time each."""

    def __init__(self, bed: Bed, workers: int) -> None:
        super().__init__(bed)
        self._workers = workers

    def _document(self, table: str) -> dict[str, Any]:
        document = super()._document(table)
        document["pipelines"][PIPELINE]["shards"] = SHARDS
        return document

    def go(self) -> None:
        for number in range(1, self._workers):
            self._work(f"worker{number}")
        super().go()


def scaling(bed: Bed, options: Options, report: Report) -> None:
    """All committed while nothing runs, then applied; a pipeline of four shards."""
    for workers in WORKERS:
        rate, note, arrived = measured(Pool(bed, workers), f"scaling_{workers}", draining, bed, options)
        what = f"{workers} worker{'s' if workers > 1 else ''}, {SHARDS} shards"
        report.add(Figure("scaling", what, "rows/s", rate, None, note, options.rows, arrived))
