"""Decoder of the pgoutput logical replication protocol, version 1 (PostgreSQL 14 and later). No I/O.

The server sends a transaction once it has committed, as Begin, then rows, then Commit. A Relation message describes
a table before its first row and again whenever it may have changed. Anything that is not understood raises Halt.

`Decoder.feed` runs once per row: what looks repetitive here is so for speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any, Final, NoReturn

from connectors.postgres.types import Converter, TypeRef, converters
from worker_sync.core.change import Change, Message, TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Kind, TableName, TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row

#: Commit positions are LSNs as this many hex digits, so that string order is log order.
_LSN_DIGITS: Final = 16
#: PostgreSQL counts microseconds from 2000-01-01; we count from 1970-01-01.
EPOCH_SHIFT: Final = 946_684_800_000_000
#: Logical messages whose prefix begins so are for us; applications may use others for themselves.
MESSAGE_PREFIX: Final = "worker_sync."

_BEGIN: Final = Struct(">QqI").unpack_from
_COMMIT: Final = Struct(">BQQq").unpack_from
_TAGGED: Final = Struct(">IB").unpack_from
_SIZE: Final = Struct(">I").unpack_from
_COUNT: Final = Struct(">H").unpack_from
_COLUMN: Final = Struct(">Ii").unpack_from
_TRUNCATE: Final = Struct(">IB").unpack_from
_MESSAGE: Final = Struct(">BQ").unpack_from

_TEXT: Final = ord("t")
_NULL: Final = ord("n")
_UNCHANGED: Final = ord("u")
_NEW: Final = ord("N")
_KEY: Final = ord("K")
_OLD: Final = ord("O")
_RECOVERY: Final = "upgrade Worker-Sync, then worker-sync resume PIPELINE"


def format_lsn(lsn: int) -> str:
    """A log sequence number as a commit position."""
    return f"{lsn:0{_LSN_DIGITS}X}"


@dataclass(frozen=True, slots=True)
class RelationColumn:
    name: str
    type: TypeRef
    #: Part of what identifies a row in the log (all columns with REPLICA IDENTITY FULL).
    identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A Relation message. `identity` is the replica identity: d, n, f or i."""

    oid: int
    table: TableName
    identity: str
    columns: tuple[RelationColumn, ...]


#: Gives a table its id and schema; the columns of the schema are those of the relation, in order.
Describe = Callable[[Relation], tuple[int, TableSchema]]


class _Table:
    """What decoding a row of a table needs."""

    __slots__ = ("converters", "id", "key", "name")

    def __init__(self, table_id: int, schema: TableSchema, more: Set[str]) -> None:
        self.id = table_id
        self.name = str(schema.table)
        known = zip(converters(schema), schema.columns, strict=True)
        self.converters: tuple[Converter, ...] = tuple(
            _Labels(column.type.labels, more).__getitem__ if column.type.kind is Kind.ENUM else convert
            for convert, column in known
        )
        self.key = schema.key_indexes


class _UnknownLabel(Exception):
    """An enum's value is none of its labels"""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label


class _Labels(dict[str, str]):
    """The labels of an enum and `more`, by themselves."""

    def __init__(self, labels: Iterable[str], more: Iterable[str]) -> None:
        super().__init__({label: label for label in (*labels, *more)})

    def __missing__(self, label: str) -> str:
        raise _UnknownLabel(label)


class Malformed(Exception):
    """A message breaks the protocol."""


