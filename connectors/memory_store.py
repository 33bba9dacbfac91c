"""Databases inside one process; `connectors.memory` makes sources and targets of them.

Tests write to one like this::

    database = MemoryDatabase.of("memory://shop")
    database.create_table(schema)
    with database.transaction() as transaction:
        transaction.insert(table, (1, "a"))

Transactions run one after the other. Nothing survives the process.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import ClassVar, Final
from urllib.parse import urlsplit

from connectors.base import Mark
from worker_sync.core.bags import exact
from worker_sync.core.change import Change, Message, Op, TransactionInfo
from worker_sync.core.errors import ConfigError, Halt, State, TargetRejected
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row, merge

#: The commit position before the first transaction.
NOTHING: Final = "0" * 16


@dataclass(slots=True)
class Table:
    schema: TableSchema
    id: int
    unique: tuple[tuple[str, ...], ...] = ()
    #: By key; those of a table without key by numbers that nobody else sees.
    rows: dict[Key, Row] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def indexes(self, names: Iterable[str]) -> list[int]:
        return [self.schema.column_names.index(name) for name in names]

    def key_of(self, row: Row) -> Key:
        return tuple(row[index] for index in self.schema.key_indexes)

    def find_equal(self, row: Row) -> Key | None:
        """Where a row stands that equals `row`, for a table without key."""
        wanted = exact(row)
        return next((place for place, found in self.rows.items() if exact(found) == wanted), None)


@dataclass(slots=True)
class Slot:
    """The server side of one source's stream."""

    confirmed: str
    tables: set[TableName]
    lost: str = ""
    #: The stream that reads it.
    reader: object | None = None


@dataclass(slots=True)
class Entry:
    """A committed transaction in the log."""

    info: TransactionInfo
    changes: list[tuple[TableName, Change]]
    messages: list[Message]


class MemoryTransaction:
    """Collects changes; they happen together at the end of the `with` block, or not at all."""

    def __init__(self, tables: dict[TableName, Table]) -> None:
        self._tables = tables
        self.touched: dict[TableName, Table] = {}
        self.changes: list[tuple[TableName, Change]] = []
        self.messages: list[Message] = []

    def _table(self, name: TableName) -> Table:
        if name not in self.touched:
            table = self._tables.get(name)
            if table is None:
                raise Halt(State.SCHEMA_MISMATCH, f"there is no table {name}", f"create table {name}")
            self.touched[name] = replace(table, rows=dict(table.rows))
        return self.touched[name]

    def _log(self, table: Table, op: Op, key: Key | None, before: Row | None, after: Row | None) -> None:
        change = Change(len(self.changes) + 1, op, table.id, key, before, after)
        self.changes.append((table.schema.table, change))

    def row(self, name: TableName, key: Key) -> Row | None:
        """The row as this transaction sees it."""
        return self._table(name).rows.get(key)

    def insert(self, name: TableName, row: Row) -> None:
        """Raises TargetRejected when a row with this key is there."""
        table = self._table(name)
        key = table.key_of(row) if table.schema.key else (next(table.numbers),)
        if key in table.rows:
            raise TargetRejected(f"{name}: a row with key {key} exists")
        table.rows[key] = row
        self._log(table, Op.INSERT, None, None, row)

    def update(self, name: TableName, key: Key, row: Row) -> None:
        """Give the row with `key` the values of `row`, which may hold another key and UNCHANGED columns.

        Raises TargetRejected when there is no such row, or when another one has the new key."""
        table = self._table(name)
        before = table.rows.pop(key, None)
        if before is None:
            raise TargetRejected(f"{name}: there is no row with key {key}")
        after = merge(before, row)
        new_key = table.key_of(after)
        if new_key in table.rows:
            raise TargetRejected(f"{name}: a row with key {new_key} exists")
        table.rows[new_key] = after
        self._log(table, Op.UPDATE, None if new_key == key else key, before, row)

    def delete(self, name: TableName, key: Key) -> None:
        """Deleting what isn't there changes nothing."""
        table = self._table(name)
        before = table.rows.pop(key, None)
        if before is not None:
            self._log(table, Op.DELETE, key, before, None)

    def replace_equal(self, name: TableName, before: Row, after: Row | None) -> None:
        """In a table without key give a row that equals `before` the values of `after`, or delete it.

        Raises TargetRejected when there is no such row."""
        table = self._table(name)
        place = table.find_equal(before)
        if place is None:
            raise TargetRejected(f"{name}: a row to delete or replace is not there")
        if after is None:
            del table.rows[place]
            self._log(table, Op.DELETE, (), before, None)
        else:
            table.rows[place] = after
            self._log(table, Op.UPDATE, None, before, after)

    def truncate(self, name: TableName) -> None:
        table = self._table(name)
        table.rows.clear()
        self._log(table, Op.TRUNCATE, None, None, None)

    def message(self, prefix: str, content: bytes) -> None:
        self.messages.append(Message(prefix, content, len(self.changes)))

    def check(self) -> None:
        """Raises TargetRejected when what the transaction leaves breaks a constraint."""
        for table in self.touched.values():
            _check_nulls(table)
            for names in table.unique:
                _check_unique(table, names)


