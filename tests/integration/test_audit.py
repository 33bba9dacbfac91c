"""From real sources through the capture into the ledger: every change once, in order, with who made it and why."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from tests.fixtures import fix_mysql
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig, rig
from worker_sync.composition.workspace import Workspace
from worker_sync.context import audited, comment
from worker_sync.core.errors import ConfigError
from worker_sync.core.personal import PersonalTable
from worker_sync.core.settings import Settings, parse
from worker_sync.store.signals import SignalKind

Entry = dict[str, Any]
TRAIL = "audit.source"


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def settings_for(source: str, control: str, tables: list[Any], sync_to: str = "") -> Settings:
    databases = {"source": {"url": source}, "other": {"url": sync_to or "postgresql://nowhere/x"}}
    return parse(
        {
            "control": control,
            "databases": databases,
            "pipelines": {"p": {"source": "source", "target": "other", "tables": tables}} if sync_to else {},
            "audit": {"source": {"tables": tables}},
            "capture": {"resend_after_s": 0.5, "confirm_every_s": 0.2, "lease_s": 3},
        },
        where="test",
        folder=Path("/nonexistent"),
    )


@contextlib.contextmanager
def recording(source: str, control: str, tables: list[Any]) -> Iterator[Rig]:
    """A capture whose trail has begun."""
    with rig(settings_for(source, control, tables), control) as running:
        running.start()
        eventually(lambda: entries(control), 60, "the trail begins")
        yield running
        running.stop()


def entries(control: str) -> list[Entry]:
    with psycopg.connect(control) as connection:
        if connection.execute("SELECT to_regclass('worker_sync_ledger.entries')").fetchone() == (None,):
            return []
        found = connection.execute("SELECT entry FROM worker_sync_ledger.entries ORDER BY number").fetchall()
    return [json.loads(entry) for (entry,) in found]


def changes(control: str, count: int) -> list[Entry]:
    """The changes in the ledger once there are so many; their numbers have no hole."""

    def enough() -> list[Entry]:
        found = entries(control)
        return found if sum(entry["kind"] == "change" for entry in found) >= count else []

    found = eventually(enough, 60, f"{count} changes are recorded")
    assert [entry["number"] for entry in found] == [str(number) for number in range(len(found))]
    return [entry for entry in found if entry["kind"] == "change"]


def brief(entry: Entry) -> tuple[Any, ...]:
    return entry["operation"], entry["key"], entry["after"], entry["actor"]


def test_changes_of_postgresql_stand_in_the_ledger_with_who_made_them(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, total numeric, note text)")
        connection.execute("CREATE TABLE events (kind text)")
        with recording(source_db, control_db, ["public.*"]):
            with audited(connection, "ann", reason="refund"):
                connection.execute("INSERT INTO orders VALUES (1, 12.50, NULL), (2, 1, 'ü')")
                with audited(connection, "bob"):
                    connection.execute("UPDATE orders SET total = 13 WHERE id = 1")
            connection.execute("UPDATE orders SET id = 3 WHERE id = 2")
            connection.execute("DELETE FROM orders WHERE id = 3")
            connection.execute("INSERT INTO events VALUES ('a'), ('a')")
            connection.execute("TRUNCATE orders")
            found = changes(control_db, 8)
    assert [brief(entry) for entry in found] == [
        ("insert", {"id": "1"}, {"id": "1", "total": "12.50", "note": None}, "ann"),
        ("insert", {"id": "2"}, {"id": "2", "total": "1", "note": "ü"}, "ann"),
        ("update", {"id": "1"}, {"id": "1", "total": "13", "note": None}, "bob"),
        ("update", {"id": "2"}, {"id": "3", "total": "1", "note": "ü"}, None),
        ("delete", {"id": "3"}, None, None),
        ("insert", None, {"kind": "a"}, None),
        ("insert", None, {"kind": "a"}, None),
        ("truncate", None, None, None),
    ]
    assert {entry["table"] for entry in found} == {"public.orders", "public.events"}
    assert found[0]["context"] == {"actor": "ann", "reason": "refund"}
    assert found[0]["transaction"] == found[2]["transaction"] != found[3]["transaction"]
    assert all(entry["host"] and entry["captured_at"] >= entry["committed_at"][:10] for entry in found)


def test_changes_of_mysql_stand_in_the_ledger_with_who_made_them(either_source: str, control_db: str) -> None:
    fix_mysql.run(either_source, "CREATE TABLE orders (id int PRIMARY KEY, total decimal(10,2))")
    with recording(either_source, control_db, ["orders"]):
        with fix_mysql.connect(either_source) as connection, connection.cursor() as cursor:
            if either_source.startswith("mysql:"):
                cursor.execute("SET SESSION binlog_rows_query_log_events = ON")
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO orders VALUES (1, 1.5)")
            cursor.execute(comment("ann", reason="a */ b") + "UPDATE orders SET total = 2 WHERE id = 1")
            cursor.execute("UPDATE orders SET total = 3 WHERE id = 1")
            cursor.execute(comment("bob") + "DELETE FROM orders WHERE id = 1")
            connection.commit()
            cursor.execute("INSERT INTO orders VALUES (2, 9)")
            connection.commit()
        found = changes(control_db, 5)
    assert [(entry["operation"], entry["actor"]) for entry in found] == [
        ("insert", None),
        ("update", "ann"),
        ("update", "ann"),
        ("delete", "bob"),
        ("insert", None),
    ]
    assert found[1]["context"] == {"actor": "ann", "reason": "a */ b"}
    assert (found[1]["before"], found[1]["changed"]) == ({"id": "1", "total": "1.50"}, ["total"])


def test_changes_of_documents_stand_in_the_ledger(mongo_source: str, control_db: str) -> None:
    with MongoClient[dict[str, Any]](mongo_source) as client:
        orders = client.get_default_database()["orders"]
        orders.insert_one({"_id": 0})
        with recording(mongo_source, control_db, ["orders"]):
            orders.insert_one({"_id": 1, "total": 1})
            orders.update_one({"_id": 1}, {"$set": {"total": 2}})
            orders.delete_one({"_id": 1})
            found = changes(control_db, 3)
    assert [entry["operation"] for entry in found] == ["insert", "update", "delete"]
    assert [json.loads(entry["after"]["document"])["total"] for entry in found[:2]] == [1, 2]


@pytest.mark.parametrize("images", [False, True])
def test_a_field_of_documents_says_who_wrote_them(mongo_source: str, control_db: str, images: bool) -> None:
    settings = settings_for(mongo_source, control_db, ["orders"])
    audit = settings.audit["source"].model_copy(update={"context_field": "by"})
    settings = settings.model_copy(update={"audit": {"source": audit}})
    with MongoClient[dict[str, Any]](mongo_source) as client:
        database = client.get_default_database()
        orders = database.create_collection("orders", changeStreamPreAndPostImages={"enabled": images})
        with rig(settings, control_db) as running:
            running.start()
            eventually(lambda: entries(control_db), 60, "the trail begins")
            orders.insert_one({"_id": 1, "by": "ann"})
            orders.update_one({"_id": 1}, {"$set": {"total": 2, "byline": "no one"}})
            orders.update_one({"_id": 1}, {"$set": {"total": 3, "by": {"actor": "bob", "ticket": 7}}})
            orders.update_one({"_id": 1}, {"$set": {"by.actor": "eve"}})
            orders.update_one({"_id": 1}, {"$unset": {"by": 1}})
            orders.replace_one({"_id": 1}, {"by": "dan"})
            orders.delete_one({"_id": 1})
            with client.start_session() as session, session.start_transaction():
                orders.insert_one({"_id": 2}, session=session)
                orders.insert_one({"_id": 3, "by": "ann"}, session=session)
                orders.insert_one({"_id": 4}, session=session)
            orders.insert_one({"_id": 5, "by": None})
            found = changes(control_db, 11)
            running.stop()
    actors = ["ann", None, "bob", "eve", None, "dan", None, None, "ann", "ann", None]
    assert [entry["actor"] for entry in found] == actors
    assert found[2]["context"] == {"actor": "bob", "ticket": "7"}
    # Of a part that was written the event has no more without an image.
    assert found[3]["context"] == {"actor": "eve", **({"ticket": "7"} if images else {})}


def test_personal_data_of_a_real_source_stands_in_no_entry(source_db: str, control_db: str) -> None:
    declared = {"public.customers": PersonalTable(subject="id", columns=("email",))}
    settings = settings_for(source_db, control_db, ["public.*"])
    personal = settings.audit["source"].model_copy(update={"personal_data": declared})
    ledger = settings.ledger.model_copy(update={"personal_key": SecretStr("k" * 32)})
    settings = settings.model_copy(update={"audit": {"source": personal}, "ledger": ledger})
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE customers (id int PRIMARY KEY, email text, city text)")
        with rig(settings, control_db) as running:
            running.start()
            eventually(lambda: entries(control_db), 60, "the trail begins")
            connection.execute("INSERT INTO customers VALUES (1, 'ann@example.com', 'Ulm')")
            connection.execute("UPDATE customers SET email = 'anna@example.com'")
            found = changes(control_db, 2)
            running.stop()
    assert [entry["after"]["city"] for entry in found] == ["Ulm", "Ulm"]
    assert all(entry["after"]["email"].keys() == {"encrypted", "generation", "subject"} for entry in found)
    assert "@example.com" not in json.dumps(found)


def test_an_altered_table_is_an_entry_between_the_rows_before_and_behind_it(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db, ["public.*"]) as running:
            connection.execute("INSERT INTO orders VALUES (1)")
            connection.execute("ALTER TABLE orders ADD note text")
            connection.execute("INSERT INTO orders VALUES (2, 'x')")
            changes(control_db, 2)
            found = entries(control_db)
            assert [batch for batch in running.delivery.published if batch.snapshot] == [], "a trail copies no rows"
    assert [entry["kind"] for entry in found] == ["begin", "scope", "change", "schema", "change"]
    assert {entry["table"] for entry in found[2:]} == {"public.orders"}
    assert [column["name"] for column in found[3]["after"]["columns"]] == ["id", "note"]


def test_a_trail_that_begins_anew_records_the_gap(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db, ["public.*"]) as running:
            connection.execute("INSERT INTO orders VALUES (1)")
            before = changes(control_db, 1)[0]
            signal = running.store.signals.send("source", SignalKind.RESYNC, TRAIL)
            eventually(lambda: entries(control_db)[-1]["kind"] == "gap", 60, "the gap is recorded")
            eventually(lambda: running.store.signals.get(signal).result == "done", 60, "the request is done")  # type: ignore[union-attr]
            connection.execute("INSERT INTO orders VALUES (2)")
            changes(control_db, 2)
    _, _, _, gap, after = entries(control_db)
    assert gap["from"].startswith(before["transaction"]["position"])
    assert before["transaction"]["position"] < gap["to"] < after["transaction"]["position"]


def test_a_trail_copies_no_rows(source_db: str, control_db: str) -> None:
    with rig(settings_for(source_db, control_db, ["public.*"]), control_db) as running:
        for kind, table in ((SignalKind.SNAPSHOT, None), (SignalKind.RESYNC, "public.orders")):
            with pytest.raises(ConfigError, match=f"worker-sync resync {TRAIL}"):
                running.store.signals.send("source", kind, TRAIL, table)


def test_batches_that_are_lost_repeated_and_shuffled_are_recorded_once_and_in_order(
    source_db: str, control_db: str
) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db, ["public.*"]) as running:
            running.delivery.lose = running.delivery.repeat = running.delivery.shuffle = 0.1
            for number in range(200):
                connection.execute("INSERT INTO orders VALUES (%s)", [number])
            found = changes(control_db, 200)
    assert [entry["key"]["id"] for entry in found] == [str(number) for number in range(200)]


def test_a_trail_beside_a_pipeline_lets_it_go_on_while_it_is_paused(
    source_db: str, target_db: str, control_db: str
) -> None:
    settings = settings_for(source_db, control_db, ["public.*"], sync_to=target_db)
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with rig(settings, control_db) as running:
            running.start()
            eventually(lambda: entries(control_db), 60, "the trail begins")
            running.stop()
            before = entries(control_db)
            running.store.pipelines.pause(TRAIL, "test")
            running.start()
            connection.execute("INSERT INTO orders VALUES (1)")
            eventually(lambda: _count(target_db) == 1, 60, "the row is in the target")
            assert entries(control_db) == before
            running.store.pipelines.resume(TRAIL)
            assert [entry["key"] for entry in changes(control_db, 1)] == [{"id": "1"}]
            running.stop()


def _count(url: str) -> int:
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('public.orders')").fetchone() == (None,):
            return 0
        row = connection.execute("SELECT count(*) FROM orders").fetchone()
    assert row is not None
    return int(row[0])


def test_wait_knows_when_all_is_recorded(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db, ["public.*"]) as running, Workspace(running.settings) as space:
            connection.execute("INSERT INTO orders SELECT generate_series(1, 5000)")
            space.waiter(running.settings.pipeline(TRAIL)).wait(20)
            assert sum(entry["kind"] == "change" for entry in entries(control_db)) == 5000
