"""An empty database of each engine that the samples are written to, and what its own driver says of it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import psycopg
from pymongo import MongoClient

from connectors.base import Sink
from connectors.matrix import Extreme, TargetType
from connectors.mongodb import matrix as mongodb_matrix
from connectors.mysql import matrix as mysql_matrix
from connectors.postgres import matrix as postgres_matrix
from connectors.registry import open_sink
from tests.fixtures.fix_mysql import run
from tests.matrix.sources import Read, create_types
from worker_sync.core.schema import TableSchema, Type


class TargetBed(ABC):
    """An empty target database."""

    engine: ClassVar[str]
    #: What the engine's part of the matrix says of a type and the engine that it comes from.
    describe: Callable[[Type, str], TargetType]
    #: The server's name, where the matrix tells servers of one engine apart.
    server: ClassVar[str] = ""

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Sink:
        return open_sink("target", self.url)

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make what a table creation does not bring along."""

    def takes(self, read: Read) -> Read:
        """What has a type here that a table can be created with."""
        return read

    def refuses(self, type_: Type, engine: str) -> frozenset[Extreme]:
        """What the matrix says that this server refuses."""
        said = self.describe(type_, engine)
        return frozenset(extreme for extreme in said.refuses if said.only.get(extreme, self.server) == self.server)

    def spelling(self, name: str) -> str:
        """A type's name in the one form in which names are compared."""
        return name

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
        return self.spelling(str(self._one(f"SET search_path = pg_catalog; {query}")))

    def spelling(self, name: str) -> str:
        return name.replace(" without time zone", "")

    def value(self, table: TableSchema, column: str, row: int) -> Any:
        return self._one(f"SELECT {column} FROM {table.table} WHERE {table.key[0]} = '{row}'")

    def _one(self, query: str) -> Any:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(query.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall()[0][0]


class MysqlTarget(TargetBed):
    engine = "mysql"
    server = "MySQL"
    describe = staticmethod(mysql_matrix.describe)

    def takes(self, read: Read) -> Read:
        mine = {sample.column for sample in read.samples if sample.source.server in ("", self.server)}
        return read.only(mine) if read.schema.engine == self.engine else read

    def type_name(self, table: TableSchema, column: str, row: int) -> str:
        query = (
            "SELECT column_type FROM information_schema.columns "
            f"WHERE table_schema = database() AND table_name = '{table.table}' AND column_name = '{column}'"
        )
        return self.spelling(str(run(self.url, query)[0][0]))

    def spelling(self, name: str) -> str:
        # MariaDB shows a width with its integers, and its JSON is text.
        return re.sub(r"((?:int|year))\((?!1\))\d+\)| CHARACTER SET .*", r"\1", name)

    def value(self, table: TableSchema, column: str, row: int) -> Any:
        return run(self.url, f"SELECT {column} FROM `{table.table}` WHERE {table.key[0]} = '{row}'")[0][0]


class MariadbTarget(MysqlTarget):
    server = "MariaDB"

    def spelling(self, name: str) -> str:
        return "longtext" if name == "json" else super().spelling(name)


class MongoTarget(TargetBed):
    engine = "mongodb"
    describe = staticmethod(mongodb_matrix.describe)

    def type_name(self, table: TableSchema, column: str, row: int) -> str:
        if table.engine == self.engine:
            return "the same"
        stages: list[dict[str, Any]] = [{"$match": {"_id": row}}, {"$project": {"type": {"$type": f"${column}"}}}]
        with MongoClient[dict[str, Any]](self.url) as client:
            return str(next(iter(client.get_default_database()[str(table.table)].aggregate(stages)))["type"])

    def value(self, table: TableSchema, column: str, row: int) -> Any:
        with MongoClient[dict[str, Any]](self.url) as client:
            found = client.get_default_database()[str(table.table)].find_one({"_id": row})
        assert found is not None
        return found["v" if table.engine == self.engine else column]
