"""The log stream of one database: events from the replication connection, as pieces of its transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import pymysql

from connectors.base import Stream
from connectors.mysql import registration
from connectors.mysql.binlog import events
from connectors.mysql.binlog.compression import payload_events
from connectors.mysql.binlog.events import Event, malformed
from connectors.mysql.binlog.link import HEARTBEAT_S, Link
from connectors.mysql.binlog.transactions import PIECE_BYTES, Assembler
from connectors.mysql.captured import Captured, NoTables
from connectors.mysql.conn import connect, redact, session_of
from connectors.mysql.errors import code_of, one_line, translate
from connectors.mysql.position import RESYNC, LogPosition, boundary, file_number
from worker_sync.core.change import Piece, Progress
from worker_sync.core.errors import Halt, State, Transient, WorkerSyncError

#: The server is taken to be gone when nothing has come for so many seconds of listening.
SILENCE_S: Final = 6.0 * HEARTBEAT_S
_READ_FAILED: Final = 1236


class MysqlStream(Stream):
    """Streams the transactions that stand behind `start` in the log of `base`.NUMBER files."""

    def __init__(
        self,
        url: str,
        lock: str,
        server_id: int,
        base: str,
        start: LogPosition,
        captured: Captured,
    ) -> None:
        """Begin at `start` in the log of files `base`.NUMBER; `lock` keeps other readers away. Raises Halt when the log
        can't be read from there, Transient while another process reads it."""
        self._where = redact(url)
        self._url = url
        self._lock = lock
        self._captured = captured
        self.schemas = captured.schemas
        self._start = start
        self._file = start.file
        self._created = start.created or 0
        # What begins right at the start was delivered before: its frame is followed, its content is not.
        self._assembler = Assembler(NoTables() if start.begun else captured, self._commit_at)
        self._inner: Iterator[Event] | None = None
        self._skipping = start.begun
        #: Where the newest boundary between transactions is, 0 when there was none, and the last one delivered.
        self._end = 0
        self._reported = ""
        self._over = ""
        self._heard = time.monotonic()
        self._conn = connect(url)
        self._link = Link(self._conn, server_id)
        try:
            registration.take_lock(self._conn, lock, self._where)
            self._link.request(f"{base}.{start.file:06}", start.offset)
            self._await_file()
        except pymysql.Error as error:
            self.close()
            raise self._failure(error) from error
        except BaseException:
            self.close()
            raise

    def _await_file(self) -> None:
        """Read up to the description of the file, which says whether it is the one of the position."""
        deadline = time.monotonic() + SILENCE_S
        while True:
            while (event := self._link.event()) is not None:
                self._control(event)
                if event.type == events.FORMAT_DESCRIPTION:
                    return
            if time.monotonic() > deadline:
                raise Transient(f"{self._where}: the server does not send its log")
            self._link.wait(1.0)

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
                self._heard = time.monotonic()
            elif now - self._heard > SILENCE_S:
                raise Transient(f"{self._where}: nothing has come from the server for {SILENCE_S:.0f} s")
            elif now >= deadline:
                return []

    def _drain(self, limit: int) -> list[Piece | Progress]:
        """What has arrived, up to about `limit` changes or as many bytes as a piece may have."""
        out: list[Piece | Progress] = []
        taken = size = 0
        while taken < limit and size < PIECE_BYTES:
            piece = self._assembler.cut(limit)
            if piece is None:
                event = self._next()
                if event is None:
                    break
                piece = self._take(event)
            if piece is not None:
                out.append(piece)
                # A transaction without rows costs its reader something too.
                taken += len(piece.changes) or 1
                size += piece.size
        # A boundary is news only if nothing behind it was delivered.
        if self._end and not self._assembler.delivered:
            self._report(out)
        return out

    def _report(self, out: list[Piece | Progress]) -> None:
        reached = boundary(self._file, self._end, self._created)
        if reached > self._reported:
            out.append(Progress(reached))
            self._reported = reached

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
        """The last piece of the transaction that the event ended, if it did and there is one."""
        if event.type in _CONTROL:
            self._control(event)
            return None
        assembler = self._assembler
        if not assembler.feed(event):
            return None
        self._end = event.end
        piece = assembler.finish()
        if self._skipping:
            self._skipping = False
            self._assembler = Assembler(self._captured, self._commit_at)
        return piece

    # -- files

    def _control(self, event: Event) -> None:
        if event.type == events.ROTATE:
            self._rotate(event)
        elif event.type == events.FORMAT_DESCRIPTION:
            self._describe_file(event)
        elif event.type not in _CONTROL:
            raise malformed(f"an event of kind {event.type} before the description of its file")
        if event.type != events.ROTATE and event.end and not self._assembler.open:
            self._end = event.end

    def _rotate(self, event: Event) -> None:
        """The end of a file, and again (made up by the server) the beginning of the next."""
        number = file_number(event.body[8:].decode())
        if number < self._file:
            raise Halt(State.POSITION_LOST, f"{self._where}: the binary log was reset", RESYNC)
        if number != self._file:
            self._file = number
            self._end = 0
            self._assembler.next_file()

    def _describe_file(self, event: Event) -> None:
        if self._start.created is not None and self._file == self._start.file and event.time != self._start.created:
            detail = (
                f"{self._where}: binary log file {self._file} was begun at another time than the one of the position: "
                "the log was reset, or is another server's"
            )
            raise Halt(State.POSITION_LOST, detail, RESYNC)
        self._created = event.time
        self._captured.mariadb = b"mariadb" in event.body[2:52].lower()

    def _failure(self, error: pymysql.Error) -> WorkerSyncError:
        """The server's refusal of a dump has one number for all reasons."""
        detail = f"{self._where}: {one_line(error)}"
        if code_of(error) != _READ_FAILED:
            return translate(error, self._where)
        if "server_uuid" in detail or "server_id" in detail:
            return Transient(f"{detail} (two readers have one server id: see the URL's option server-id)")
        return Halt(State.POSITION_LOST, detail, RESYNC)

    # -- talking back

    def tick(self) -> None:
        """Nothing has to be sent: the server was told to wait for us. What it sends meanwhile is not missed."""
        self._heard = time.monotonic()

    def confirm(self, commit: str) -> None:
        """The server does not remember how far we are: the checkpoint in the control store does."""

    def close(self) -> None:
        """Close the connection, and end its session: the server would notice only at its next heartbeat, and keep the
        lock until then."""
        self._captured.close()
        if self._over == _CLOSED:
            return
        self._over = _CLOSED
        session = session_of(self._conn)
        self._link.close()
        registration.end_session(self._url, session, self._lock)


_CLOSED: Final = "closed"
_CONTROL: Final = frozenset(
    {
        events.ROTATE,
        events.FORMAT_DESCRIPTION,
        events.STOP,
        events.HEARTBEAT,
        events.HEARTBEAT_V2,
        events.PREVIOUS_GTIDS,
        events.GTID_LIST,
        events.BINLOG_CHECKPOINT,
        events.START_ENCRYPTION,
    }
)
