"""What a capture knows about itself, for status, metrics and the checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from connectors.base import Mark
from worker_sync.capture.fetcher import TableLoad
from worker_sync.capture.lane import Lane
from worker_sync.core.change import TransactionInfo


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """One shard: where its target stands and what is under way to it."""

    pipeline: str
    shard: int
    mark: Mark
    pending: int
    #: Commit time of the oldest transaction under way, microseconds since 1970; None when there is none.
    oldest: int | None

    @classmethod
    def of(cls, lane: Lane) -> LaneFigures:
        oldest = next((cut.oldest for cut in lane.pending if cut.oldest is not None), None)
        return cls(lane.id.pipeline, lane.id.shard, lane.mark, len(lane.pending), oldest)

    def as_json(self) -> dict[str, Any]:
        mark = self.mark
        lag = None if mark.applied_at is None or mark.committed_at is None else mark.applied_at - mark.committed_at
        waiting = None if self.oldest is None else time.time_ns() // 1000 - self.oldest
        return {
            "position": str(mark.position),
            "pending": self.pending,
            "waiting_ms": None if waiting is None else max(0.0, waiting / 1000),
            "committed_at": mark.committed_at,
            "applied_at": mark.applied_at,
            "lag_ms": None if lag is None else max(0.0, lag / 1000),
            "changes": mark.changes,
            "batches": mark.batches,
            "parked_keys": len(mark.parked),
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """A moment of a session. `safe` is the position that may be confirmed, `read` the one that was read to;
    `unseen` are the transactions that a snapshot started after a restart must wait for."""

    safe: str
    read: str
    window_bytes: int
    window_batches: int
    full: bool
    changes: int
    #: Batches that were published again since the session began.
    resent: int
    lanes: list[LaneFigures]
    loads: list[tuple[str, TableLoad]]
    unseen: list[TransactionInfo] = field(default_factory=list)
    #: The requests to replay or release keys that are not applied completely.
    replays: set[int] = field(default_factory=set)
    #: How far each shard's batches are on disk, by `pipeline/shard`; `safe` may be that far.
    spilled: dict[str, str] = field(default_factory=dict)
    spill: dict[str, Any] = field(default_factory=dict)

    def open_signals(self) -> set[int]:
        """The requests that are not applied completely."""
        return self.replays | {load.signal for _, load in self.loads if load.signal is not None}

    def marks(self) -> dict[str, dict[int, Mark]]:
        """Where the shards of each pipeline stand."""
        found: dict[str, dict[int, Mark]] = {}
        for lane in self.lanes:
            found.setdefault(lane.pipeline, {})[lane.shard] = lane.mark
        return found

    def as_json(self) -> dict[str, Any]:
        pipelines: dict[str, dict[str, Any]] = {}
        for lane in self.lanes:
            entry = pipelines.setdefault(lane.pipeline, {"state": "running", "shards": {}, "snapshot": {}})
            entry["shards"][str(lane.shard)] = lane.as_json()
        for pipeline, load in self.loads:
            progress = {"rows": load.rows, "estimate": load.estimate, "done": False}
            pipelines[pipeline]["snapshot"][str(load.name)] = progress
        return {
            "position": self.read,
            "confirmed": self.safe,
            "window": {"bytes": self.window_bytes, "batches": self.window_batches, "full": self.full},
            "spill": self.spill,
            "read_changes": self.changes,
            "resent_batches": self.resent,
            "pipelines": pipelines,
        }
