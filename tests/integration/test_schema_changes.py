"""Changes of a source's tables while its rows change, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient

from connectors.postgres.source import PostgresSource
from connectors.registry import open_sink, open_source
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.traffic import Traffic
from tests.integration.capture_rig import Rig, has_table, rig, rows_of, same, settings_for
from worker_sync.capture.preparation import chosen_of, target_function
from worker_sync.core.errors import State, WorkerSyncError
from worker_sync.core.schema import TableName, TableSchema
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
        """
        BEGIN; UPDATE items SET name = 'before' WHERE id = 1; ALTER TABLE items ADD COLUMN note int DEFAULT 3;
        UPDATE items SET note = 5 WHERE id = 2; ALTER TABLE items RENAME COLUMN name TO title;
        INSERT INTO items VALUES (10001, 'after', 1, 9); COMMIT
        """,
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


class Load(Traffic):
    """Changes rows without naming columns that may go, from a thread."""

    def work(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stopping.wait(0.005):
                number = self.transactions
                connection.execute("UPDATE items SET id = id + 20000 WHERE id = %s", (200 + number % 100,))
                connection.execute("UPDATE items SET id = id - 20000 WHERE id = %s", (20200 + number % 100,))
                connection.execute("DELETE FROM items WHERE id = %s", (300 + number % 100,))
                self.transactions += 1


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
                found += [
                    (table.source.table, row) for row in rows ^ set(there.chunk(route.target, None, 100_000).rows)
                ]
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
        eventually(lambda: agrees(made), 120)
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


@pytest.mark.parametrize("name", ["add-with-default", "rename", "retype", "in-one-transaction"])
def test_a_change_reaches_mongodb_in_order_with_the_data(
    source_db: str, mongo_target: str, control_db: str, name: str
) -> None:
    applies(source_db, mongo_target, control_db, *CHANGES[name])


def test_a_dropped_column_vanishes_from_documents(source_db: str, mongo_target: str, control_db: str) -> None:
    applies(source_db, mongo_target, control_db, *CHANGES["drop"])
    client: MongoClient[dict[str, Any]] = MongoClient(mongo_target)
    with client:
        assert client.get_default_database().items.count_documents({"amount": {"$exists": True}}) == 0


def test_shards_wait_for_one_another(source_db: str, target_db: str, control_db: str) -> None:
    applies(source_db, target_db, control_db, *CHANGES["in-one-transaction"], shards=3)


def test_a_change_without_traffic_is_noticed(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        execute(source_db, *CHANGES["add-with-default"])
        eventually(lambda: "note" in dict(_columns(target_db)))
        settles(made)
        assert rows_of(target_db, "SELECT DISTINCT note FROM items") == [("given",)]


def test_old_rows_decode_after_a_restart(source_db: str, target_db: str, control_db: str) -> None:
    """While the capture is away the table changes several times, with rows of each version in the log."""
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        made.stop()
        for number, name in enumerate(("add", "rename", "drop", "add-with-volatile-default"), 1):
            statements = CHANGES[name] if number < 4 else ("ALTER TABLE items ADD COLUMN x real DEFAULT random()",)
            execute(source_db, f"UPDATE items SET id = id + 1000 WHERE id = {number}", *statements)
        execute(source_db, "UPDATE items SET title = 'last' WHERE id = 7")
        made.start()
        settles(made)
        assert _columns(target_db) == _columns(source_db)
        made.stop()


# Halt: a person decides.


def halted(made: Rig) -> Standing:
    eventually(lambda: made.store.pipelines.get("p").status is Status.HALTED)
    eventually(lambda: not made.running)
    made.stop()
    return made.store.pipelines.get("p")


@pytest.mark.parametrize(
    ("change", "words", "by_hand"),
    [
        ("add-with-default", "column note (text) was added", "ALTER TABLE items ADD COLUMN note text"),
        ("rename", "column name was renamed title", "ALTER TABLE items RENAME COLUMN name TO title"),
        ("drop", "column amount was dropped", "ALTER TABLE items DROP COLUMN amount"),
        ("retype", "column amount is text now", "ALTER TABLE items ALTER COLUMN amount TYPE text"),
    ],
)
def test_by_default_a_change_halts_and_goes_on_once_the_target_has_it(
    source_db: str, target_db: str, control_db: str, change: str, words: str, by_hand: str
) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start()
        settles(made)
        execute(
            source_db, "UPDATE items SET id = 1001 WHERE id = 1", *CHANGES[change], "DELETE FROM items WHERE id = 2"
        )
        standing = halted(made)
        assert (standing.reason, standing.detail) == (State.SCHEMA_CHANGED, f"public.items: {words}")
        assert standing.recovery.endswith("worker-sync resume p")
        # All that came before is applied, nothing that came behind.
        assert rows_of(target_db, "SELECT id FROM items WHERE id IN (1, 2, 1001) ORDER BY 1") == [(2,), (1001,)]
        execute(target_db, by_hand)
        made.store.pipelines.resume("p")
        made.start()
        settles(made)
        made.stop()


def test_a_halted_pipeline_halts_again_while_the_target_lacks_the_column(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start()
        settles(made)
        execute(source_db, *CHANGES["add"])
        halted(made)
        made.store.pipelines.resume("p")
        made.start()
        assert "note" in halted(made).detail


def test_setting_apply_lets_a_halted_pipeline_go_on(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start()
        settles(made)
        execute(source_db, *CHANGES["add-with-default"], "DELETE FROM items WHERE id = 2")
        halted(made)
        made.store.pipelines.resume("p")
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        made.stop()


def test_another_key_halts_under_apply(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        execute(
            source_db,
            "ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (id, name)",
            "DELETE FROM items WHERE id = 2",
        )
        standing = halted(made)
        assert standing.detail == "public.items: its key is (id, name) now, it was (id)"
        assert standing.recovery.endswith("worker-sync resync p public.items")
        execute(target_db, "ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (id, name)")
        made.store.signals.send("source", "resync", "p", "public.items")
        made.store.pipelines.resume("p")
        made.start()
        settles(made)
        made.stop()


def test_ignored_changes_leave_the_target_as_it_is(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="ignore"), control_db) as made:
        made.start()
        settles(made)
        before = _columns(target_db)
        execute(source_db, *CHANGES["add-with-default"], *CHANGES["drop"], "CREATE TABLE other (id int PRIMARY KEY)")
        execute(
            source_db, "UPDATE items SET name = 'later' WHERE id = 3", "INSERT INTO items VALUES (1000, 'new', 'x')"
        )
        eventually(lambda: rows_of(target_db, "SELECT * FROM items WHERE id = 1000") == [(1000, "new", None)])
        settles(made)
        assert rows_of(target_db, "SELECT * FROM items WHERE id = 3") == [(3, "later", 3)]
        assert _columns(target_db) == before
        assert not has_table(target_db, "other")
        made.stop()
        made.start()
        execute(source_db, "INSERT INTO items VALUES (1001, 'new', 'x')")
        eventually(lambda: rows_of(target_db, "SELECT * FROM items WHERE id = 1001") == [(1001, "new", None)])
        assert not has_table(target_db, "other")
        made.stop()


# Tables that come and go.


def test_a_new_table_is_carried_from_its_first_row_on(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        execute(source_db, "CREATE TABLE other (id int PRIMARY KEY, name text)")
        execute(source_db, *[f"INSERT INTO other VALUES ({n}, 'n')" for n in range(200)])
        execute(source_db, "DELETE FROM items WHERE id = 4")
        eventually(lambda: same(source_db, target_db, "other"), 120)
        execute(source_db, "UPDATE other SET name = 'later' WHERE id > 100", "INSERT INTO other VALUES (1000, 'x')")
        eventually(lambda: same(source_db, target_db, "other"))
        settles(made)
        made.stop()


def test_by_default_a_new_table_halts_and_resume_takes_it(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start()
        settles(made)
        execute(source_db, "CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO other VALUES (1)")
        assert halted(made).detail == "public.other is a new table"
        assert not has_table(target_db, "other")
        made.store.pipelines.resume("p")
        made.start()
        eventually(lambda: same(source_db, target_db, "other"), 120)
        made.stop()


def test_a_table_that_changes_while_the_catalog_is_read_is_not_changed_back(
    source_db: str, target_db: str, control_db: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    execute(source_db, TABLE, FILL)
    read = PostgresSource.tables
    armed = threading.Event()

    def overtaken(source: PostgresSource) -> list[TableSchema]:
        tables = read(source)
        if armed.is_set():
            armed.clear()
            execute(source_db, "ALTER TABLE items ADD COLUMN note int", "UPDATE items SET note = 5 WHERE id = 2")
            eventually(lambda: "note (integer) was added" in caplog.text)
        return tables

    monkeypatch.setattr(PostgresSource, "tables", overtaken)
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        armed.set()
        execute(source_db, "CREATE TABLE another (id int PRIMARY KEY)")  # something to look at
        eventually(lambda: not armed.is_set())
        settles(made)
        eventually(lambda: has_table(target_db, "another"))
        execute(source_db, "DELETE FROM items WHERE id = 5")
        settles(made)
        assert "was dropped" not in caplog.text
        made.stop()


@pytest.mark.parametrize("target", ["target_db", "mongo_target", "mariadb_target"])
def test_versions_of_a_table_that_meet_in_one_batch_keep_their_order(
    request: pytest.FixtureRequest, source_db: str, control_db: str, target: str
) -> None:
    execute(source_db, TABLE, FILL)
    settings = settings_for(source_db, request.getfixturevalue(target), ["public.*"], schema_changes="ignore")
    with rig(settings, control_db) as made:
        made.start()
        settles(made)
        execute(
            source_db,
            """
            BEGIN;
            INSERT INTO items SELECT n, 'of the old version', n FROM generate_series(2000, 2099) n;
            UPDATE items SET name = 'of the old version' WHERE id < 100;
            UPDATE items SET id = id + 5000 WHERE id = 300;
            ALTER TABLE items ADD COLUMN note text;
            DELETE FROM items WHERE id >= 2000 AND id < 3000;
            UPDATE items SET name = 'of the new version' WHERE id < 100;
            UPDATE items SET id = id - 5000 WHERE id = 5300;
            COMMIT
            """,
        )
        settles(made)
        assert any(len(batch.tables) == 2 for batch in made.delivery.published)
        made.stop()


def test_a_dropped_table_stays_in_the_target(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL, "CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO other VALUES (1)")
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        execute(source_db, "DROP TABLE other")
        eventually(lambda: made.store.versions.of("p")[TableName("public", "other")].gone)
        execute(source_db, "DELETE FROM items WHERE id = 4")
        settles(made)
        made.stop()
        made.start()
        execute(source_db, "DELETE FROM items WHERE id = 5")
        settles(made)
        assert rows_of(target_db, "SELECT * FROM other") == [(1,)]
        assert made.running
        # One that comes back under its name is another table.
        execute(source_db, "CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO other VALUES (2)")
        assert halted(made).recovery == "worker-sync resync p public.other"
        made.store.signals.send("source", "resync", "p", "public.other")
        made.store.pipelines.resume("p")
        made.start()
        eventually(lambda: same(source_db, target_db, "other"), 120)
        made.stop()


def test_a_renamed_table_halts(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL)
    with rig(settings_for(source_db, target_db, ["public.*"], schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        execute(source_db, "ALTER TABLE items RENAME TO things")
        assert halted(made).detail == "public.items was renamed public.things"
        made.store.pipelines.resume("p")
        made.start()
        eventually(lambda: same(source_db, target_db, "things"), 120)
        made.stop()


def test_an_excluded_column_may_change_but_not_hide(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE, FILL, "ALTER TABLE items ADD COLUMN secret text DEFAULT 'hidden'")
    tables = [{"name": "public.items", "columns": {"exclude": ["secret"]}}]
    with rig(settings_for(source_db, target_db, tables, schema_changes="apply"), control_db) as made:
        made.start()
        settles(made)
        execute(source_db, "ALTER TABLE items ALTER COLUMN secret TYPE varchar(30)", "DELETE FROM items WHERE id = 3")
        settles(made)
        assert made.store.versions.of("p")[TableName("public", "items")].change == ""
        execute(source_db, "ALTER TABLE items RENAME COLUMN secret TO hint", "UPDATE items SET id = 1000 WHERE id = 4")
        assert "the excluded or masked column secret is gone" in halted(made).detail
        assert "hint" not in dict(_columns(target_db))
