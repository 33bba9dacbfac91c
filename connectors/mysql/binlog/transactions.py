"""Turns events into pieces of committed transactions.

A group of events is a transaction: it begins with a GTID event, and ends with an XID event, a COMMIT, or, when it is
one statement that commits itself, with that. The server writes a group at its commit and in one go, so what is read
of a group is committed; only a crash can leave a group without an end, which another file follows.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final, Protocol

from connectors.mysql.binlog import events, gtid
from connectors.mysql.binlog.events import Event, malformed
from connectors.mysql.binlog.gtid import Begin
from connectors.mysql.binlog.queries import Effect, Statement, parse_query, read_statement
from connectors.mysql.binlog.row_events import KINDS, TableReader
from connectors.mysql.binlog.xa import TwoPhase
from worker_sync.core.change import Change, Message, Op, Piece, TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableSchema

#: A transaction is cut once its undelivered part took this many bytes of the log, however few its rows.
PIECE_BYTES: Final = 16 * 1024 * 1024
#: The table of row events that only end a statement.
_NO_TABLE: Final = (0xFFFFFF).to_bytes(6, "little")
#: An application's message is the comment that a statement begins with.
_CONTEXT: Final = re.compile(rb"\s*/\*\s*(worker_sync\.[a-z_]+)[\s:](.*?)\*/", re.DOTALL)

_RESYNC: Final = "worker-sync resync PIPELINE"


class Tables(Protocol):
    """What the assembler must know about tables."""

    def reader(self, body: bytes) -> TableReader | None:
        """What reads the rows that follow a TABLE_MAP event of that body; None for tables that aren't captured."""

    def messages(self, schema: TableSchema, changes: list[Change]) -> list[Message]:
        """The messages in rows of the table that carries them."""

    def redefine(self) -> None:
        """Definitions changed: what is known of tables beside the log may be so no more."""

    def truncated(self, statement: Statement) -> int | None:
        """The id of the captured table that the statement empties; None when it is none of ours."""

    def require_kept(self, statement: Statement) -> None:
        """Raises Halt when the statement takes a captured table away."""