class Decoder:
    """Collects the open transaction: `info` (None outside one), `changes` and `messages`.

    The owner takes `changes` and `messages` away when `feed` says that the transaction is complete, and may take
    them earlier; `ordinal` counts on.
    """

    def __init__(self, describe: Describe) -> None:
        self._describe = describe
        self._tables: dict[int, _Table] = {}
        self._relations: dict[int, Relation] = {}
        self._labels: dict[int, set[str]] = {}
        #: By name, the commit position at which a table was truncated last.
        self.truncated: dict[str, str] = {}
        self._handlers: dict[int, Callable[[bytes], bool]] = {
            ord("I"): self._insert,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("B"): self._begin,
            ord("C"): self._commit,
            ord("R"): self._relation,
            ord("T"): self._truncate,
            ord("M"): self._message,
            # A type's name and a transaction's origin: nothing that we need.
            ord("Y"): self._skip,
            ord("O"): self._skip,
        }
        self.info: TransactionInfo | None = None
        self.changes: list[Change] = []
        self.messages: list[Message] = []
        self.ordinal = 0

    def feed(self, data: bytes) -> bool:
        """Decode one message; True when it ended the transaction that `info` describes."""
        try:
            return self._handlers[data[0]](data)
        except Halt:
            raise
        except _UnknownLabel as error:
            self._look_again(_TAGGED(data, 1)[0], error.label)
            return self.feed(data)
        except (KeyError, IndexError, StructError, ValueError, Malformed) as error:
            self._refuse(data, error)

    def _refuse(self, data: bytes, error: Exception) -> NoReturn:
        kind = data[:1].decode("latin-1")
        where = f"in transaction {self.info.commit}" if self.info else "outside a transaction"
        if not data or data[0] not in self._handlers:
            raise Halt(State.UNKNOWN_MESSAGE, f"pgoutput message {kind!r} {where}", _RECOVERY) from None
        detail = f"malformed pgoutput message {kind!r} of {len(data)} bytes {where} ({type(error).__name__})"
        # The error's text may quote the row.
        raise Halt(State.UNKNOWN_MESSAGE, detail, _RECOVERY) from None

    # Transactions

    def _begin(self, data: bytes) -> bool:
        if self.info is not None:
            raise Malformed
        commit, committed_at, xid = _BEGIN(data, 1)
        self.info = TransactionInfo(format_lsn(commit), committed_at + EPOCH_SHIFT, str(xid))
        self.ordinal = 0
        return False

    def _commit(self, data: bytes) -> bool:
        _, commit, _, _ = _COMMIT(data, 1)
        if self.info is None or self.info.commit != format_lsn(commit):
            raise Malformed
        return True

    def _skip(self, _: bytes) -> bool:
        return False

    def _message(self, data: bytes) -> bool:
        flags, _ = _MESSAGE(data, 1)
        end = data.index(b"\0", 10)
        (size,) = _SIZE(data, end + 1)
        content = data[end + 5 :]
        if len(content) != size:
            raise Malformed
        prefix = data[10:end].decode()
        if flags & 1 and prefix.startswith(MESSAGE_PREFIX):
            self.messages.append(Message(prefix, content, self.ordinal))
        return False

    # Tables

    def _relation(self, data: bytes) -> bool:
        relation = parse_relation(data)
        self._relations[relation.oid] = relation
        self._describe_again(relation)
        return False

    def _describe_again(self, relation: Relation) -> None:
        table_id, schema = self._describe(relation)
        self._tables[relation.oid] = _Table(table_id, schema, self._labels.get(relation.oid, frozenset()))

    def _look_again(self, oid: int, label: str) -> None:
        """The server does not tell of a label that was added to an enum. One that the type has not got now either was
        renamed since."""
        self._labels.setdefault(oid, set()).add(label)
        self._describe_again(self._relations[oid])

    def _truncate(self, data: bytes) -> bool:
        count, _ = _TRUNCATE(data, 1)
        if len(data) != 6 + 4 * count:
            raise Malformed
        assert self.info is not None
        for at in range(6, len(data), 4):
            table = self._tables[_SIZE(data, at)[0]]
            self._add("t", table.id, None, None, None)
            self.truncated[table.name] = self.info.commit
        return False

    # Rows

    def _insert(self, data: bytes) -> bool:
        oid, tag = _TAGGED(data, 1)
        table = self._tables[oid]
        row, end = _row(table, data, 6)
        if tag != _NEW or end != len(data):
            raise Malformed
        self.ordinal += 1
        self.changes.append(Change(self.ordinal, "c", table.id, None, None, row))
        return False

    def _update(self, data: bytes) -> bool:
        oid, tag = _TAGGED(data, 1)
        table = self._tables[oid]
        if tag == _NEW:
            if not table.key:
                raise Malformed
            row, end = _row(table, data, 6)
            key = before = None
        else:
            old, at = _row(table, data, 6)
            if data[at] != _NEW:
                raise Malformed
            row, end = _row(table, data, at + 1)
            row, key, before = _reconcile(table, tag, old, row)
        if end != len(data):
            raise Malformed
        self.ordinal += 1
        self.changes.append(Change(self.ordinal, "u", table.id, key, before, row))
        return False

    def _delete(self, data: bytes) -> bool:
        oid, tag = _TAGGED(data, 1)
        table = self._tables[oid]
        old, end = _row(table, data, 6)
        if tag not in (_KEY, _OLD) or end != len(data) or (tag == _KEY and not table.key):
            raise Malformed
        key = tuple([old[index] for index in table.key])
        self._add("d", table.id, key, old if tag == _OLD else None, None)
        return False

    def _add(self, op: str, table_id: int, key: Key | None, before: Row | None, after: Row | None) -> None:
        self.ordinal += 1
        self.changes.append(Change(self.ordinal, op, table_id, key, before, after))


def _row(table: _Table, data: bytes, at: int) -> tuple[Row, int]:
    """The row that begins at `at`, and where it ends. A size that is too large ends beyond the data."""
    if _COUNT(data, at)[0] != len(table.converters):
        raise Malformed
    at += 2
    row: list[Any] = []
    append = row.append
    for convert in table.converters:
        kind = data[at]
        if kind == _TEXT:
            start = at + 5
            at = start + _SIZE(data, at + 1)[0]
            if convert is None:
                append(data[start:at].decode())
            else:
                append(convert(data[start:at].decode()))
        elif kind == _NULL:
            append(None)
            at += 1
        elif kind == _UNCHANGED:
            append(UNCHANGED)
            at += 1
        else:
            raise Malformed
    return tuple(row), at


def _reconcile(table: _Table, tag: int, old: Row, new: Row) -> tuple[Row, Key | None, Row | None]:
    """The new row, the old key if it differs, and the whole old row if it was sent."""
    if tag == _OLD:
        if UNCHANGED in new:
            new = tuple([was if now is UNCHANGED else now for was, now in zip(old, new, strict=True)])
        before: Row | None = old
    elif tag == _KEY:
        before = None
        if UNCHANGED in new:
            new = tuple([old[at] if now is UNCHANGED and at in table.key else now for at, now in enumerate(new)])
    else:
        raise Malformed
    key = tuple([old[index] for index in table.key])
    return new, None if key == tuple([new[index] for index in table.key]) else key, before


def parse_relation(data: bytes) -> Relation:
    """A Relation message. Raises ValueError, IndexError, struct.error or Malformed for anything else."""
    (oid,) = _SIZE(data, 1)
    namespace, at = _string(data, 5)
    name, at = _string(data, at)
    identity = chr(data[at])
    (count,) = _COUNT(data, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        flags = data[at]
        column, at = _string(data, at + 1)
        columns.append(RelationColumn(column, _COLUMN(data, at), bool(flags & 1)))
        at += 8
    if at != len(data) or identity not in "dnfi":
        raise Malformed
    # The server leaves the name of its own schema out.
    return Relation(oid, TableName(namespace or "pg_catalog", name), identity, tuple(columns))


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1
