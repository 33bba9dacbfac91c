"""PostgreSQL as a target: newest and oldest version, and a role for which foreign keys and triggers do fire."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from connectors.base import Sink
from connectors.postgres.sink import PostgresSink
from connectors.postgres.statements import quote, quote_table
from tests.contract.sink_contract import SinkContract
from tests.contract.sink_target import SinkTarget
from worker_sync.core.schema import TableSchema


class PostgresTarget(SinkTarget):
    def __init__(self, admin: str, url: str) -> None:
        self.admin = admin
        self.url = url

    def open(self) -> Sink:
        return PostgresSink("target", self.url)

    def add_unique(self, table: TableSchema, columns: Sequence[str]) -> None:
        with psycopg.connect(self.admin) as connection:
            connection.execute(
                f"ALTER TABLE {quote_table(table.table)} ADD UNIQUE ({', '.join(map(quote, columns))})".encode()
            )


def ordinary_role(admin: str) -> str:
    """The URL of the same database for a role without special rights, which may create tables in it."""
    parts = urlsplit(admin)
    database = parts.path.lstrip("/")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {database}_user LOGIN PASSWORD 'user'".encode())
        connection.execute(f"GRANT CREATE, TEMPORARY ON DATABASE {database} TO {database}_user".encode())
        connection.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {database}_user".encode())
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{database}_user:user@{host}"))


class TestPostgresSink(SinkContract):
    @pytest.fixture
    def target(self, target_db: str) -> SinkTarget:
        return PostgresTarget(target_db, target_db)


class TestPostgres15Sink(SinkContract):
    @pytest.fixture
    def target(self, source_db15: str) -> SinkTarget:
        return PostgresTarget(source_db15, source_db15)


class TestPostgresSinkOfAnOrdinaryRole(SinkContract):
    @pytest.fixture
    def target(self, target_db: str) -> SinkTarget:
        return PostgresTarget(target_db, ordinary_role(target_db))
