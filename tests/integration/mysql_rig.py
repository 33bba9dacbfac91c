"""A database on MariaDB or MySQL with a source on it, for the tests of its stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql

from connectors.mysql.conn import database_name
from connectors.mysql.source import MysqlSource
from tests.contract.source_engine import Follower, following
from tests.fixtures.fix_mysql import connect, run
from worker_sync.core.change import Change
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Row


class Rig:
    """Writes to the database and reads what its stream brings."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.source = MysqlSource("rig", url)
        self.start = ""

    @property
    def is_mariadb(self) -> bool:
        return self.url.startswith("mariadb:")

    def table(self, name: str) -> TableName:
        return TableName(database_name(self.url), name)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in one session, each a transaction of its own unless they say otherwise."""
        return run(self.url, *statements)

    def begin(self, *tables: str) -> None:
        """Create the stream for these tables."""
        self.start = self.source.create_stream([self.table(name) for name in tables]).commit

    @contextmanager
    def session(self) -> Iterator[pymysql.cursors.Cursor]:
        with connect(self.url) as connection, connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def following(self, limit: int = 1_000) -> Iterator[Follower]:
        with following(self.source, self.start, limit) as follower:
            yield follower

    def changes(self, count: int) -> tuple[list[Change], dict[int, TableSchema]]:
        """The first changes since the stream began."""
        with self.following() as follower:
            return [change for _, change in follower.read_changes(count)], follower.stream.schemas

    def to_head(self) -> list[Change]:
        """All changes up to the end of the log."""
        head = self.source.stream_status().head
        with self.following() as follower:
            follower.read_to(head)
            return [change for _, change in follower.changes]

    def current(self, name: str) -> tuple[TableSchema, list[Row]]:
        """The table as the reader sees it."""
        with self.source.reader() as reader:
            schema = reader.schema(self.table(name))
            assert schema is not None
            return schema, reader.chunk(schema, None, 10_000).rows


def afters(changes: Sequence[Change]) -> list[Row | None]:
    return [change.after for change in changes]
