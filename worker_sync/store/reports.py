"""What running processes say about themselves, and how long ago they said it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from worker_sync.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Report:
    """The latest word of a process: `kind` is its role (`capture`), `subject` what it works on (the source).
    `age_s`: seconds since it was said, by the store's clock."""

    process: str
    kind: str
    subject: str
    status: dict[str, Any]
    age_s: float


class Reports:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, process: str, kind: str, subject: str, status: Mapping[str, Any]) -> None:
        """Replace the report of `process` (a name that no other living process has)."""
        parameters = {"process": process, "kind": kind, "subject": subject, "status": Jsonb(dict(status))}
        self._connection.run("put_report", parameters)

    def all(self, kind: str | None = None) -> list[Report]:
        """The reports of every process, or of those of one kind, newest first."""
        return [Report(**row) for row in self._connection.run("all_reports", {"kind": kind})]

    def remove(self, process: str) -> None:
        """The process ends in order."""
        self._connection.run("remove_report", {"process": process})

    def forget(self, older_than_s: float) -> list[str]:
        """Remove reports of processes silent for longer than that; returns their names."""
        return [row["process"] for row in self._connection.run("forget_reports", {"older_than_s": older_than_s})]
