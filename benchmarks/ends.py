"""One table of payments in any engine, as the source of a load or as the target of one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import psycopg
import pymongo
import pymysql
from bson.decimal128 import Decimal128

from benchmarks.load import LOOK_S, PATIENCE_S, LoadFailed

TABLE: Final = "payments"
#: Rows of a transaction.
USUAL: Final = 1_000

_DEFINITION: Final = """(
    id bigint PRIMARY KEY, account integer NOT NULL, amount numeric(12, 2) NOT NULL,
    note varchar(100) NOT NULL, settled {boolean} NOT NULL, booked_at {moment} NOT NULL
)"""


class End(ABC):
    """A database with the table, or about to have it."""

    name: str
    #: What stands before the table's name in a pipeline of this source.
    tables = ""
    #: `fill` writes transactions.
    transactional = True

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def create(self, rows: int) -> None:
        """The empty table, with whatever makes filling it cheap for the client."""

    @abstractmethod
    def fill(self, rows: int, size: int = USUAL) -> None:
        """Write so many rows, from id 1 on, in transactions of `size`."""

    @abstractmethod
    def holds(self, number: int) -> bool:
        """Whether the row with that id is there; not before the table is."""

    @abstractmethod
    def notes(self) -> dict[int, str]:
        """The notes of all rows by id: enough to see a loss."""

    @abstractmethod
    def drop(self) -> None: ...

    def await_row(self, number: int) -> None:
        """Raises LoadFailed when it does not come within `PATIENCE_S`."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.holds(number):
            if time.monotonic() > deadline:
                raise LoadFailed(f"{self.name}: row {number} did not arrive within {PATIENCE_S:.0f} s")
            time.sleep(LOOK_S)


class PostgresEnd(End):
    name = "PostgreSQL"
    tables = "public."

    def create(self, rows: int) -> None:
        self._run(f"CREATE TABLE {TABLE} " + _DEFINITION.format(boolean="boolean", moment="timestamptz"))

    def fill(self, rows: int, size: int = USUAL) -> None:
        insert = (
            f"INSERT INTO {TABLE} SELECT n, n % 1000, n / 100.0, 'payment ' || n || ' of account ' || n % 1000, "
            "n % 2 = 0, timestamptz '2025-01-01 00:00:00+00' + n * interval '1 second' "
            "FROM generate_series({first}, {last}) n"
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            for first in range(1, rows + 1, size):
                connection.execute(insert.format(first=first, last=min(first + size - 1, rows)).encode())

    def holds(self, number: int) -> bool:
        return bool(self._run(f"SELECT 1 FROM {TABLE} WHERE id = {number}"))

    def notes(self) -> dict[int, str]:
        return dict(self._run(f"SELECT id, note FROM {TABLE}"))

    def drop(self) -> None:
        self._run(f"DROP TABLE IF EXISTS {TABLE}")

    def _run(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


class PostgresDocuments(PostgresEnd):
    """PostgreSQL with the documents of a collection, each as its id and its JSON."""

    def holds(self, number: int) -> bool:
        present = self._run(f"SELECT to_regclass('{TABLE}') IS NOT NULL")[0][0]
        return present and bool(self._run(f"SELECT 1 FROM {TABLE} WHERE _id = '{number}'"))

    def notes(self) -> dict[int, str]:
        return dict(self._run(f"SELECT _id::int, document::json ->> 'note' FROM {TABLE}"))


class MysqlEnd(End):
    name = "MariaDB"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        with self._connection("") as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {self._database}")

    def create(self, rows: int) -> None:
        """A copy of the rows stands ready beside the table: what fills it is one short statement a transaction."""
        for name in (TABLE, "prepared"):
            self._run(f"CREATE TABLE {name} " + _DEFINITION.format(boolean="boolean", moment="datetime"))
        self._run(
            "INSERT INTO prepared SELECT seq, seq % 1000, seq / 100, "
            "concat('payment ', seq, ' of account ', seq % 1000), seq % 2 = 0, "
            f"'2025-01-01' + INTERVAL seq SECOND FROM seq_1_to_{rows}"
        )

    def fill(self, rows: int, size: int = USUAL) -> None:
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(
                f"BEGIN NOT ATOMIC FOR n IN 0 .. {(rows - 1) // size} DO "
                f"INSERT INTO {TABLE} SELECT * FROM prepared WHERE id BETWEEN n * {size} + 1 AND (n + 1) * {size}; "
                "END FOR; END"
            )

    def holds(self, number: int) -> bool:
        return bool(self._run(f"SELECT 1 FROM {TABLE} WHERE id = {number}"))

    def notes(self) -> dict[int, str]:
        return dict(self._run(f"SELECT id, note FROM {TABLE}"))

    def drop(self) -> None:
        self._run(f"DROP TABLE IF EXISTS {TABLE}, prepared")

    def _run(self, statement: str) -> tuple[tuple[Any, ...], ...]:
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            rows: tuple[tuple[Any, ...], ...] = cursor.fetchall()
            return rows

    @property
    def _database(self) -> str:
        return urlsplit(self.url).path.lstrip("/")

    def _connection(self, database: str | None = None) -> pymysql.Connection[Any]:
        parts = urlsplit(self.url)
        return pymysql.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=self._database if database is None else database,
            autocommit=True,
        )


class MongoEnd(End):
    name = "MongoDB"
    transactional = False

    def create(self, rows: int) -> None:
        with self._collection() as collection:
            collection.database.create_collection(TABLE, changeStreamPreAndPostImages={"enabled": True})

    def fill(self, rows: int, size: int = USUAL) -> None:
        with self._collection() as collection:
            for first in range(1, rows + 1, size):
                collection.insert_many([_document(n) for n in range(first, min(first + size, rows + 1))])

    def holds(self, number: int) -> bool:
        with self._collection() as collection:
            return collection.find_one({"_id": number}, {"_id": 1}) is not None

    def notes(self) -> dict[int, str]:
        with self._collection() as collection:
            return {found["_id"]: found["note"] for found in collection.find({}, {"note": 1})}

    def drop(self) -> None:
        with self._collection() as collection:
            collection.drop()

    @contextmanager
    def _collection(self) -> Iterator[pymongo.collection.Collection[dict[str, Any]]]:
        with pymongo.MongoClient[dict[str, Any]](self.url) as client:
            yield client.get_default_database()[TABLE]


def _document(number: int) -> dict[str, Any]:
    return {
        "_id": number,
        "account": number % 1000,
        "amount": Decimal128(f"{number / 100:.2f}"),
        "note": f"payment {number} of account {number % 1000}",
        "settled": number % 2 == 0,
    }
