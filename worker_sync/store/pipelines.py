"""Whether pipelines and sources run, and if not, why not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from worker_sync.core.errors import Halt
from worker_sync.store.connection import Connection


class Status(StrEnum):
    RUNNING = "running"
    #: By a person; nothing is wrong.
    PAUSED = "paused"
    #: Something is wrong: `reason` names it and `recovery` says what to run.
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of one pipeline or source. `reason` is a `worker_sync.core.errors.State`, empty unless halted."""

    name: str
    status: Status
    reason: str = ""
    detail: str = ""
    recovery: str = ""
    since: datetime | None = None


class States:
    """States of one kind of thing; what was never stopped is running."""

    def __init__(self, connection: Connection, kind: Literal["pipeline", "source"]) -> None:
        self._connection = connection
        self._kind = kind

    def pause(self, name: str, detail: str = "") -> Standing:
        """Stop it until `resume`; a halted one stays halted."""
        self._connection.run("pause", {"kind": self._kind, "name": name, "detail": detail})
        return self.get(name)

    def resume(self, name: str) -> Standing:
        """Let it run again, whether it was paused or halted."""
        self._connection.run("resume", {"kind": self._kind, "name": name})
        return self.get(name)

    def halt(self, name: str, halt: Halt) -> Standing:
        """Stop it for the reason of `halt`; one that is halted already keeps its first reason."""
        halt = halt.about(name)
        reason = {"reason": str(halt.state), "detail": halt.detail, "recovery": halt.recovery}
        self._connection.run("halt", {"kind": self._kind, "name": name, **reason})
        return self.get(name)

    def get(self, name: str) -> Standing:
        row = self._connection.one("get_state", {"kind": self._kind, "name": name})
        return _standing(row) if row else Standing(name, Status.RUNNING)

    def all(self) -> dict[str, Standing]:
        """Everything that was ever stopped or resumed, by name."""
        return {row["name"]: _standing(row) for row in self._connection.run("all_states", {"kind": self._kind})}


def _standing(row: dict[str, object]) -> Standing:
    since = row["since"]
    assert isinstance(since, datetime)
    return Standing(
        str(row["name"]),
        Status(str(row["status"])),
        str(row["reason"]),
        str(row["detail"]),
        str(row["recovery"]),
        since.astimezone(UTC),
    )
