"""PostgreSQL joins the source suite, with the newest and the oldest supported server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from connectors.base import Source
from connectors.postgres.source import PostgresSource
from tests.contract.source_contract import SourceContract
from tests.contract.source_engine import SourceEngine, Values, Writer
from tests.fixtures.fix_postgres import new_database
from worker_sync.core.schema import Kind, TableName

_TYPES = {Kind.INT: "bigint", Kind.TEXT: "text", Kind.UUID: "uuid"}


class PostgresWriter(Writer):
    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn

    def insert(self, table: TableName, *rows: Values) -> None:
        columns = list(rows[0])
        one = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(columns)))
        query = sql.SQL("INSERT INTO {} ({}) VALUES {}").format(
            _name(table), sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join([one] * len(rows))
        )
        self.conn.execute(query, [row[column] for row in rows for column in columns])

    def update(self, table: TableName, key: Values, values: Values) -> None:
        query = sql.SQL("UPDATE {} SET {} WHERE {}").format(_name(table), _pairs(values, ", "), _pairs(key, " AND "))
        self.conn.execute(query, [*values.values(), *key.values()])

    def delete(self, table: TableName, key: Values) -> None:
        query = sql.SQL("DELETE FROM {} WHERE {}").format(_name(table), _pairs(key, " AND "))
        self.conn.execute(query, list(key.values()))

    def truncate(self, table: TableName) -> None:
        self.conn.execute(sql.SQL("TRUNCATE {}").format(_name(table)))

    def message(self, prefix: str, content: bytes) -> None:
        self.conn.execute("SELECT pg_logical_emit_message(true, %s, %s::bytea)", (prefix, content))


class _PostgresEngine(SourceEngine):
    def __init__(self, url: str) -> None:
        self._url = url

    def source(self) -> Source:
        return PostgresSource(self.name, self._url)

    def create_table(self, name: str, columns: Mapping[str, Kind], key: Sequence[str]) -> TableName:
        return create_table(self._url, name, columns, key)

    @contextmanager
    def transaction(self) -> Iterator[Writer]:
        with psycopg.connect(self._url) as conn:
            yield PostgresWriter(conn)

    def stir(self) -> None:
        with psycopg.connect(self._url) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS unrelated (id int)")
            conn.execute("INSERT INTO unrelated SELECT generate_series(1, 100)")


def create_table(url: str, name: str, columns: Mapping[str, Kind], key: Sequence[str]) -> TableName:
    table = TableName("public", name)
    definitions = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(_TYPES[kind])) for column, kind in columns.items()
    ]
    query = sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(
        _name(table), sql.SQL(", ").join(definitions), sql.SQL(", ").join(map(sql.Identifier, key))
    )
    with psycopg.connect(url) as conn:
        conn.execute(query)
    return table


def _name(table: TableName) -> sql.Identifier:
    return sql.Identifier(table.namespace, table.name)


def _pairs(values: Values, separator: str) -> sql.Composed:
    return sql.SQL(separator).join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Placeholder()) for n in values)


@pytest.fixture(params=["postgres", "postgres15"])
def engine(request: pytest.FixtureRequest) -> Iterator[SourceEngine]:
    with new_database(request.getfixturevalue(request.param), "source") as url:
        yield _PostgresEngine(url)


class TestPostgresSource(SourceContract):
    pass
