"""Four tables in any engine, as a writer and as a witness see them.

=========  ==========================================================================================
items      id -> version, code (unique), name, amount, body: inserted, updated, moved, swapped, deleted
accounts   id -> version, balance: money moves between two of them, so what is there in all never changes
steps      n: every transaction adds the next number
events     kind, note: no key; equal rows are meant
=========  ==========================================================================================

A `version` is a number that no earlier change had, so a row that ever shows a smaller one than before went back in
time. With one shard a target that lacks a step below its highest, or holds another sum, has seen a transaction in part
or out of turn.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final

import psycopg
import pymysql
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from tests.fixtures import fix_mysql

Row = tuple[Any, ...]
Execute = Callable[[str, dict[str, Any]], list[Row]]

#: The columns of each table, the key first.
COLUMNS: Final = {
    "items": ("id", "version", "code", "name", "amount", "body"),
    "accounts": ("id", "version", "balance"),
    "steps": ("n",),
    "events": ("kind", "note"),
}
KEYLESS: Final = {"events"}
ACCOUNTS: Final = 40
OPENING: Final = 1000
#: Words of SQL that engines have in different ways: {text}, {long_text}, {big}.
_CREATE: Final = {
    "items": "CREATE TABLE items (id bigint PRIMARY KEY, version bigint NOT NULL, code {text} NOT NULL UNIQUE, "
    "name {text}, amount numeric(12,2), body {long_text})",
    "accounts": "CREATE TABLE accounts (id bigint PRIMARY KEY, version bigint NOT NULL, balance bigint NOT NULL)",
    "steps": "CREATE TABLE steps (n bigint PRIMARY KEY)",
    "events": "CREATE TABLE events (kind {text}, note {text})",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one moment of a database held."""

    versions: dict[tuple[str, int], int]
    balance: int
    steps: int
    last_step: int


class Books(ABC):
    """One database; `url` leads straight to it."""

    #: What the driver raises while the server is away.
    lost: ClassVar[tuple[type[Exception], ...]]
    #: What it raises before the tables are there.
    unmade: ClassVar[tuple[type[Exception], ...]] = ()

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def create_items(self) -> None:
        """`items` as it must be there before a copy arrives: nobody carries its unique code over."""

    @abstractmethod
    def rows(self, table: str) -> Counter[Row]:
        """All rows with how often each is there."""

    @abstractmethod
    def looks(self) -> contextlib.AbstractContextManager[Callable[[], Seen]]:
        """A connection, as a function that looks at one moment."""


class SqlBooks(Books):
    words: ClassVar[dict[str, str]]

    #: What it can be a source of.
    tables: ClassVar[tuple[str, ...]] = tuple(COLUMNS)

    @abstractmethod
    def connected(self) -> contextlib.AbstractContextManager[Execute]:
        """An autocommit connection, as a function that runs a statement and returns its rows."""

    def create(self) -> None:
        with self.connected() as execute:
            for table in self.tables:
                execute(_CREATE[table].format(**self.words), {})

    def create_items(self) -> None:
        with self.connected() as execute:
            execute(_CREATE["items"].format(**self.words), {})

    def open_accounts(self) -> None:
        with self.connected() as execute:
            values = ", ".join(f"({number}, 0, {OPENING})" for number in range(ACCOUNTS))
            execute(f"INSERT INTO accounts VALUES {values}", {})

    def fill_items(self, rows: int) -> None:
        """Items with ids below `rows`, which are there before anybody captures."""
        with self.connected() as execute:
            values = ", ".join(f"({n}, 0, 'old-{n}', 'old', {n}, 'old')" for n in range(rows))
            execute(f"INSERT INTO items VALUES {values}", {})

    def rows(self, table: str) -> Counter[Row]:
        with self.connected() as execute:
            found = execute(f"SELECT {', '.join(COLUMNS[table])} FROM {table}", {})
        return Counter(tuple(_plain(value) for value in row) for row in found)

    def steps(self) -> int:
        """The newest step that is committed."""
        with self.connected() as execute:
            [(last,)] = execute("SELECT COALESCE(MAX(n), 0) FROM steps", {})
        return int(last)

    @contextlib.contextmanager
    def looks(self) -> Iterator[Callable[[], Seen]]:
        with self.connected() as execute:
            yield lambda: self._look(execute)

    def _look(self, execute: Execute) -> Seen:
        for statement in self.words["one_moment"].split("; "):
            execute(statement, {})
        items = execute("SELECT id, version FROM items", {})
        accounts = execute("SELECT id, version, balance FROM accounts", {})
        [(steps, last)] = execute("SELECT COUNT(*), COALESCE(MAX(n), 0) FROM steps", {})
        execute("COMMIT", {})
        versions = {("items", int(key)): int(version) for key, version in items}
        versions |= {("accounts", int(key)): int(version) for key, version, _ in accounts}
        return Seen(versions, sum(int(row[2]) for row in accounts), int(steps), int(last))


