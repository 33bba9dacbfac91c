"""The newest heartbeat that was written into each source: a shard that has passed it is idle, not stuck."""

from __future__ import annotations

from dataclasses import dataclass

from worker_sync.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`position` is what `Source.emit` returned; `age_s` how long ago that was by the store's clock."""

    source: str
    position: str
    age_s: float


class Heartbeats:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def sent(self, source: str, position: str) -> None:
        """Record the heartbeat that was just written."""
        self._connection.run("put_heartbeat", {"source": source, "position": position})

    def all(self) -> dict[str, Heartbeat]:
        return {row["source"]: Heartbeat(**row) for row in self._connection.run("all_heartbeats")}
