"""MariaDB and MySQL join the source suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest

from connectors.base import Source
from connectors.mysql.conn import database_name
from connectors.mysql.source import MysqlSource
from tests.contract.source_contract import SourceContract
from tests.contract.source_engine import SourceEngine, Values, Writer
from tests.fixtures.fix_mysql import connect, new_mysql_database, run
from worker_sync.core.schema import Kind, TableName

_TYPES = {Kind.INT: "BIGINT", Kind.TEXT: "VARCHAR(200) COLLATE utf8mb4_bin", Kind.UUID: "CHAR(36) COLLATE utf8mb4_bin"}


class _MysqlWriter(Writer):
    def __init__(self, cursor: pymysql.cursors.Cursor) -> None:
        self._cursor = cursor
        self._comment = ""

    def insert(self, table: TableName, *rows: Values) -> None:
        columns = list(rows[0])
        one = f"({', '.join(['%s'] * len(columns))})"
        values = [row[column] for row in rows for column in columns]
        self._run(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([one] * len(rows))}", values)

    def update(self, table: TableName, key: Values, values: Values) -> None:
        parameters = [*values.values(), *key.values()]
        self._run(f"UPDATE {table.name} SET {_pairs(values, ', ')} WHERE {_pairs(key, ' AND ')}", parameters)

    def delete(self, table: TableName, key: Values) -> None:
        self._run(f"DELETE FROM {table.name} WHERE {_pairs(key, ' AND ')}", list(key.values()))

    def truncate(self, table: TableName) -> None:
        self._run(f"TRUNCATE {table.name}", [])

    def message(self, prefix: str, content: bytes) -> None:
        self._comment = f"/* {prefix} {content.decode()} */ "

    def _run(self, statement: str, parameters: list[Any]) -> None:
        self._cursor.execute(self._comment + statement, parameters)
        self._comment = ""


class _MysqlEngine(SourceEngine):
    remembers_confirmations = False

    def __init__(self, url: str) -> None:
        self._url = url

    def source(self) -> Source:
        return MysqlSource(self.name, self._url)

    def create_table(self, name: str, columns: Mapping[str, Kind], key: Sequence[str]) -> TableName:
        definitions = [f"{column} {_TYPES[kind]}{' NOT NULL' * (column in key)}" for column, kind in columns.items()]
        run(self._url, f"CREATE TABLE {name} ({', '.join(definitions)}, PRIMARY KEY ({', '.join(key)}))")
        return TableName(database_name(self._url), name)

    @contextmanager
    def transaction(self) -> Iterator[Writer]:
        with connect(self._url) as connection, connection.cursor() as cursor:
            if self._url.startswith("mysql:"):
                cursor.execute("SET SESSION binlog_rows_query_log_events = ON")
            cursor.execute("BEGIN")
            try:
                yield _MysqlWriter(cursor)
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def stir(self) -> None:
        run(self._url, "CREATE TABLE IF NOT EXISTS unrelated (id INT)", "INSERT INTO unrelated VALUES (1), (2), (3)")


def _pairs(values: Values, separator: str) -> str:
    return separator.join(f"{column} = %s" for column in values)


@pytest.fixture(params=["mariadb", "mysql"])
def engine(request: pytest.FixtureRequest) -> Iterator[SourceEngine]:
    with new_mysql_database(request.getfixturevalue(request.param), "source") as url:
        yield _MysqlEngine(url)


class TestMysqlSource(SourceContract):
    pass