class PostgresBooks(SqlBooks):
    lost = (psycopg.OperationalError, psycopg.InterfaceError)
    unmade = (psycopg.errors.UndefinedTable,)
    words: ClassVar[dict[str, str]] = {
        "text": "text",
        "long_text": "text",
        "one_moment": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    }

    @contextlib.contextmanager
    def connected(self) -> Iterator[Execute]:
        with psycopg.connect(self.url, autocommit=True) as connection:

            def execute(statement: str, values: dict[str, Any]) -> list[Row]:
                cursor = connection.execute(statement.encode(), values or None)
                return cursor.fetchall() if cursor.description else []

            yield execute


class MysqlBooks(SqlBooks):
    lost = (pymysql.OperationalError, pymysql.InterfaceError)
    unmade = (pymysql.ProgrammingError,)
    # As a source MySQL has to have a key in every table.
    tables = tuple(table for table in COLUMNS if table not in KEYLESS)
    words: ClassVar[dict[str, str]] = {
        "text": "varchar(100)",
        "long_text": "longtext",
        "one_moment": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT",
    }

    @contextlib.contextmanager
    def connected(self) -> Iterator[Execute]:
        with fix_mysql.connect(self.url) as connection, connection.cursor() as cursor:

            def execute(statement: str, values: dict[str, Any]) -> list[Row]:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall())

            yield execute


class MongoBooks(Books):
    lost = (PyMongoError,)

    def create_items(self) -> None:
        with self._database() as database:
            database.client.admin.command("ping")
            items = database.get_collection("items", write_concern=WriteConcern("majority"))
            items.create_index("code", unique=True)

    def rows(self, table: str) -> Counter[Row]:
        keyless = table in KEYLESS
        names = [name if keyless or at else "_id" for at, name in enumerate(COLUMNS[table])]
        with self._database() as database:
            found = list(database[table].find())
        return Counter(tuple(_plain(document[name]) for name in names) for document in found)

    @contextlib.contextmanager
    def looks(self) -> Iterator[Callable[[], Seen]]:
        with self._database() as database:
            yield lambda: self._look(database)

    def _look(self, database: Any) -> Seen:
        with database.client.start_session(snapshot=True) as session:
            items = list(database.items.find({}, {"version": 1}, session=session))
            accounts = list(database.accounts.find({}, session=session))
            steps = list(database.steps.find({}, session=session))
        versions = {("items", int(one["_id"])): int(one["version"]) for one in items}
        versions |= {("accounts", int(one["_id"])): int(one["version"]) for one in accounts}
        numbers = [int(one["_id"]) for one in steps]
        return Seen(versions, sum(int(one["balance"]) for one in accounts), len(numbers), max(numbers, default=0))

    @contextlib.contextmanager
    def _database(self) -> Iterator[Any]:
        client: MongoClient[dict[str, Any]] = MongoClient(self.url, serverSelectionTimeoutMS=20_000)
        try:
            yield client.get_default_database()
        finally:
            client.close()


def books_of(url: str) -> Books:
    """The books behind a URL of any engine."""
    if url.startswith("mongodb"):
        return MongoBooks(url)
    return PostgresBooks(url) if url.startswith("postgresql") else MysqlBooks(url)


def differences(truth: Counter[Row], found: Counter[Row]) -> list[tuple[str, Row]]:
    """The first rows that are missing or too many, which is enough to know."""
    missing = [("missing", row) for row in (truth - found).elements()]
    extra = [("extra", row) for row in (found - truth).elements()]
    return (missing + extra)[:10]


def _plain(value: Any) -> Any:
    """Decimals of any driver as text with two digits."""
    value = value.to_decimal() if hasattr(value, "to_decimal") else value
    return f"{value:.2f}" if isinstance(value, Decimal) else value
