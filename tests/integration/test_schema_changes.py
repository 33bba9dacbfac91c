"""Changes of a source's tables while its rows change, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient

from connectors.registry import open_sink, open_source
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig, has_table, rig, rows_of, same, settings_for
from worker_sync.capture.preparation import chosen_of, target_function
from worker_sync.core.errors import State, WorkerSyncError
from worker_sync.core.schema import TableName
from worker_sync.store.pipelines import Standing, Status

TABLE = "CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, amount int)"
FILL = "INSERT INTO items SELECT n, 'name ' || n, n FROM generate_series(1, 500) n"

Statements = tuple[str, ...]

CHANGES: dict[str, Statements] = {
    "add": ("ALTER TABLE items ADD COLUMN note text",),
    "add-with-default": ("ALTER TABLE items ADD COLUMN note text NOT NULL DEFAULT 'given'",),
    "add-with-volatile-default": ("ALTER TABLE items ADD COLUMN note double precision DEFAULT random()",),
    "drop": ("ALTER TABLE items DROP COLUMN amount",),
    "rename": ("ALTER TABLE items RENAME COLUMN name TO title",),
    "retype": ("ALTER TABLE items ALTER COLUMN amount TYPE text USING 'n' || amount",),
    "retype-from-text": (
        "UPDATE items SET name = id",
        "ALTER TABLE items ALTER COLUMN name TYPE int USING length(name)",
    ),
    "widen-the-key": ("ALTER TABLE items ALTER COLUMN id TYPE bigint",),
    "drop-and-add-anew": ("ALTER TABLE items DROP COLUMN amount", "ALTER TABLE items ADD COLUMN amount int DEFAULT 7"),
    "swap": (
        "ALTER TABLE items RENAME COLUMN name TO x",
        "ALTER TABLE items ADD COLUMN name text",
        "UPDATE items SET name = 'new ' || x",
        "ALTER TABLE items DROP COLUMN x",
    ),
    "nullable": ("ALTER TABLE items ALTER COLUMN name DROP NOT NULL", "UPDATE items SET name = NULL WHERE id < 10"),
    "in-one-transaction": (
        "BEGIN; UPDATE items SET name = 'before' WHERE id = 1; ALTER TABLE items ADD COLUMN note int DEFAULT 3; "
        "UPDATE items SET note = 5 WHERE id = 2; ALTER TABLE items RENAME COLUMN name TO title; "
        "INSERT INTO items VALUES (10001, 'after', 1, 9); COMMIT",
    ),
    "enum-label": (
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "ALTER TABLE items ADD COLUMN mood mood DEFAULT 'sad'",
        "ALTER TYPE mood ADD VALUE 'fine'",
        "UPDATE items SET mood = 'fine' WHERE id = 3",
    ),
}


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


class Load:
    """Changes rows without naming columns that may go, from a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.transactions = 0
        self.error: psycopg.Error | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.error is None, self.error

    def more(self, count: int = 20) -> None:
        goal = self.transactions + count
        eventually(lambda: self.transactions >= goal)

    def _work(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                while not self._stop.wait(0.005):
                    number = self.transactions
                    connection.execute("UPDATE items SET id = id + 20000 WHERE id = %s", (200 + number % 100,))
                    connection.execute("UPDATE items SET id = id - 20000 WHERE id = %s", (20200 + number % 100,))
                    connection.execute("DELETE FROM items WHERE id = %s", (300 + number % 100,))
                    self.transactions += 1
        except psycopg.Error as error:
            self.error = error


def differences(made: Rig) -> list[tuple[Any, Any]]:
    """Rows that one side has and the other has not, read as `worker-sync verify` does."""
    pipeline = made.settings.pipeline("p")
    source = open_source("source", made.settings.database("source").url.reveal())
    sink = open_sink("target", made.settings.database("target").url.reveal())
    with source, sink:
        records = made.store.versions.of("p")
        chosen = chosen_of(pipeline, made.settings.select(pipeline, source.tables()), records)
        pinned = records if pipeline.schema_changes == "ignore" else {}
        target_of = target_function(source.home, sink, chosen, pinned)
        found: list[tuple[Any, Any]] = []
        with source.reader() as here, sink.reader() as there:
            for table in chosen:
                route = target_of(table.source)
                assert route is not None
                rows = {route.row(row) for row in here.chunk(table.source, None, 100_000).rows}
                found += [(table.source.table, row) for row in rows ^ set(there.chunk(route.target, None, 100_000).rows)]
        return found


def agrees(made: Rig) -> bool:
    """Both sides hold the same rows, and no copy is under way."""
    reports = made.store.reports.all("capture")
    report = reports[0].status["pipelines"].get("p") if reports else None
    if report is None or report["snapshot"]:
        return False
    try:
        return not differences(made)
    except WorkerSyncError:
        return False  # the target's table is not there, or not altered yet


def settles(made: Rig) -> None:
    try:
        eventually(lambda: agrees(made), 40)
    except AssertionError as error:
        known = {str(record.table): record.change for record in made.store.versions.of("p").values()}
        raise AssertionError(f"{error}\n{made.store.pipelines.get('p')}\n{known}\n{differences(made)[:5]}") from None


def applies(source: str, target: str, control: str, *statements: str, **pipeline: Any) -> None:
    """Rows are copied and streamed, `statements` change the table under load, and both sides agree at the end."""
    execute(source, TABLE, FILL)
    settings = settings_for(source, target, ["public.*"], schema_changes="apply", **pipeline)
    with rig(settings, control) as made:
        made.start()
        settles(made)
        with Load(source) as load:
            load.more()
            for statement in statements:
                execute(source, statement)
                load.more(5)
            load.more()
        execute(source, "DELETE FROM items WHERE id = 5")
        settles(made)
        changed = [record.change for record in made.store.versions.of("p").values()]
        assert all("items: " in change for change in changed), changed
        made.stop()


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reaches_postgresql_in_order_with_the_data(
    source_db: str, target_db: str, control_db: str, name: str
) -> None:
    applies(source_db, target_db, control_db, *CHANGES[name])
    assert _columns(target_db) == _columns(source_db)


def _columns(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname"
        ).fetchall()