def _check_nulls(table: Table) -> None:
    for index, column in enumerate(table.schema.columns):
        if column.nullable:
            continue
        for key, row in table.rows.items():
            if row[index] is None:
                raise TargetRejected(f"{table.schema.table}: column {column.name} is null, key {key}")


def _check_unique(table: Table, names: tuple[str, ...]) -> None:
    seen: set[Row] = set()
    for key, row in table.rows.items():
        value = tuple(row[index] for index in table.indexes(names))
        if None not in value and value in seen:
            raise TargetRejected(f"{table.schema.table}: unique {', '.join(names)} is taken, key {key}")
        seen.add(value)


class MemoryDatabase:
    """A database: tables, a log of committed transactions, the watermarks of pipelines that write to it."""

    _all: ClassVar[dict[str, MemoryDatabase]] = {}
    _all_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self.identity = uuid.uuid4().hex
        #: Held by every transaction; notified by every commit.
        self.changed = threading.Condition(threading.RLock())
        self.tables: dict[TableName, Table] = {}
        self.schemas: dict[int, TableSchema] = {}
        self.log: list[Entry] = []
        self.slots: dict[str, Slot] = {}
        self.marks: dict[tuple[str, int], Mark] = {}
        self._unseen: dict[str, dict[TableName, Table]] = {}

    @classmethod
    def of(cls, url: str) -> MemoryDatabase:
        """The database of a `memory://NAME` URL, made on first use."""
        name = urlsplit(url).netloc
        if not name:
            raise ConfigError("a memory URL needs a name (memory://NAME)")
        with cls._all_lock:
            return cls._all.setdefault(name, cls())

    @classmethod
    def drop(cls, url: str) -> None:
        """Forget a database, so that the next use of its URL finds a new one."""
        with cls._all_lock:
            cls._all.pop(urlsplit(url).netloc, None)

    def create_table(self, schema: TableSchema, unique: Sequence[tuple[str, ...]] = ()) -> None:
        """Create the table, or give it a new definition (its rows stay: the columns must be the same)."""
        with self.changed:
            number = len(self.schemas) + 1
            self.schemas[number] = schema
            old = self.tables.get(schema.table)
            self.tables[schema.table] = Table(schema, number, tuple(unique), {} if old is None else old.rows)

    def alter_table(self, schema: TableSchema, row: Callable[[Row], Row]) -> None:
        """Give the table another definition; `row` makes the new row of an old one, without a word in the log."""
        with self.changed:
            old = self.tables[schema.table]
            self.create_table(schema, old.unique)
            table = self.tables[schema.table]
            table.rows = {table.key_of(changed): changed for changed in map(row, old.rows.values())}

    def drop_table(self, name: TableName) -> None:
        with self.changed:
            self.tables.pop(name, None)

    def rows(self, name: TableName) -> dict[Key, Row]:
        """A copy of a table's rows by key."""
        with self.changed:
            return dict(self.tables[name].rows)

    @property
    def head(self) -> str:
        return self.log[-1].info.commit if self.log else NOTHING

    @property
    def unseen(self) -> frozenset[str]:
        return frozenset(self._unseen)

    @contextmanager
    def transaction(self, visible: bool = True) -> Iterator[MemoryTransaction]:
        """A transaction. With `visible=False` its commit is in the log before readers see it, until `show`."""
        with self.changed:
            transaction = MemoryTransaction(self.tables)
            yield transaction
            transaction.check()
            if transaction.changes or transaction.messages:
                self._commit(transaction, visible)

    def _commit(self, transaction: MemoryTransaction, visible: bool) -> None:
        commit = f"{len(self.log) + 1:016x}"
        info = TransactionInfo(commit, now(), str(len(self.log) + 1))
        self.log.append(Entry(info, transaction.changes, transaction.messages))
        if visible:
            self.tables.update(transaction.touched)
        else:
            self._unseen[commit] = transaction.touched
        self.changed.notify_all()

    def show(self, commit: str) -> None:
        """Let readers see a transaction that was committed with `visible=False`; none may have come between."""
        with self.changed:
            self.tables.update(self._unseen.pop(commit))


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