class Assembler:
    """Fed with events in log order. `open`: the events fed so far end inside a transaction."""

    def __init__(self, tables: Tables, position: Callable[[int], str]) -> None:
        """`position` gives the commit position of the transaction that begins at an offset of the current file."""
        self._tables = tables
        self._position = position
        self._readers: dict[bytes, TableReader | None] = {}
        self._two_phase = TwoPhase()
        self.open = False
        self._begin: Begin | None = None
        self._forget()
        self._handlers: dict[int, Callable[[Event], bool]] = {
            events.GTID: lambda event: self._start(event, gtid.mysql_gtid(event)),
            events.ANONYMOUS_GTID: lambda event: self._start(event, gtid.anonymous(event)),
            events.TAGGED_GTID: lambda event: self._start(event, gtid.tagged(event)),
            events.MARIADB_GTID: self._start_mariadb,
            events.QUERY: self._query,
            events.QUERY_COMPRESSED: self._query,
            events.XID: self._commit,
            events.XA_PREPARE: self._prepare,
            events.TABLE_MAP: self._table_map,
            events.ROWS_QUERY: self._statement_text,
            events.ANNOTATE_ROWS: self._statement_text,
            **dict.fromkeys(KINDS, self._rows),
            # Values for a statement that follows: that statement decides.
            **dict.fromkeys((events.INTVAR, events.RAND, events.USER_VAR), self._nothing),
            **dict.fromkeys((events.BEGIN_LOAD_QUERY, events.EXECUTE_LOAD_QUERY), self._undescribed),
            events.INCIDENT: self._incident,
        }

    def _forget(self) -> None:
        self._offset = 0
        self._info: TransactionInfo | None = None
        self._ordinal = 1
        self._changes: list[Change] = []
        self._messages: list[Message] = []
        self._said = ("", b"")
        self._size = 0
        self._delivered = False
        self._rolled_back = False

    def feed(self, event: Event) -> bool:
        """Take the next event; True when it ended a transaction: `finish` then gives the rest of it. Raises Halt."""
        handler = self._handlers.get(event.type)
        if handler is None:
            if event.flags & events.IGNORABLE:
                return False
            raise malformed(f"an event of unknown kind {event.type}")
        self._size += event.size
        try:
            return handler(event)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise malformed(f"an event of kind {event.type} that can't be read") from error

    # -- pieces

    def cut(self, limit: int) -> Piece | None:
        """A piece of the open transaction when there is more of it than `limit` changes or `PIECE_BYTES`; the newest
        change is kept, so that the last piece is never empty."""
        changes = self._changes
        if len(changes) > limit:
            count = limit
        elif self._size > PIECE_BYTES and len(changes) > 1:
            count = len(changes) - 1
        else:
            return None
        size = self._size * count // len(changes)
        self._changes = changes[count:]
        self._size -= size
        return self._piece(changes[:count], size, last=False)

    @property
    def delivered(self) -> bool:
        """Part of the open transaction was cut already."""
        return self._delivered

    def finish(self) -> Piece | None:
        """The rest of the transaction that ended; None when there is nothing in it for us."""
        piece = None
        if (self._changes or self._messages) and not self._rolled_back:
            piece = self._piece(self._changes, self._size, last=True)
        elif self._delivered:
            raise malformed("a transaction that was taken back after its rows")
        self._forget()
        self._begin = None
        return piece

    def _piece(self, changes: list[Change], size: int, *, last: bool) -> Piece:
        assert self._info is not None
        messages, self._messages = self._messages, []
        self._delivered = True
        return Piece(self._info, changes, last, size, messages)

    # -- the frame of a transaction

    def next_file(self) -> None:
        """Another file begins. A transaction without an end was being written when the server crashed."""
        self.open = False
        self._begin = None
        if self._delivered:
            raise malformed("a transaction that has no end")
        self._forget()
        self._readers.clear()

    def _start(self, event: Event, begin: Begin) -> bool:
        if self.open:
            raise malformed("a transaction inside another")
        self._forget()
        self._begin_at(event, begin)
        return False

    def _start_mariadb(self, event: Event) -> bool:
        begin = gtid.mariadb_gtid(event)
        self._start(event, begin)
        self.open = not begin.standalone
        return False

    def _begin_at(self, event: Event, begin: Begin) -> None:
        self._begin = begin
        self._offset = event.end - event.size
        self._size = event.size
        committed_at = event.time * 1_000_000 if begin.committed_at is None else begin.committed_at
        self._info = TransactionInfo(self._position(self._offset), committed_at, begin.name)

    def _query(self, event: Event) -> bool:
        database, text = parse_query(event)
        if self._begin is None:
            self._begin_at(event, Begin(""))
        statement = read_statement(database, text)
        effect = statement.effect
        if effect in (Effect.BEGIN, Effect.XA_BEGIN) or _opens(text):
            self.open = True
            return False
        if effect in (Effect.COMMIT, Effect.ROLLBACK):
            self.open = False
            self._rolled_back = effect is Effect.ROLLBACK
            return True
        self._apply(statement, text)
        return not self.open

    def _apply(self, statement: Statement, text: bytes) -> None:
        effect = statement.effect
        if effect is Effect.TRUNCATE:
            table = self._tables.truncated(statement)
            if table is not None:
                self._changes.append(Change(self._ordinal, Op.TRUNCATE, table, None, None, None))
                self._ordinal += 1
        elif effect in (Effect.LOST, Effect.DATABASE_LOST):
            self._tables.require_kept(statement)
            self._tables.redefine()
        elif effect is Effect.DEFINITION:
            self._tables.redefine()
        elif effect is Effect.XA_PHASE_TWO:
            self._two_phase.decide(text)
        elif effect is Effect.UNDESCRIBED:
            raise _by_statement()
        elif effect is Effect.UNKNOWN:
            raise malformed(f"a statement of unknown kind ({_verb(text)})")

    def _commit(self, _: Event) -> bool:
        self.open = False
        return True

    def _nothing(self, _: Event) -> bool:
        return False

    def _undescribed(self, _: Event) -> bool:
        raise _by_statement()

    def _incident(self, _: Event) -> bool:
        raise Halt(
            State.POSITION_LOST, "the server reports that its binary log lacks changes (incident event)", _RESYNC
        )

    def _prepare(self, event: Event) -> bool:
        """The end of an XA transaction's rows. One that commits in one phase is a transaction like any other."""
        self.open = False
        if not event.body[0]:
            self._two_phase.prepare(event.body, ours=bool(self._changes or self._messages or self._delivered))
        return True

    # -- what is in it

    def _table_map(self, event: Event) -> bool:
        self._readers[event.body[:6]] = self._tables.reader(event.body)
        return False

    def _rows(self, event: Event) -> bool:
        body = event.body
        try:
            reader = self._readers[body[:6]]
        except KeyError:
            if body[:6] == _NO_TABLE:
                return False
            raise malformed("rows of a table that was not named before") from None
        if reader is None:
            return False
        if self._info is None:
            raise malformed("rows outside a transaction")
        changes = reader.read(event.type, body, self._ordinal)
        if reader.carries_messages:
            self._messages += self._tables.messages(reader.schema, changes)
            return False
        self._ordinal += len(changes)
        if self._changes:
            self._changes += changes
        else:
            self._changes = changes
        return False

    def _statement_text(self, event: Event) -> bool:
        # Of all that applications write, only a comment that is meant for us is looked at.
        text = event.body[1:] if event.type == events.ROWS_QUERY else event.body
        found = _CONTEXT.match(text)
        if found:
            message = Message(found[1].decode(), found[2].strip(), self._ordinal - 1)
            if (message.prefix, message.content) != self._said:
                self._said = message.prefix, message.content
                self._messages.append(message)
        return False


def _opens(text: bytes) -> bool:
    """CREATE TABLE ... SELECT is logged with the rows in its own transaction."""
    return text[-17:].upper() == b"START TRANSACTION" and text[:6].upper() == b"CREATE"


def _verb(text: bytes) -> str:
    found = re.match(rb"\s*([A-Za-z]{1,20})", text)
    return found[1].decode().upper() if found else "?"


def _by_statement() -> Halt:
    fix = "SET PERSIST binlog_format = ROW (MariaDB: SET GLOBAL, and in its configuration), then " + _RESYNC
    return Halt(State.PREFLIGHT_FAILED, "rows were changed by a statement that the log does not describe", fix)
