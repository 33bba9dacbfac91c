"""What triggers recorded, as a stream of transactions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.base import Stream
from connectors.postgres import catalog
from connectors.postgres.conn import READ_SETTINGS, connect, redact
from connectors.postgres.relations import Relations
from connectors.postgres.triggers import installed, windows
from connectors.postgres.triggers.layouts import Layouts, Recorded
from connectors.postgres.triggers.names import LOCK
from connectors.postgres.triggers.windows import Transaction
from worker_sync.core import markers
from worker_sync.core.change import Change, Message, Piece, Progress, Session, SessionMark, divided
from worker_sync.core.errors import Halt, State, Transient, WorkerSyncError
from worker_sync.core.schema import TableSchema

#: A transaction is cut once its undelivered part has this many bytes; no more are read at once where rows are alike.
PIECE_BYTES: Final = 16 * 1024 * 1024
#: Seconds between two looks for something new: at first, and at most.
FIRST_PAUSE_S: Final = 0.005
LAST_PAUSE_S: Final = 0.1
#: Seconds between two confirmations, and between two looks at the catalog.
CONFIRM_S: Final = 0.1
LOOK_S: Final = 2.0
#: The session of what was recorded before sessions were.
NOBODY: Final = (None, None, None, None)

Event = Piece | Progress


class TriggerStream(Stream):
    """Streams the transactions behind commit position `start`, as the only reader. Takes over what `url` names."""

    def __init__(self, url: str, source: str, start: str, remembered: Sequence[TableSchema] = ()) -> None:
        """`remembered`: see `Source.remembered`."""
        self._where = f"{redact(url)} audit triggers"
        self._source = source
        self._relations = Relations(url, remembered)
        self.schemas = self._relations.schemas
        self._over = ""
        self._conn: Connection[TupleRow] = connect(url, READ_SETTINGS)
        try:
            self._begin()
        except BaseException:
            self._conn.close()
            raise
        self._limit = 1
        self._pause = FIRST_PAUSE_S
        self._confirmed = self._told = start
        self._told_at = 0.0
        self._untidy = True
        self._looked_at = 0.0
        self._fingerprint = ""
        self._events = self._read_on(start)

    def _begin(self) -> None:
        # Nothing here is better read from its beginning to its end: statistics of a queue are always old. What looks
        # dear without that would be compiled, which takes a second.
        self._conn.execute("SET enable_seqscan = off")
        self._conn.execute("SET jit = off")
        self._conn.execute("SET default_transaction_isolation = 'read committed'")
        row = self._conn.execute("SELECT pg_try_advisory_lock(%s, 1)", (LOCK,)).fetchone()
        if row != (True,):
            raise Transient(f"{self._where}: another process is reading what they recorded")
        self._wanted = installed.stream_tables(self._conn, self._source)
        self._layouts = Layouts(self._conn, self._relations, self._wanted)

    # -- reading

    def read(self, timeout: float, limit: int) -> list[Event]:
        """See `Stream.read`. After an error the stream is over, and every further call says so."""
        if self._over:
            raise Transient(f"{self._where}: the stream ended: {self._over}")
        with self._ending():
            self._limit = limit
            deadline = time.monotonic() + timeout
            while True:
                self._keep_house()
                out = self._delivered()
                left = deadline - time.monotonic()
                if out or left <= 0:
                    return out
                time.sleep(min(self._pause, left))
                self._pause = min(self._pause * 2, LAST_PAUSE_S)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except WorkerSyncError as error:
            self._over = error.detail
            raise
        except psycopg.Error as error:
            failure = installed.failure(error, self._where, self._source)
            self._over = failure.detail
            raise failure from error

    def _delivered(self) -> list[Event]:
        out: list[Event] = []
        taken = 0
        while taken < self._limit:
            event = next(self._events)
            if event is None:
                break
            out.append(event)
            taken += len(event.changes) if isinstance(event, Piece) else 1
        if out:
            self._pause = FIRST_PAUSE_S
        return out

    def _read_on(self, start: str) -> Iterator[Event | None]:
        """All that comes, and None wherever there is nothing more yet."""
        reached = start
        yield Progress(start)
        while True:
            head = windows.cut(self._conn)
            if head is None:
                raise installed.no_stream(self._source)
            if head <= reached:
                yield None
                continue
            while transactions := windows.following(self._conn, reached):
                yield from self._window(transactions)
                reached = transactions[-1].info.commit

    def _window(self, transactions: list[Transaction]) -> Iterator[Event]:
        group: list[Transaction] = []
        count = size = 0
        for transaction in transactions:
            if group and (count + transaction.changes > self._limit or size + transaction.size > PIECE_BYTES):
                yield from self._group(group)
                group, count, size = [], 0, 0
            group.append(transaction)
            count, size = count + transaction.changes, size + transaction.size
        yield from self._group(group)

    def _group(self, group: list[Transaction]) -> Iterator[Event]:
        """Transactions that are read at once, or a single one page by page."""
        if len(group) == 1:
            (one,) = group
            page = max(1, min(self._limit, PIECE_BYTES * one.changes // max(1, one.size)))
            yield from self._transaction(one, windows.rows(self._conn, [one.xid], page))
            return
        found: dict[str, list[tuple[Any, ...]]] = {one.xid: [] for one in group}
        for page_of_all in windows.rows(self._conn, list(found), sum(one.changes for one in group) + 1):
            for row in page_of_all:
                found[row[0]].append(row)
        for one in group:
            yield from self._transaction(one, iter([found[one.xid]]))

    def _transaction(self, transaction: Transaction, pages: Iterator[list[tuple[Any, ...]]]) -> Iterator[Event]:
        building = _Building()
        seen = 0
        for page in pages:
            seen += len(page)
            for row in page:
                op, layout, context, old, new = row[2:7]
                if op == "m":
                    building.messages.append(Message(context, bytes.fromhex(new), building.ordinal))
                    continue
                building.ordinal += 1
                described = self._layouts.of(layout)
                if described is None:
                    continue
                building.speak(context, row[7:])
                change = described.change(building.ordinal, Recorded(op, layout, old, new))
                building.add(change, len(old or "") + len(new or ""))
                if len(building.changes) > self._limit or (building.size > PIECE_BYTES and len(building.changes) > 1):
                    yield building.cut(transaction)
        if seen != transaction.changes:
            detail = f"{transaction.changes - seen} changes of transaction {transaction.xid} were deleted unread"
            raise Halt(State.POSITION_LOST, f"{self._where}: {detail}", "worker-sync resync PIPELINE")
        yield building.end(transaction)

    # -- talking back

    def tick(self) -> None:
        if self._over:
            return
        with self._ending():
            self._keep_house()

    def confirm(self, commit: str) -> None:
        self._confirmed = max(self._confirmed, commit)

    def _keep_house(self) -> None:
        now = time.monotonic()
        if self._confirmed > self._told and now - self._told_at >= CONFIRM_S:
            self._tell()
        if self._untidy:
            self._untidy = windows.delete(self._conn, self._told)
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look()

    def _tell(self) -> None:
        self._conn.execute(
            "UPDATE worker_sync_audit.stream SET confirmed = %s WHERE confirmed < %s", (self._confirmed,) * 2
        )
        self._told, self._told_at = self._confirmed, time.monotonic()
        self._untidy = True

    def _look(self) -> None:
        """A table without its triggers goes unrecorded: that must not be silent. Keys and types may have changed."""
        installed.require_triggers(self._conn, self._source, self._wanted)
        fingerprint = catalog.fingerprint(self._conn)
        if fingerprint != self._fingerprint:
            self._fingerprint = fingerprint
            self._layouts.forget()

    def close(self) -> None:
        """Hand over the last confirmation; the server lets go of the lock with the connection."""
        self._relations.close()
        if not self._conn.closed and not self._over and self._confirmed > self._told:
            # A broken connection: the confirmation is repeated by the next stream.
            with contextlib.suppress(psycopg.Error):
                self._tell()
        self._over = self._over or "closed"
        self._conn.close()


class _Building:
    """The undelivered part of one transaction. `ordinal` counts what it recorded in all tables, so that it does not
    depend on which of them the stream is about."""

    def __init__(self) -> None:
        self.ordinal = 0
        self.size = 0
        self.changes: list[Change] = []
        self.messages: list[Message] = []
        self.sessions: list[SessionMark] = []
        self._context: str | None = None
        self._session: tuple[Any, ...] = NOBODY

    def speak(self, context: str | None, session: tuple[Any, ...]) -> None:
        """What the application says of the changes from here on, and whose session makes them."""
        if context != self._context:
            self._context = context
            self.messages.append(Message(markers.CONTEXT, (context or "").encode(), self.ordinal - 1))
        if session != self._session:
            self._session = session
            known = None if session[0] is None else Session(*session)
            self.sessions.append(SessionMark(known, self.ordinal - 1))

    def add(self, change: Change, size: int) -> None:
        self.changes.append(change)
        self.size += size

    def cut(self, transaction: Transaction) -> Piece:
        """All changes but the newest, so that the last piece is never empty. What was said before the newest comes
        with it."""
        newest = self.changes.pop()
        said, self.messages = divided(self.messages, newest.ordinal - 1)
        known, self.sessions = divided(self.sessions, newest.ordinal - 1)
        piece = Piece(transaction.info, self.changes, False, self.size, said, known)
        self.changes, self.size = [newest], 0
        return piece

    def end(self, transaction: Transaction) -> Event:
        if self.changes or self.messages:
            return Piece(transaction.info, self.changes, True, self.size, self.messages, self.sessions)
        return Progress(transaction.info.commit)
