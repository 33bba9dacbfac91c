"""Migrations of the control store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import LiteralString

import psycopg
import pytest

from tests.fixtures.fix_postgres import new_database
from worker_sync.core.errors import ConfigError
from worker_sync.store import ControlStore, NotInitialized
from worker_sync.store.migrate import migrations
from worker_sync.store.queries import parse, queries

CATALOG: LiteralString = """
SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text || a.attidentity::text,
       coalesce(pg_get_expr(d.adbin, d.adrelid), ''), a.attnum::text
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'worker_sync_control'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
FROM pg_constraint WHERE connamespace = 'worker_sync_control'::regnamespace
UNION ALL
SELECT 'index', tablename, indexname, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'worker_sync_control'
ORDER BY 1, 2, 3
"""


@pytest.fixture
def empty_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "schema") as url:
        yield url


def catalog(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(CATALOG).fetchall()


def test_the_schema_file_equals_all_migrations(target_db: str, empty_db: str) -> None:
    with ControlStore(target_db) as store:
        store.migrate()
    schema = (files("worker_sync.store") / "schema.sql").read_text()
    with psycopg.connect(empty_db) as connection:
        connection.execute(schema.encode())
    assert catalog(target_db) == catalog(empty_db)
    assert len(catalog(target_db)) > 40


def test_a_second_migration_does_nothing(target_db: str) -> None:
    with ControlStore(target_db) as store:
        assert store.migrate() == list(migrations())
        store.require()
        assert store.migrate() == []


def test_migrations_at_the_same_time_apply_once(target_db: str) -> None:
    def migrated(_: int) -> int:
        with ControlStore(target_db) as store:
            return len(store.migrate())

    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrated, range(4)))
    assert sorted(applied) == [0, 0, 0, len(migrations())]


def test_a_newer_control_store_is_refused(target_db: str) -> None:
    with ControlStore(target_db) as store:
        store.migrate()
        with psycopg.connect(target_db, autocommit=True) as connection:
            connection.execute("INSERT INTO worker_sync_control.migrations VALUES (9999, 'future')")
        with pytest.raises(ConfigError, match="use the newer program"):
            store.migrate()


def test_a_store_without_tables_says_what_to_run(target_db: str) -> None:
    with ControlStore(target_db) as store, pytest.raises(NotInitialized, match="run `worker-sync init`") as caught:
        store.pipelines.all()
    assert caught.value.exit_code == 2


def test_the_oldest_supported_server_takes_the_migrations(source_db15: str) -> None:
    with ControlStore(source_db15) as store:
        store.migrate()
        assert store.leases.acquire("capture:shop", "a", 1) is not None


def test_every_statement_is_understood_by_the_server(target_db: str) -> None:
    with ControlStore(target_db) as store:
        store.migrate()
    with psycopg.connect(target_db, autocommit=True) as connection:
        for name, text in queries().items():
            if "%(" not in text and name != "create_migrations":
                connection.execute(text.encode())


def test_a_query_name_that_stands_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse("-- a: One.\nSELECT 1;\n-- a: Two.\nSELECT 2;\n")
