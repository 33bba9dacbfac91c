"""A table of every source type with its samples, on a real server of each engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import psycopg

from connectors.matrix import SourceType
from connectors.postgres import matrix as postgres_matrix
from connectors.registry import open_source
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
        return {column.name: column.type for column in self.schema.columns if column.name != ID}

    def type_of(self, sample: Sample) -> Type:
        return self.types[sample.column]


class SourceBed(ABC):
    """An empty database that gets the table of samples."""

    engine: ClassVar[str]
    types: Sequence[SourceType]
    samples: list[Sample]

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
            expected = {column_of(number): declared.type for number, declared in enumerate(self.types)}
            return Read(schema, {row[0]: row for row in chunk.rows}, self.samples, expected)


class PostgresBed(SourceBed):
    engine = "postgresql"
    types = postgres_matrix.SOURCE_TYPES
    samples = samples(types, POSTGRES_VALUES)

    def create(self) -> TableName:
        with psycopg.connect(self.url) as connection:
            create_types(connection)
            columns = [f"{column_of(number)} {source.declaration}" for number, source in enumerate(self.types)]
            connection.execute(f"CREATE TABLE {TABLE} ({ID} bigint PRIMARY KEY, {', '.join(columns)})".encode())
            for sample in self.samples:
                insert = f"INSERT INTO {TABLE} ({ID}, {sample.column}) VALUES ({sample.row}, {sample.literal})"
                connection.execute(insert.encode())
        return TableName("public", TABLE)


def create_types(connection: psycopg.Connection) -> None:
    """What no table creation brings along: extensions and composite types."""
    for statement in (
        "CREATE EXTENSION citext SCHEMA public",
        "CREATE EXTENSION hstore SCHEMA public",
        "CREATE TYPE public.pair AS (number integer, words text)",
        "CREATE TYPE public.mood AS ENUM ('it''s', 'so\\so', '', 'NULL')",
    ):
        connection.execute(statement.encode())
