"""A table of every source type with its samples, on a real server of each engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import msgspec
import psycopg
from pymongo import MongoClient

from connectors.matrix import Extreme, SourceType
from connectors.mongodb.collections import DOCUMENT, DOCUMENT_TYPE
from connectors.mongodb.source_types import SOURCE_TYPES as MONGODB_TYPES
from connectors.mysql import source_types
from connectors.postgres import matrix as postgres_matrix
from connectors.registry import open_source
from tests.fixtures import fix_mysql
from tests.matrix.mongodb_values import NAMES
from tests.matrix.mongodb_values import VALUES as MONGODB_VALUES
from tests.matrix.mysql_values import VALUES as MYSQL_VALUES
from tests.matrix.postgres_values import VALUES as POSTGRES_VALUES
from tests.matrix.samples import Sample, column_of, samples
from worker_sync.core.schema import TableName, TableSchema, Type
from worker_sync.core.values import Row

TABLE: Final = "samples"
ID: Final = "id"
ROOM: Final = 100_000


@dataclass(frozen=True, slots=True)
class Read:
    """The table of samples as a source gives it."""

    schema: TableSchema
    rows: dict[int, Row]
    samples: Sequence[Sample]
    expected_types: dict[str, Type]

    @property
    def types(self) -> dict[str, Type]:
        return {column.name: column.type for column in self.schema.columns if column.name not in self.schema.key}

    def only(self, columns: Collection[str]) -> Read:
        """The same without the other columns, and without the rows that have their values there."""
        kept = [at for at, name in enumerate(self.schema.column_names) if name in columns or name in self.schema.key]
        samples = [sample for sample in self.samples if sample.column in columns]
        rows = {sample.row: tuple(self.rows[sample.row][at] for at in kept) for sample in samples}
        schema = msgspec.structs.replace(self.schema, columns=tuple(self.schema.columns[at] for at in kept))
        return Read(schema, rows, samples, self.expected_types)

    def type_of(self, sample: Sample) -> Type:
        return self.types[sample.column]


class SourceBed(ABC):
    """An empty database that gets the table of samples."""

    types: Sequence[SourceType]
    samples: Sequence[Sample]
    #: Extreme values of the engine's types that this server can't hold.
    lacks: ClassVar[frozenset[Extreme]] = frozenset()

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def create(self) -> TableName:
        """Make the table with one column for each type, and a row for each sample."""

    def read(self) -> Read:
        """What a source gives of it."""
        name = self.create()
        with open_source("samples", self.url) as source, source.reader() as reader:
            schema = reader.schema(name)
            assert schema is not None
            chunk = reader.chunk(schema, None, ROOM)
            assert chunk.done
            return Read(schema, {int(row[0]): row for row in chunk.rows}, self.samples, self.expected_types())

    def expected_types(self) -> dict[str, Type]:
        """The columns beside the key."""
        return {column_of(number): declared.type for number, declared in enumerate(self.types)}


class PostgresBed(SourceBed):
    types = postgres_matrix.SOURCE_TYPES
    samples = samples(types, POSTGRES_VALUES, SourceBed.lacks)

    def create(self) -> TableName:
        with psycopg.connect(self.url) as connection:
            create_types(connection)
            columns = [f"{column_of(number)} {source.declaration}" for number, source in enumerate(self.types)]
            connection.execute(f"CREATE TABLE {TABLE} ({ID} bigint PRIMARY KEY, {', '.join(columns)})".encode())
            for sample in self.samples:
                insert = f"INSERT INTO {TABLE} ({ID}, {sample.column}) VALUES ({sample.row}, {sample.literal})"
                connection.execute(insert.encode())
        return TableName("public", TABLE)


class _MysqlFamilyBed(SourceBed):
    def create(self) -> TableName:
        columns = [f"{column_of(number)} {source.declaration} NULL" for number, source in enumerate(self.types)]
        rows = [
            f"INSERT INTO {TABLE} ({ID}, {sample.column}) VALUES ({sample.row}, {sample.literal})"
            for sample in self.samples
        ]
        table = f"CREATE TABLE {TABLE} ({ID} bigint PRIMARY KEY, {', '.join(columns)})"
        fix_mysql.run(self.url, "SET sql_mode = ''", table, *rows)
        return TableName("", TABLE)


def _mysql_types(server: str) -> list[SourceType]:
    return [source for source in source_types.SOURCE_TYPES if source.server in ("", server)]


class MysqlBed(_MysqlFamilyBed):
    lacks = frozenset({Extreme.KEY_TWICE, Extreme.HUGE_IN_JSON})
    types = _mysql_types("MySQL")
    samples = samples(types, MYSQL_VALUES, lacks)


class MariadbBed(_MysqlFamilyBed):
    lacks = frozenset({Extreme.NEGATIVE_ZERO, Extreme.DEPTH_31})
    types = _mysql_types("MariaDB")
    samples = samples(types, MYSQL_VALUES, lacks)


class MongoBed(SourceBed):
    types = MONGODB_TYPES
    samples = tuple(replace(sample, column=DOCUMENT) for sample in samples(types, MONGODB_VALUES, SourceBed.lacks))

    def create(self) -> TableName:
        with MongoClient[dict[str, Any]](self.url) as client:
            documents = [{"_id": sample.row, "v": eval(sample.literal, NAMES)} for sample in self.samples]
            client.get_default_database()[TABLE].insert_many(documents)
        return TableName("", TABLE)

    def expected_types(self) -> dict[str, Type]:
        return {DOCUMENT: DOCUMENT_TYPE}


#: Defaults of the database that change what values look like, or how they are read.
_HOSTILE: Final = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Tokyo",
}


def create_types(connection: psycopg.Connection) -> None:
    """What no table creation brings along, extensions and composite types; and settings that must not matter."""
    for statement in (
        "CREATE EXTENSION citext SCHEMA public",
        "CREATE EXTENSION hstore SCHEMA public",
        "CREATE TYPE public.pair AS (number integer, words text)",
        "CREATE TYPE public.mood AS ENUM ('it''s', 'so\\so', '', 'NULL')",
        *(f"ALTER DATABASE \"{connection.info.dbname}\" SET {name} = '{value}'" for name, value in _HOSTILE.items()),
    ):
        connection.execute(statement.encode())
