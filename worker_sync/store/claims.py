"""Batches that are too large for the broker."""

from __future__ import annotations

from worker_sync.store.connection import Connection


class Claims:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, pipeline: str, name: str, data: bytes) -> None:
        """Keep `data` under a name that no other data has."""
        self._connection.run("put_claim", {"pipeline": pipeline, "name": name, "data": data})

    def get(self, pipeline: str, name: str) -> bytes | None:
        """What was kept, None when it isn't there any more."""
        row = self._connection.one("get_claim", {"pipeline": pipeline, "name": name}, binary=True)
        return bytes(row["data"]) if row else None

    def remove(self, pipeline: str, name: str) -> None:
        """Nobody needs it any more; no error when it isn't there."""
        self._connection.run("remove_claim", {"pipeline": pipeline, "name": name})

    def forget(self, older_than_s: float) -> int:
        """Remove what was kept longer ago than that; returns how many."""
        return len(self._connection.run("forget_claims", {"older_than_s": older_than_s}))
