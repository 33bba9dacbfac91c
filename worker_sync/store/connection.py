"""One connection to the control store, shared by the threads of a process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from worker_sync.core.secrets import Url
from worker_sync.libpq import PatientConnection
from worker_sync.store.errors import translate, unreachable
from worker_sync.store.queries import queries

Record = dict[str, Any]
#: What every use of the store happens within; it may refuse with an error of its own.
Guard = Callable[[], AbstractContextManager[None]]

#: Seconds until an address that doesn't answer counts as unreachable, unless the URL says otherwise.
CONNECT_SECONDS: Final = 5
#: Seconds without an answer after which the server is asked whether it works: soon enough for a lease to be renewed.
SILENT_S: Final = 4.0
#: A host that vanished is noticed after about this many seconds (idle + interval * count).
_KEEPALIVE: Final = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 12_000}


class Connection:
    """Runs named statements, one at a time, each committed by itself; connects on first use and again after a loss.

    Every statement of the store is idempotent, so the one during which the connection broke is simply run again.
    Errors leave as `worker_sync.core.errors`: Unreachable, Transient, NotInitialized, Permanent.
    """

    def __init__(self, url: Url, guard: Guard = nullcontext) -> None:
        self._url = url
        self._guard = guard
        self._lock = threading.RLock()
        self._open: psycopg.Connection[Record] | None = None
        self._process = 0

    def run(self, name: str, parameters: Mapping[str, Any] | None = None, *, binary: bool = False) -> list[Record]:
        """The rows of the statement called `name`, empty for one without a result. With `binary` large values come
        without a detour through text."""
        with self._lock, self._guard():
            known = self._open is not None
            try:
                return self._run(name, parameters, binary)
            except psycopg.Error as error:
                if not (known and self._is_lost()):
                    raise translate(self._url, error) from error
            try:
                return self._run(name, parameters, binary)
            except psycopg.Error as error:
                raise translate(self._url, error) from error

    def one(self, name: str, parameters: Mapping[str, Any] | None = None, *, binary: bool = False) -> Record | None:
        """The only row of the statement, None without one."""
        rows = self.run(name, parameters, binary=binary)
        return rows[0] if rows else None

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Record]]:
        """A transaction for what must be all or nothing; not repeated after a loss."""
        with self._lock, self._guard():
            try:
                with self._connected().transaction():
                    yield self._connected()
            except psycopg.Error as error:
                raise translate(self._url, error) from error

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        with self._lock:
            if self._open is not None and self._process == os.getpid():
                self._open.close()
            self._open = None

    def _run(self, name: str, parameters: Mapping[str, Any] | None, binary: bool) -> list[Record]:
        cursor = self._connected().execute(queries()[name].encode(), parameters, binary=binary)
        return cursor.fetchall() if cursor.description else []

    def _is_lost(self) -> bool:
        return self._open is None or self._open.closed

    def _connected(self) -> psycopg.Connection[Record]:
        # A forked child must not speak on its parent's connection, nor close it.
        if self._open is None or self._open.closed or self._process != os.getpid():
            self._open = self._connect()
            self._process = os.getpid()
        return self._open

    def _connect(self) -> psycopg.Connection[Record]:
        try:
            given = conninfo_to_dict(self._url.reveal())
            defaults = {"connect_timeout": CONNECT_SECONDS, "application_name": "worker-sync control", **_KEEPALIVE}
            missing = {key: value for key, value in defaults.items() if key not in given}
            connection = PatientConnection.open(self._url.reveal(), dict_row, **missing)
            connection.silent_s = SILENT_S
            return connection
        except psycopg.Error as error:
            raise unreachable(self._url, error) from None
