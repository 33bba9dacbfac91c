"""What people ask of a running capture."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from psycopg.types.json import Jsonb

from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import is_trail
from worker_sync.store.connection import Connection


class SignalKind(StrEnum):
    #: Copy the existing rows again, of one table or all.
    SNAPSHOT = "snapshot"
    #: Forget the shard's mark and begin anew with a snapshot.
    RESYNC = "resync"
    PAUSE = "pause"
    RESUME = "resume"
    #: Read the rows of parked keys again, bring them to the target and let later changes of the keys through.
    REPLAY = "replay"
    #: Let later changes of parked keys through; what is parked of them was discarded.
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Signal:
    """One request; `table` None means all tables of the pipeline. `keys` are those of the table that a replay or
    release is about (`worker_sync.core.parking.key_text`); None means all that are parked. `result` is None until it
    is finished."""

    id: int
    source: str
    kind: SignalKind
    pipeline: str
    table: str | None
    keys: list[str] | None
    sent_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: str | None


class Signals:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(
        self,
        source: str,
        kind: SignalKind | str,
        pipeline: str,
        table: str | None = None,
        keys: Sequence[str] | None = None,
    ) -> int:
        """Leave a request for the capture of `source`; returns its number. `table` is the source's; `keys` are keys of
        it as text, for a replay or release. Raises ConfigError for what can't be asked of an audit trail."""
        copies = kind == SignalKind.SNAPSHOT or (kind == SignalKind.RESYNC and table is not None)
        if copies and is_trail(pipeline):
            raise ConfigError(
                f"{pipeline} records changes and copies no rows. To let it begin anew, which leaves a gap: "
                f"worker-sync resync {pipeline}"
            )
        parameters = {
            "request": uuid.uuid4(),
            "source": source,
            "kind": str(SignalKind(kind)),
            "pipeline": pipeline,
            "table": table,
            "keys": None if keys is None else Jsonb(list(keys)),
        }
        row = self._connection.one("send_signal", parameters)
        assert row is not None
        number: int = row["id"]
        return number

    def pending(self, source: str) -> list[Signal]:
        """Unfinished requests to the capture of `source`, oldest first."""
        return [_signal(row) for row in self._connection.run("pending_signals", {"source": source})]

    def start(self, number: int) -> None:
        """Record that the capture has begun with it."""
        self._connection.run("start_signal", {"id": number})

    def finish(self, number: int, result: str) -> None:
        """Record the outcome in words (`done`, or why not); a second one is ignored."""
        self._connection.run("finish_signal", {"id": number, "result": result})

    def get(self, number: int) -> Signal | None:
        row = self._connection.one("get_signal", {"id": number})
        return _signal(row) if row else None


def _signal(row: dict[str, object]) -> Signal:
    return Signal(**{**row, "kind": SignalKind(str(row["kind"]))})  # type: ignore[arg-type]
