"""A connection that does not wait for ever for a server which can't be heard any more.

The network layer notices a host that vanished. It can't notice a proxy or a balancer that still answers for a server
which it has forgotten: every byte is acknowledged and none comes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import Row, RowFactory

Wanted = TypeVar("Wanted")
Ready = TypeVar("Ready")
Result = TypeVar("Result")

#: Seconds without a byte after which the server is asked whether it works.
SILENT_S: Final = 30.0

#: A server that works at our statement, or waits for a lock on its behalf. One that waits for us, while we wait for
#: it, has had its answer lost, or never got the question.
_IS_WORKING: Final = (
    "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active' "
    "AND COALESCE(wait_event_type, '') NOT IN ('Client', 'Activity')"
)


class PatientConnection(psycopg.Connection[Row]):
    """Waits as long as the server works: after `silent_s` seconds without a byte it is asked over another connection.
    Raises psycopg.OperationalError, and is closed, when it does not work or can't be asked."""

    silent_s: float = SILENT_S
    _conninfo: str = ""

    @classmethod
    def open(cls, conninfo: str, row_factory: RowFactory[Row], **parameters: Any) -> PatientConnection[Row]:
        """An autocommit connection. Raises psycopg.Error as `psycopg.connect` does."""
        connection = cls.connect(conninfo, autocommit=True, row_factory=row_factory, **parameters)
        asked = conninfo_to_dict(conninfo, **parameters)
        asked.pop("replication", None)
        connection._conninfo = make_conninfo("", **asked)
        return connection

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **kwargs: Any) -> Result:
        """See `psycopg.Connection.wait`."""
        try:
            return super().wait(watched(gen, self.silent_s, self.is_working), *args, **kwargs)
        except Silent:
            self.close()
            raise

    def is_working(self) -> bool:
        """Whether the server says, over another connection, that it works at what this one has asked for."""
        if not self._conninfo:
            return False  # this is the connection that asks for another one
        try:
            with self.connect(self._conninfo, autocommit=True) as other:
                other.silent_s = self.silent_s
                return other.execute(_IS_WORKING, [self.info.backend_pid]).fetchone() is not None
        except psycopg.Error:
            return False


class Silent(psycopg.OperationalError):
    """The server is not heard any more"""


def watched(
    steps: Generator[Wanted, Ready, Result], silent_s: float, is_working: Callable[[], bool]
) -> Generator[Wanted, Ready, Result]:
    """The same steps of waiting. After `silent_s` seconds in which nothing was ready `is_working` is asked; Silent is
    raised when it says no."""
    since: float | None = None
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if ready:
                since = None
            elif since is None:
                since = time.monotonic()
            elif time.monotonic() - since > silent_s:
                if not is_working():
                    raise Silent(f"nothing was heard of the server for {silent_s:.0f} s")
                since = None
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
