"""The queues: what runs in each, in which pool, and for how long at most. One pool of workers per queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue. `time_limit_s`: a prefork worker ends a task that takes longer; solo and thread pools can't."""

    name: str
    tasks: tuple[str, ...]
    pool: Literal["solo", "prefork", "threads"]
    time_limit_s: int


QUEUES: Final = (
    # One task at a time per worker: a shard's batches stay in order, and the watermark's lock is never fought over.
    QueueRow("sync", ("sync.apply",), "solo", 900),
    QueueRow("audit", (), "solo", 900),
    QueueRow("backup", (), "prefork", 3000),
    QueueRow("archive", (), "prefork", 3000),
    QueueRow("cleanup", ("cleanup.reports",), "solo", 900),
    QueueRow(
        "default",
        (
            "health.check",
            "sync.heartbeat",
            "sync.pause",
            "sync.resume",
            "sync.resync_table",
            "sync.snapshot_table",
        ),
        "solo",
        60,
    ),
    QueueRow("dead_letter", ("dead_letters.drain",), "solo", 900),
)

BY_TASK: Final = {task: row for row in QUEUES for task in row.tasks}

NAMES: Final = tuple(row.name for row in QUEUES)
