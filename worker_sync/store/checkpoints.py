"""Up to where each source is confirmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg.types.json import Jsonb

from worker_sync.core.errors import Fenced
from worker_sync.store.connection import Connection

#: No pipeline's name.
OF_LOG: Final = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`confirmed`: commit position up to which all targets have applied the source of that `identity`. `lanes`: the
    position of each `pipeline/shard` as text. `token`: the lease's of the process that saved it. `unseen`: the
    transactions (commit, time, xid) that a snapshot which begins now must see. `spilled`: how far the batches of a
    shard were on the capture's disk, by `pipeline/shard`; what is between the shard's position and that is only there.
    `histories`: of which history of the source's log a pipeline's positions are, and by OF_LOG what is confirmed.
    `age_s`: seconds since it was saved, by the store's clock."""

    source: str
    identity: str
    confirmed: str
    lanes: Mapping[str, str]
    token: int
    unseen: Sequence[tuple[str, int, str]] = ()
    spilled: Mapping[str, str] = field(default_factory=dict)
    histories: Mapping[str, str] = field(default_factory=dict)
    age_s: float = 0.0


class Checkpoints:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the source's checkpoint. Raises Fenced when a holder with a newer token has saved one."""
        parameters = {
            "source": checkpoint.source,
            "identity": checkpoint.identity,
            "confirmed": checkpoint.confirmed,
            "lanes": Jsonb(dict(checkpoint.lanes)),
            "unseen": Jsonb(list(checkpoint.unseen)),
            "spilled": Jsonb(dict(checkpoint.spilled)),
            "histories": Jsonb(dict(checkpoint.histories)),
            "token": checkpoint.token,
        }
        if self._connection.one("save_checkpoint", parameters) is None:
            raise Fenced(f"checkpoint of {checkpoint.source!r}: token {checkpoint.token} is not the newest")

    def load(self, source: str) -> Checkpoint | None:
        row = self._connection.one("load_checkpoint", {"source": source})
        return Checkpoint(**row) if row else None
