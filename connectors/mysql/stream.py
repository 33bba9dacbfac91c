"""The log stream of one database: events from the replication connection, as pieces of its transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from typing import Final

import pymysql

from connectors.base import Stream
from connectors.mysql import registration
from connectors.mysql.binlog import events
from connectors.mysql.binlog.compression import payload_events
from connectors.mysql.binlog.events import Event, malformed
from connectors.mysql.binlog.link import HEARTBEAT_S, Link
from connectors.mysql.binlog.queries import Effect
from connectors.mysql.binlog.transactions import Assembler
from connectors.mysql.captured import Captured
from connectors.mysql.conn import connect, redact
from connectors.mysql.errors import code_of, one_line, translate
from connectors.mysql.position import RESYNC, LogPosition, boundary, file_number
from worker_sync.core.change import Piece, Progress
from worker_sync.core.errors import Halt, State, Transient, WorkerSyncError
from worker_sync.core.schema import TableName

#: The server is taken to be gone when nothing has come for so many seconds of listening.
SILENCE_S: Final = 6.0 * HEARTBEAT_S
_READ_FAILED: Final = 1236


class MysqlStream(Stream):
    """Streams the transactions that stand behind `start` in the log of `base`.NUMBER files."""

    def __init__(
        self, url: str, lock: str, server_id: int, base: str, start: LogPosition, tables: Set[TableName] | None
    ) -> None:
        self._where = redact(url)
        self._url = url
        self._lock = lock
        self._captured = Captured(url, tables)
        self.schemas = self._captured.schemas
        self._start = start
        self._file = start.file
        self._created = start.created or 0
        self._assembler = Assembler(self._captured, self._commit_at)
        self._inner: Iterator[Event] | None = None
        self._skipping = start.begun
        self._boundary = ""
        self._reported = ""
        self._over = ""
        self._heard = time.monotonic()
        self._conn = connect(url)
        self._session = self._conn.thread_id()
        try:
            registration.take_lock(self._conn, lock, self._where)
            self._link = Link(self._conn, server_id)
            self._link.request(f"{base}.{start.file:06}", start.offset)
            self._await_file()
        except BaseException as error:
            self._end("it did not start")
            if isinstance(error, pymysql.Error):
                raise self._failure(error) from error
            raise

    def _await_file(self) -> None:
        """Read up to the description of the file, which says whether it is the one of the position."""
        deadline = time.monotonic() + SILENCE_S
        while not self._reported_file():
            if time.monotonic() > deadline:
                raise Transient(f"{self._where}: the server does not send its log")
            self._link.wait(1.0)

    def _reported_file(self) -> bool:
        while (event := self._link.event()) is not None:
            self._control(event)
            if event.type == events.FORMAT_DESCRIPTION:
                return True
        return False

    def _commit_at(self, offset: int) -> str:
        return boundary(self._file, offset, self._created, begun=True)

    # -- reading

    def read(self, timeout: float, limit: int) -> list[Piece | Progress]:
        """See `Stream.read`. After an error the stream is over, and every further call says so."""
        if self._over:
            raise Transient(f"{self._where}: the stream ended: {self._over}")
        try:
            return self._read(timeout, limit)
        except WorkerSyncError as error:
            self._over = error.detail
            raise
        except pymysql.Error as error:
            failure = self._failure(error)
            self._over = failure.detail
            raise failure from error

    def _read(self, timeout: float, limit: int) -> list[Piece | Progress]:
        deadline = time.monotonic() + timeout
        while True:
            out = self._drain(limit)
            if out:
                return out
            now = time.monotonic()
            if self._link.wait(min(deadline - now, 1.0)):
                self._heard = now
            elif now - self._heard > SILENCE_S:
                raise Transient(f"{self._where}: nothing has come from the server for {SILENCE_S:.0f} s")
            elif now >= deadline:
                return []

    def _drain(self, limit: int) -> list[Piece | Progress]:
        """What has arrived, up to about `limit` changes."""
        out: list[Piece | Progress] = []
        assembler = self._assembler
        taken = 0
        while taken < limit:
            piece = assembler.cut(limit)
            if piece is None:
                event = self._next()
                if event is None:
                    break
                piece = self._take(event)
            if piece is not None:
                out.append(piece)
                # A transaction without rows costs the reader as much as a row.
                taken += len(piece.changes) or 1
        if self._boundary > self._reported:
            out.append(Progress(self._boundary))
            self._reported = self._boundary
        return out

    def _next(self) -> Event | None:
        if self._inner is not None:
            event = next(self._inner, None)
            if event is not None:
                return event
            self._inner = None
        event = self._link.event()
        if event is not None and event.type == events.TRANSACTION_PAYLOAD:
            self._inner = payload_events(event)
            return self._next()
        return event

    def _take(self, event: Event) -> Piece | None:
        """A whole transaction's last piece when the event ended one."""
        if event.type in _CONTROL or event.flags & events.ARTIFICIAL:
            self._control(event)
            return None
        if not self._assembler.feed(event):
            return None
        raise NotImplementedError

    # -- files and positions

    def _control(self, event: Event) -> None:
        raise NotImplementedError


_CONTROL: Final = frozenset()
