"""When each entry of the schedule was due, and what came of it. Beats take turns by the lease `LEASE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from worker_sync.store.connection import Connection

#: Name of the lease that a beat must hold to fire.
LEASE: Final = "beat"


class RunStatus(StrEnum):
    #: Somebody is to send it.
    CLAIMED = "claimed"
    #: The broker has it.
    PUBLISHED = "published"
    FINISHED = "finished"
    FAILED = "failed"
    #: Its time passed while nobody could fire it, and a later one was fired instead.
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right and the duty to fire `entry` for one time. `token`: of the lease under which it is sent."""

    entry: str
    scheduled_for: datetime
    task: str
    token: int


@dataclass(frozen=True, slots=True)
class Run:
    """One time at which an entry was due. `error` says why it failed or was skipped."""

    entry: str
    scheduled_for: datetime
    task: str
    by_hand: bool
    status: RunStatus
    token: int
    published_at: datetime | None
    finished_at: datetime | None
    error: str


@dataclass(frozen=True, slots=True)
class LastRun:
    """What came of the newest run of `entry` that has ended, `age_s` seconds ago."""

    entry: str
    has_failed: bool
    age_s: float


class ScheduleRuns:
    """Every statement for a beat takes the `token` of its lease, and does nothing once another beat holds that."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- for the beat that leads

    def register(self, rhythms: Mapping[str, str], token: int) -> dict[str, datetime]:
        """Record the entries with the texts of their rhythms, and forget others. Returns the time up to which nothing
        of each can have been missed: that of its newest run, or since when it has its rhythm."""
        for entry, rhythm in rhythms.items():
            self._run("register_entry", token, entry=entry, rhythm=rhythm)
        self._run("forget_entries", token, entries=list(rhythms))
        return {row["entry"]: row["accounted"].astimezone(UTC) for row in self._connection.run("accounted")}

    def claim(self, entry: str, scheduled_for: datetime, task: str, token: int) -> bool:
        """Claim an entry for one time; False when it has been, or when the lease is another's."""
        return bool(self._run("claim_run", token, entry=entry, scheduled_for=scheduled_for, task=task))

    def skip(self, entry: str, times: Sequence[datetime], task: str, token: int) -> None:
        """Record times that were missed."""
        self._run("skip_runs", token, entry=entry, times=list(times), task=task)

    def take_over(self, token: int) -> int:
        """Make one's own what others have claimed and not sent; returns how many."""
        return len(self._run("take_claims", token))

    def claimed(self, token: int) -> list[Claim]:
        """What is to be sent under this lease, oldest first."""
        return [_claim(row) for row in self._run("claimed_runs", token)]

    # -- for a person

    def claim_by_hand(self, entry: str, task: str) -> Claim:
        """Claim an entry for this moment."""
        row = self._connection.one("claim_by_hand", {"entry": entry, "task": task})
        assert row is not None
        return _claim(row)

    def newest(self, entry: str, limit: int = 1) -> list[Run]:
        """The newest runs of an entry, newest first."""
        return [_run(row) for row in self._connection.run("runs_of", {"entry": entry, "limit": limit})]

    def within(self, entry: str, since: datetime, until: datetime) -> list[Run]:
        """The runs of an entry that were due in [since, until), oldest first; `purge` has removed older ones."""
        parameters = {"entry": entry, "since": since, "until": until}
        return [_run(row) for row in self._connection.run("runs_within", parameters)]

    def kept_from(self, entry: str) -> datetime | None:
        """When the oldest run of an entry was due that `purge` has left; None without any."""
        row = self._connection.one("oldest_run", {"entry": entry})
        return _utc(row["scheduled_for"]) if row else None

    # -- for whoever sent or ran it

    def published(self, claim: Claim) -> None:
        """The broker has taken it."""
        self._about("run_published", claim)

    def ended(self, claim: Claim, status: RunStatus, error: str = "") -> None:
        """What came of it; only the first word counts."""
        self._about("end_run", claim, status=str(status), error=error)

    def get(self, entry: str, scheduled_for: datetime) -> Run | None:
        row = self._connection.one("get_run", {"entry": entry, "scheduled_for": scheduled_for})
        return _run(row) if row else None

    def last_ended(self) -> list[LastRun]:
        """Of every entry of the schedule the newest run that has ended."""
        return [
            LastRun(row["entry"], row["status"] == RunStatus.FAILED, row["age_s"])
            for row in self._connection.run("last_ended_runs")
        ]

    def purge(self, older_than_s: float, most: int) -> int:
        """Remove runs that are older than that, and all but the newest `most` of each entry; returns how many. The
        newest of an entry stays, as does what is to be sent."""
        return len(self._connection.run("purge_runs", {"older_than_s": older_than_s, "most": most}))

    def _run(self, name: str, token: int, **parameters: Any) -> list[dict[str, Any]]:
        return self._connection.run(name, {**parameters, "token": token, "lease": LEASE})

    def _about(self, name: str, claim: Claim, **parameters: Any) -> None:
        key = {"entry": claim.entry, "scheduled_for": claim.scheduled_for, "token": claim.token}
        self._connection.run(name, {**parameters, **key})


def _claim(row: Mapping[str, Any]) -> Claim:
    return Claim(row["entry"], row["scheduled_for"].astimezone(UTC), row["task"], row["token"])


def _run(row: Mapping[str, Any]) -> Run:
    times = {name: _utc(row[name]) for name in ("scheduled_for", "published_at", "finished_at")}
    return Run(**{**row, **times, "status": RunStatus(row["status"])})


def _utc(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC) if moment else None
