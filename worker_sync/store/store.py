"""The control store as one object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from worker_sync.core.secrets import Url
from worker_sync.store.checkpoints import Checkpoints
from worker_sync.store.claims import Claims
from worker_sync.store.connection import Connection, Guard
from worker_sync.store.dead_letters import DeadLetters
from worker_sync.store.health import HealthResults
from worker_sync.store.heartbeats import Heartbeats
from worker_sync.store.leases import Leases
from worker_sync.store.migrate import Migration, migrate, require
from worker_sync.store.pipelines import States
from worker_sync.store.reports import Reports
from worker_sync.store.schedule import ScheduleRuns
from worker_sync.store.signals import Signals
from worker_sync.store.versions import TableVersions


class ControlStore:
    """The system's own tables, over one connection that all threads of a process may share.

    Connects on first use and again after a loss. Every method raises Unreachable or Transient when the store can't
    answer, NotInitialized (exit code 2) before `migrate` has run. Each use happens within `guard`.
    """

    def __init__(self, url: Url | str, guard: Guard = nullcontext) -> None:
        self._url = url if isinstance(url, Url) else Url(url)
        self._connection = Connection(self._url, guard)
        self.leases = Leases(self._connection)
        self.pipelines = States(self._connection, "pipeline")
        self.sources = States(self._connection, "source")
        self.signals = Signals(self._connection)
        self.claims = Claims(self._connection)
        self.checkpoints = Checkpoints(self._connection)
        self.reports = Reports(self._connection)
        self.health = HealthResults(self._connection)
        self.versions = TableVersions(self._connection)
        self.heartbeats = Heartbeats(self._connection)
        self.dead_letters = DeadLetters(self._connection)
        self.schedule = ScheduleRuns(self._connection)

    def another(self) -> ControlStore:
        """The same store over a connection of its own: a statement that takes long on this one doesn't hold it up."""
        return ControlStore(self._url)

    def migrate(self) -> list[Migration]:
        """Bring the tables to this version; returns what was applied."""
        return migrate(self._connection)

    def require(self) -> None:
        """Raises NotInitialized before `migrate` of this version, or a newer one, has run."""
        require(self._connection)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is done within is there as a whole or not at all. Not repeated after a loss of the connection: then that
        is an error, also where a part went through."""
        with self._connection.transaction():
            yield

    def ping(self) -> None:
        """Ask the server for an answer."""
        self._connection.run("ping")

    def now(self) -> datetime:
        """The server's clock."""
        row = self._connection.one("now")
        assert row is not None
        now: datetime = row["now"]
        return now.astimezone(UTC)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
