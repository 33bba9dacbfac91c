"""What the log holds of tables that the source has no more stands in the trail all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient

from tests.fixtures import fix_mysql
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig
from tests.integration.test_audit import TRAIL, Entry, changes, entries, recording
from worker_sync.core.errors import State
from worker_sync.store.pipelines import Status


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def told(found: list[Entry]) -> list[tuple[Any, ...]]:
    return [(entry["operation"], entry["table"].rpartition(".")[2], entry["key"]) for entry in found]


def one_end(control: str, table: str) -> Entry:
    """The entry that tells the end of the table; there are never two."""

    def ends() -> list[Entry]:
        found = [entry for entry in entries(control) if entry["kind"] == "schema" and entry["after"] is None]
        return [entry for entry in found if entry["table"].endswith(table)]

    [end] = eventually(ends, 60, f"the end of {table} is recorded")
    return end


def halted(running: Rig, state: State, word: str = "") -> None:
    """The trail stands in the state, for what the word says."""
    eventually(lambda: running.store.pipelines.get(TRAIL).status is Status.HALTED, 60, "the trail halts")
    standing = running.store.pipelines.get(TRAIL)
    assert standing.reason == state
    assert word in standing.detail


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_changes_of_a_table_that_was_dropped_since_are_recorded(source_db: str, control_db: str, identity: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        connection.execute(f"ALTER TABLE orders REPLICA IDENTITY {identity}".encode())
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
        with recording(source_db, control_db, ["public.*"]) as running:
            connection.execute("INSERT INTO orders VALUES (1, 'before')")
            changes(control_db, 1)
            running.stop()
            connection.execute("INSERT INTO orders VALUES (2, 'unseen')")
            connection.execute("ALTER TABLE orders ADD more int")
            connection.execute("UPDATE orders SET more = 3 WHERE id = 2")
            connection.execute("DROP TABLE orders")
            connection.execute("INSERT INTO kept VALUES (1)")
            running.start()
            found = changes(control_db, 4)
    assert [(entry["operation"], entry["table"], entry["key"]["id"]) for entry in found] == [
        ("insert", "public.orders", "1"),
        ("insert", "public.orders", "2"),
        ("update", "public.orders", "2"),
        ("insert", "public.kept", "1"),
    ]


def test_changes_of_a_dropped_table_that_were_lost_on_their_way_are_sent_again(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
        with recording(source_db, control_db, ["public.*"]) as running:
            running.delivery.lose = 1.0
            connection.execute("INSERT INTO orders VALUES (1)")
            sent = running.delivery.published
            eventually(lambda: any(batch.changes for batch in sent), 60, "the change is lost on its way")
            connection.execute("DROP TABLE orders")
            running.stop()
            running.delivery.lose = 0.0
            running.start()
            connection.execute("INSERT INTO kept VALUES (1)")
            found = changes(control_db, 2)
            one_end(control_db, "orders")
    assert [entry["table"] for entry in found] == ["public.orders", "public.kept"]


def test_a_drop_is_an_entry_behind_the_last_change_and_only_one_however_often_it_starts(
    source_db: str, control_db: str
) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
        with recording(source_db, control_db, ["public.*"]) as running:
            connection.execute("INSERT INTO orders VALUES (1, 'x')")
            connection.execute("DROP TABLE orders")
            end = one_end(control_db, "orders")
            for number in (1, 2):
                running.stop()
                running.start()
                connection.execute("INSERT INTO kept VALUES (%s)", [number])
                changes(control_db, 1 + number)
            assert one_end(control_db, "orders") == end
        before = [entry for entry in entries(control_db) if entry.get("table") == "public.orders"]
    assert [entry["kind"] for entry in before] == ["change", "schema"]
    assert (end["after"], end["text"]) == (None, "public.orders was dropped")
    assert [column["name"] for column in end["before"]["columns"]] == ["id", "note"]


def test_an_end_that_is_lost_on_its_way_is_told_again_and_once(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
        with recording(source_db, control_db, ["public.*"]) as running:
            running.delivery.lose = 1.0
            connection.execute("DROP TABLE orders")
            known = running.store.versions
            sent = running.delivery.published
            eventually(lambda: any(batch.alteration for batch in sent), 60, "it is lost on its way")
            assert any(table.gone and table.place for table in known.of(TRAIL).values())
            running.stop()
            running.delivery.lose, running.delivery.repeat = 0.0, 1.0
            running.start()
            one_end(control_db, "orders")
            eventually(lambda: any(table.gone and not table.place for table in known.of(TRAIL).values()), 60)
            connection.execute("INSERT INTO kept VALUES (1)")
            changes(control_db, 1)
            one_end(control_db, "orders")


def test_a_table_that_is_renamed_out_of_the_rules_ends_by_its_new_name(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("CREATE SCHEMA attic")
        with recording(source_db, control_db, ["public.*"]) as running:
            connection.execute("ALTER TABLE orders SET SCHEMA attic")
            assert one_end(control_db, "orders")["text"] == "public.orders was renamed attic.orders"
            halted(running, State.SCHEMA_CHANGED, "was renamed attic.orders")


def test_changes_of_a_table_that_was_created_again_are_recorded_before_the_trail_halts(
    source_db: str, control_db: str
) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        with recording(source_db, control_db, ["public.*"]) as running:
            connection.execute("INSERT INTO orders VALUES (1, 'before')")
            changes(control_db, 1)
            running.stop()
            connection.execute("UPDATE orders SET id = 2")
            connection.execute("DROP TABLE orders")
            connection.execute("CREATE TABLE orders (other bytea PRIMARY KEY)")
            running.start()
            halted(running, State.SCHEMA_CHANGED, "orders was dropped and created anew")
            found = changes(control_db, 2)
    assert told(found) == [("insert", "orders", {"id": "1"}), ("update", "orders", {"id": "1"})]
    assert found[1]["after"] == {"id": "2", "note": "before"}


@pytest.mark.slow
def test_changes_of_a_dropped_table_of_mysql_are_recorded(either_source: str, control_db: str) -> None:
    # MariaDB's log does not say that a text is JSON, and neither log has a unique index that is no primary key.
    definition = "CREATE TABLE orders (id int NOT NULL UNIQUE, note json)"
    fix_mysql.run(either_source, definition, "CREATE TABLE kept (id int PRIMARY KEY)")
    with recording(either_source, control_db, ["*"]) as running:
        fix_mysql.run(either_source, "INSERT INTO orders VALUES (1, '[1]')")
        changes(control_db, 1)
        running.stop()
        fix_mysql.run(
            either_source,
            "TRUNCATE orders",
            "INSERT INTO orders VALUES (2, '[2]')",
            "ALTER TABLE orders ADD more int",
            "UPDATE orders SET id = 3 WHERE id = 2",
            "DROP TABLE orders",
            "INSERT INTO kept VALUES (1)",
        )
        running.start()
        found = changes(control_db, 5)
        one_end(control_db, "orders")
    assert told(found) == [
        ("insert", "orders", {"id": "1"}),
        ("truncate", "orders", None),
        ("insert", "orders", {"id": "2"}),
        ("update", "orders", {"id": "2"}),
        ("insert", "kept", {"id": "1"}),
    ]
    assert [entry["after"]["note"] for entry in (found[0], found[2])] == ["[1]", "[2]"]


@pytest.mark.long
def test_a_drop_in_mysql_halts_a_trail_that_has_everything_before_it_once_it_goes_on(
    either_source: str, control_db: str
) -> None:
    fix_mysql.run(either_source, "CREATE TABLE orders (id int PRIMARY KEY)", "CREATE TABLE kept (id int PRIMARY KEY)")
    with recording(either_source, control_db, ["*"]) as running:
        fix_mysql.run(
            either_source, "INSERT INTO orders VALUES (1)", "DROP TABLE orders", "INSERT INTO kept VALUES (1)"
        )
        halted(running, State.SCHEMA_MISMATCH, "orders was dropped")
        running.stop()
        running.store.pipelines.resume(TRAIL)
        running.start()
        found = changes(control_db, 2)
        one_end(control_db, "orders")
    assert told(found) == [("insert", "orders", {"id": "1"}), ("insert", "kept", {"id": "1"})]


@pytest.mark.long
@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE orders", "CREATE TABLE orders (other varchar(9) PRIMARY KEY)", "INSERT INTO orders VALUES ('x')"],
        ["RENAME TABLE orders TO orders_before"],
    ],
    ids=["created again", "renamed"],
)
def test_a_table_of_mysql_that_is_another_one_by_now_halts_by_name(
    mysql_source: str, control_db: str, statements: list[str]
) -> None:
    fix_mysql.run(mysql_source, "CREATE TABLE orders (id int PRIMARY KEY)")
    with recording(mysql_source, control_db, ["*"]) as running:
        fix_mysql.run(mysql_source, "INSERT INTO orders VALUES (1)")
        changes(control_db, 1)
        running.stop()
        fix_mysql.run(mysql_source, "INSERT INTO orders VALUES (2)", *statements)
        running.start()
        halted(running, State.SCHEMA_MISMATCH, "orders")


def test_changes_of_a_dropped_collection_are_recorded(mongo_source: str, control_db: str) -> None:
    with MongoClient[dict[str, Any]](mongo_source) as client:
        database = client.get_default_database()
        orders = database.create_collection("orders", changeStreamPreAndPostImages={"enabled": True})
        database.create_collection("kept")
        with recording(mongo_source, control_db, ["*"]) as running:
            orders.insert_one({"_id": 1})
            changes(control_db, 1)
            running.stop()
            orders.insert_one({"_id": 2})
            orders.update_one({"_id": 2}, {"$set": {"total": 2}})
            orders.drop()
            database["kept"].insert_one({"_id": 1})
            running.start()
            found = changes(control_db, 4)
    assert told(found) == [
        ("insert", "orders", {"_id": "1"}),
        ("insert", "orders", {"_id": "2"}),
        ("update", "orders", {"_id": "2"}),
        ("insert", "kept", {"_id": "1"}),
    ]
    assert '"total"' in found[2]["after"]["document"]


def test_an_update_of_a_dropped_collection_is_recorded_as_what_it_was_or_halts(
    mongo_source: str, control_db: str
) -> None:
    """Without images the document after it has to be read as of then, which not every server can."""
    with MongoClient[dict[str, Any]](mongo_source) as client:
        database = client.get_default_database()
        database.create_collection("kept")
        orders = database.create_collection("orders")
        with recording(mongo_source, control_db, ["*"]) as running:
            orders.insert_one({"_id": 1})
            changes(control_db, 1)
            running.stop()
            orders.update_one({"_id": 1}, {"$set": {"total": 2}})
            orders.drop()
            database["kept"].insert_one({"_id": 1})
            running.start()
            standing = running.store.pipelines
            eventually(lambda: standing.get(TRAIL).reason or len(entries(control_db)) > 3, 60, "recorded, or halted")
            reason = standing.get(TRAIL).reason
            found = [entry for entry in entries(control_db) if entry["kind"] == "change"]
    if reason:
        assert (reason, told(found)) == (State.POSITION_LOST, [("insert", "orders", {"_id": "1"})])
    else:
        assert told(found)[1:] == [("update", "orders", {"_id": "1"}), ("insert", "kept", {"_id": "1"})]
        assert '"total"' in found[1]["after"]["document"]


def test_a_dropped_collection_halts_a_trail_that_has_everything_before_it_once_it_goes_on(
    mongo_source: str, control_db: str
) -> None:
    with MongoClient[dict[str, Any]](mongo_source) as client:
        database = client.get_default_database()
        database.create_collection("kept")
        orders = database.create_collection("orders")
        with recording(mongo_source, control_db, ["*"]) as running:
            orders.insert_one({"_id": 1})
            orders.drop()
            database["kept"].insert_one({"_id": 1})
            halted(running, State.SCHEMA_MISMATCH, "orders was dropped")
            running.stop()
            running.store.pipelines.resume(TRAIL)
            running.start()
            found = changes(control_db, 2)
            one_end(control_db, "orders")
    assert told(found) == [("insert", "orders", {"_id": "1"}), ("insert", "kept", {"_id": "1"})]
