"""The queues: what runs in each, in which pool, and for how long at most. One pool of workers per queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import Settings

PoolName = Literal["solo", "prefork", "threads"]


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue. `time_limit_s`: a prefork worker ends a task that takes longer; solo and thread pools can't.

    `concurrency`: tasks at a time of one worker. `max_memory_mb` and `max_tasks`: a prefork worker replaces a process
    after the task with which it has reached them.
    """

    name: str
    tasks: tuple[str, ...]
    pool: PoolName
    time_limit_s: int
    concurrency: int = 1
    max_memory_mb: int | None = None
    max_tasks: int | None = None


QUEUES: Final = (
    # One task at a time per worker: a shard's batches stay in order, and the watermark's lock is never fought over.
    QueueRow("sync", ("sync.apply",), "solo", 900),
    QueueRow("audit", ("audit.append", "audit.checkpoint"), "solo", 900),
    # Long work that needs much memory has a process of its own, which gives it back.
    QueueRow("backup", (), "prefork", 3000, 1, max_memory_mb=1024, max_tasks=1),
    QueueRow("archive", (), "prefork", 3000, 1, max_memory_mb=1024, max_tasks=10),
    QueueRow(
        "cleanup",
        # A verification may take minutes, for which changes should not wait.
        ("audit.verify", "cleanup.claims", "cleanup.reports", "cleanup.schedule", "dead_letters.purge"),
        "solo",
        900,
    ),
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
    QueueRow("dead_letter", ("dead_letters.discard", "dead_letters.drain", "dead_letters.replay"), "solo", 900),
)

BY_TASK: Final = {task: row for row in QUEUES for task in row.tasks}

NAMES: Final = tuple(row.name for row in QUEUES)

BY_NAME: Final = {row.name: row for row in QUEUES}


@dataclass(frozen=True, slots=True)
class Pool:
    """How one worker runs its tasks."""

    pool: PoolName
    concurrency: int
    max_memory_mb: int | None = None
    max_tasks: int | None = None

    def __post_init__(self) -> None:
        if self.pool == "solo" and self.concurrency != 1:
            raise ConfigError("the solo pool runs one task at a time; use pool: prefork or threads")
        if self.pool != "prefork" and (self.max_memory_mb or self.max_tasks):
            raise ConfigError(
                f"max_memory_mb and max_tasks need processes to replace, which the {self.pool} pool doesn't have; "
                "use pool: prefork, or leave them out"
            )


def pool_of(queue: str, settings: Settings) -> Pool:
    """The pool of the workers of `queue`: the queue's own, with what `workers` changes."""
    row, given = BY_NAME[queue], settings.workers.get(queue)  # type: ignore[call-overload]
    own = Pool(row.pool, row.concurrency, row.max_memory_mb, row.max_tasks)
    return own if given is None else changed(own, given.pool, given.concurrency, given.max_memory_mb, given.max_tasks)


def changed(
    own: Pool,
    pool: PoolName | None = None,
    concurrency: int | None = None,
    max_memory_mb: int | None = None,
    max_tasks: int | None = None,
) -> Pool:
    """`own` with what is given in its place. What a solo pool can't do makes it prefork; another kind of pool has none
    of the limits of `own`. Raises ConfigError for what that kind can't do."""
    more_than_solo = (concurrency or 1) > 1 or max_memory_mb or max_tasks
    kind = pool or ("prefork" if own.pool == "solo" and more_than_solo else own.pool)
    kept = own if kind == own.pool else Pool(kind, 1)
    return Pool(kind, concurrency or kept.concurrency, max_memory_mb or kept.max_memory_mb, max_tasks or kept.max_tasks)


def pool_for(queues: Sequence[str] | None, settings: Settings) -> Pool:
    """The pool of a worker of these queues: of one queue its own, of several (None: all) that of `worker`."""
    unknown = [queue for queue in queues or () if queue not in BY_NAME]
    if unknown:
        raise ConfigError(f"no queue {unknown[0]!r} (known: {', '.join(NAMES)})")
    if queues is not None and len(queues) == 1:
        return pool_of(queues[0], settings)
    return Pool(settings.worker.pool, settings.worker.concurrency)
