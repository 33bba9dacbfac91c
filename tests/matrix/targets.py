"""An empty database of each engine that the samples are written to, and what its own driver says of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import psycopg
from pymongo import MongoClient

from connectors.base import Sink
from connectors.matrix import TargetType
from connectors.mongodb import matrix as mongodb_matrix
from connectors.mysql import matrix as mysql_matrix
from connectors.postgres import matrix as postgres_matrix
from connectors.registry import open_sink
from tests.fixtures.fix_mysql import run
from tests.matrix.sources import create_types
from worker_sync.core.schema import TableSchema, Type


class TargetBed(ABC):
    """An empty target database."""

    engine: ClassVar[str]
    #: What the engine's part of the matrix says of a type and the engine that it comes from.
    describe: Callable[[Type, str], TargetType]
    #: JSON reads back with the spaces and exponents that it came with.
    keeps_layout: ClassVar[bool] = True

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Sink:
        return open_sink("target", self.url)

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make what a table creation does not bring along."""

    @abstractmethod
    def type_name(self, table: TableSchema, column: str, row: int) -> str:
        """The type in which the engine itself says that it holds the value in this column of this row."""

    @abstractmethod
    def value(self, table: TableSchema, column: str, row: int) -> Any:
        """The value as the engine's own driver gives it."""


class PostgresTarget(TargetBed):
    engine = "postgresql"
    describe = staticmethod(postgres_matrix.describe)

    def prepare(self) -> None:
        with psycopg.connect(self.url) as connection:
            create_types(connection)

    def type_name(self, table: TableSchema, column: str, row: int) -> str:
        query = (
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = '{table.table}'::regclass AND attname = '{column}'"
        )
        return str(self._one(f"SET search_path = pg_catalog; {query}"))

    def value(self, table: TableSchema, column: str, row: int) -> Any:
        return self._one(f"SELECT {column} FROM {table.table} WHERE id = {row}")

    def _one(self, query: str) -> Any:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(query.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall()[0][0]


class MysqlTarget(TargetBed):
    engine = "mysql"
    describe = staticmethod(mysql_matrix.describe)

    def type_name(self, table: TableSchema, column: str, row: int) -> str:
        query = (
            "SELECT column_type FROM information_schema.columns "
            f"WHERE table_schema = database() AND table_name = '{table.table}' AND column_name = '{column}'"
        )
        return str(run(self.url, query)[0][0])

    def value(self, table: TableSchema, column: str, row: int) -> Any:
        return run(self.url, f"SELECT {column} FROM `{table.table}` WHERE id = {row}")[0][0]


class MongoTarget(TargetBed):
    engine = "mongodb"
    describe = staticmethod(mongodb_matrix.describe)
    keeps_layout = False

    def type_name(self, table: TableSchema, column: str, row: int) -> str:
        stages = [{"$match": {"_id": row}}, {"$project": {"type": {"$type": f"${column}"}}}]
        with MongoClient[dict[str, Any]](self.url) as client:
            return str(next(iter(client.get_default_database()[str(table.table)].aggregate(stages)))["type"])

    def value(self, table: TableSchema, column: str, row: int) -> Any:
        with MongoClient[dict[str, Any]](self.url) as client:
            found = client.get_default_database()[str(table.table)].find_one({"_id": row})
        assert found is not None
        return found[column]
