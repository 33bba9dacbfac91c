"""Trails by triggers: through a real capture into the ledger, beside a trail of the same database by its log."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from connectors.postgres.triggers.install import Installer
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig, rig
from tests.integration.test_audit import Entry, changes, entries
from worker_sync.composition.workspace import Workspace
from worker_sync.context import audited
from worker_sync.core.errors import Halt, State
from worker_sync.core.settings import Settings, parse
from worker_sync.core.settings_file import SettingsError
from worker_sync.store.pipelines import Status

TRAIL = "audit.source"
Connection = psycopg.Connection


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


@pytest.fixture
def other_control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def settings_for(source: str, control: str, capture: str = "triggers", **audit: Any) -> Settings:
    return parse(
        {
            "control": control,
            "databases": {"source": {"url": source}},
            "audit": {"source": {"tables": ["public.*"], "capture": capture, **audit}},
            "ledger": {"personal_key": "k" * 32},
            "capture": {"resend_after_s": 0.5, "confirm_every_s": 0.2, "lease_s": 3},
        },
        where="test",
        folder=Path("/nonexistent"),
    )


def install(settings: Settings) -> None:
    """As `worker-sync audit triggers install source` does."""
    with Workspace(settings) as space, Installer(settings.database("source").url.reveal()) as installer:
        trail = settings.pipeline(TRAIL)
        tables = [chosen.source.table for chosen in settings.select(trail, space.tables("source"))]
        for step in installer.install_steps(tables):
            installer.run(step)
        assert installer.install_steps(tables) == []


@contextlib.contextmanager
def recording(source: str, control: str, **audit: Any) -> Iterator[Rig]:
    """A capture whose trail has begun."""
    settings = settings_for(source, control, **audit)
    if settings.audit["source"].capture == "triggers":
        install(settings)
    with rig(settings, control) as running:
        running.start()
        eventually(lambda: entries(control), 60, "the trail begins")
        yield running
        running.stop()


def said(entry: Entry) -> Entry:
    """What an entry tells of the change, without where it stood, and who was logged in, which the log does not tell."""
    where = {"number", "id", "transaction", "committed_at", "captured_at", "recorded_at", "trail", "session"}
    return {name: value for name, value in entry.items() if name not in where}


_TABLES = """
CREATE TYPE mood AS ENUM ('ok', 'bad');
CREATE TABLE wide (
    id int PRIMARY KEY, f4 real, f8 float8, n numeric(12, 3), t text, v varchar(9), c char(4), b bytea, flag boolean,
    d date, ti time, tz timestamptz, ts timestamp, i interval, j json, jb jsonb, a int[], ta text[], u uuid, m mood,
    mo money, bi bit varying, ip inet, r int4range);
ALTER TABLE wide REPLICA IDENTITY FULL;
CREATE TABLE made (id int PRIMARY KEY, doubled int GENERATED ALWAYS AS (id * 2) STORED, note text);
CREATE TABLE bag (a int, b text);
ALTER TABLE bag REPLICA IDENTITY FULL;
CREATE TABLE parts (at int, id int, note text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 (note text, gone int, id int NOT NULL, at int NOT NULL);
ALTER TABLE parts_2 DROP COLUMN gone;
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20);
ALTER TABLE parts REPLICA IDENTITY FULL;
ALTER TABLE parts_1 REPLICA IDENTITY FULL;
ALTER TABLE parts_2 REPLICA IDENTITY FULL;
CREATE TABLE parents (id int PRIMARY KEY);
ALTER TABLE parents REPLICA IDENTITY FULL;
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE);
ALTER TABLE children REPLICA IDENTITY FULL;
"""

_WIDE = """
INSERT INTO wide VALUES
    (1, 0.1, 1e-300, 12.500, 'ü "q" \\ (x), ' || E'\\n\\t', 'v', 'c', '\\x00ff5c22', true, '2024-02-29', '23:59:59.5',
     '2024-01-01 00:00+05', '4000-01-01 BC', '1 year -2 days 3.5 s', '{"a":  "b,c"}', '{"z": 1, "a": null}', '{1,NULL}',
     '{"a,b","q\\"",NULL,""}', '00000000-0000-0000-0000-00000000000a', 'bad', '12.5', B'101', '::1', '[1,5)'),
    (2, 'NaN', 'Infinity', NULL, '', NULL, NULL, NULL, false, 'infinity', NULL, '-infinity', NULL, NULL, NULL, NULL,
     '{}', NULL, NULL, NULL, NULL, NULL, NULL, 'empty')
"""


def work(connection: Connection) -> int:
    """A mixed workload; how many changes it makes."""
    with audited(connection, "ann", reason="a 'quoted' \"reason\" ü"):
        connection.execute(_WIDE)
        with audited(connection, "bob"):
            connection.execute("UPDATE wide SET t = repeat(t, 3000), f4 = 1.5 WHERE id = 1")
        connection.execute("UPDATE wide SET flag = NOT flag")
    # Whoever writes may have other settings than whoever reads.
    connection.execute("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Tokyo'; SET extra_float_digits = 0")
    connection.execute("SET IntervalStyle = 'postgres_verbose'; SET bytea_output = 'escape'")
    connection.execute("UPDATE wide SET id = id + 10, f8 = f8 / 3")
    connection.execute("INSERT INTO bag VALUES (1, 'a'), (1, 'a'), (NULL, NULL)")
    connection.execute("INSERT INTO made (id, note) VALUES (1, 'a')")
    connection.execute("UPDATE bag SET b = 'c' WHERE a = 1")
    connection.execute("DELETE FROM bag WHERE a IS NULL")
    connection.execute("INSERT INTO parts VALUES (1, 1, 'one'), (11, 2, 'two')")
    connection.execute("UPDATE parts SET note = note || '!'")
    connection.execute("INSERT INTO parts_2 (at, id, note) VALUES (12, 3, 'directly')")
    connection.execute("DELETE FROM parts WHERE at = 11")
    connection.execute("INSERT INTO parents VALUES (1), (2)")
    connection.execute("INSERT INTO children VALUES (1, 1), (2, 1), (3, 2)")
    connection.execute("UPDATE parents SET id = 7 WHERE id = 2")
    connection.execute("DELETE FROM parents WHERE id = 1")
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM wide")
    connection.execute("SET session_replication_role = replica")
    connection.execute("DELETE FROM wide WHERE id = 12")
    connection.execute("TRUNCATE bag, parts")
    return 2 + 1 + 2 + 2 + 3 + 1 + 2 + 1 + 2 + 2 + 1 + 1 + 2 + 3 + 2 + 3 + 1 + 2


def test_a_trail_by_triggers_says_what_the_trail_by_the_log_says(
    source_db: str, control_db: str, other_control_db: str
) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute(_TABLES)
        with (
            recording(source_db, control_db),
            recording(source_db, other_control_db, capture="log"),
        ):
            count = work(connection)
            by_triggers, by_log = changes(control_db, count), changes(other_control_db, count)
    assert [said(entry) for entry in by_triggers] == [said(entry) for entry in by_log]
    assert len(by_log) == count
    groups = [[entry["transaction"]["id"] for entry in found] for found in (by_triggers, by_log)]
    assert groups[0] == groups[1]


def test_a_role_without_rights_on_anything_of_ours_is_recorded(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("CREATE ROLE writer_of_orders")
        connection.execute("GRANT ALL ON orders TO writer_of_orders")
        try:
            with recording(source_db, control_db):
                connection.execute("SET ROLE writer_of_orders")
                connection.execute("INSERT INTO orders VALUES (1)")
                for table in ("changes", "stream", "windows", "layouts"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(f"DELETE FROM worker_sync_audit.{table}")
                connection.execute("RESET ROLE")
                assert [entry["key"] for entry in changes(control_db, 1)] == [{"id": "1"}]
        finally:
            connection.execute("DROP OWNED BY writer_of_orders")
            connection.execute("DROP ROLE writer_of_orders")


def test_altered_tables_are_entries_between_rows_as_they_were(source_db: str, control_db: str) -> None:
    """Also in the transaction that alters the table, and when the capture reads all of it much later."""
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, a text, b text)")
        with recording(source_db, control_db) as running:
            running.stop()
            with connection.transaction():
                connection.execute("INSERT INTO orders VALUES (1, 'a', 'b')")
                connection.execute("UPDATE orders SET b = 'b'")
                connection.execute("ALTER TABLE orders RENAME a TO c")
                connection.execute("ALTER TABLE orders RENAME b TO a")
                connection.execute("INSERT INTO orders VALUES (2, 'c', 'a')")
                connection.execute("ALTER TABLE orders DROP c, ADD d int DEFAULT 4")
                connection.execute("UPDATE orders SET d = 5 WHERE id = 2")
            running.start()
            found = changes(control_db, 4)
            kinds = [entry["kind"] for entry in entries(control_db)]
            assert connection.execute("SELECT count(*) FROM worker_sync_audit.layouts").fetchone() == (3,)
    assert [entry["after"] for entry in found] == [
        {"id": "1", "a": "a", "b": "b"},
        {"id": "1", "a": "a", "b": "b"},
        {"id": "2", "c": "c", "a": "a"},
        {"id": "2", "a": "a", "d": "5"},
    ]
    assert kinds == ["begin", "scope", "change", "change", "schema", "change", "schema", "change"]


def test_personal_data_is_sealed(source_db: str, control_db: str) -> None:
    declared = {"public.customers": {"subject": "id", "columns": ["email"]}}
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE customers (id int PRIMARY KEY, email text, city text)")
        with recording(source_db, control_db, personal_data=declared):
            connection.execute("INSERT INTO customers VALUES (1, 'ann@example.com', 'Ulm')")
            connection.execute("UPDATE customers SET email = 'anna@example.com'")
            found = changes(control_db, 2)
    assert "@example.com" not in json.dumps(found)
    assert found[1]["before"]["city"] == "Ulm"


def test_wait_knows_when_all_is_recorded(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db) as running, Workspace(running.settings) as space:
            connection.execute("INSERT INTO orders SELECT generate_series(1, 5000)")
            space.waiter(running.settings.pipeline(TRAIL)).wait(60)
            assert sum(entry["kind"] == "change" for entry in entries(control_db)) == 5000


def test_batches_that_are_lost_repeated_and_shuffled_are_recorded_once_and_in_order(
    source_db: str, control_db: str
) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db) as running:
            running.delivery.lose = running.delivery.repeat = running.delivery.shuffle = 0.1
            for number in range(100):
                connection.execute("INSERT INTO orders VALUES (%s)", [number])
                if number % 40 == 20:
                    running.stop()
                    running.start()
            found = changes(control_db, 100)
    assert [entry["key"]["id"] for entry in found] == [str(number) for number in range(100)]


@pytest.mark.parametrize("statement", ["DISABLE TRIGGER ALL", "ENABLE TRIGGER ALL"])
def test_a_trail_stops_when_a_trigger_is_not_always_enabled(source_db: str, control_db: str, statement: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db) as running:
            connection.execute(sql.SQL("ALTER TABLE orders {}").format(sql.SQL(statement)))
            pipelines = running.store.pipelines
            eventually(lambda: pipelines.get(TRAIL).status is Status.HALTED, 60, "the trail halts")
            assert "public.orders" in pipelines.get(TRAIL).detail
            with (
                pytest.raises(Halt, match="worker-sync audit triggers install source"),
                Workspace(running.settings) as space,
            ):
                space.check_running(TRAIL)
            install(running.settings)
            pipelines.resume(TRAIL)
            running.start()
            connection.execute("INSERT INTO orders VALUES (1)")
            assert len(changes(control_db, 1)) == 1


def test_a_table_that_is_new_stops_the_trail_until_it_has_triggers(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db) as running:
            connection.execute("CREATE TABLE news (id int PRIMARY KEY)")
            pipelines = running.store.pipelines
            eventually(lambda: pipelines.get(TRAIL).status is Status.HALTED, 60, "the trail halts")
            connection.execute("INSERT INTO orders VALUES (1)")
            install(running.settings)
            connection.execute("INSERT INTO news VALUES (1)")
            pipelines.resume(TRAIL)
            running.start()
            found = changes(control_db, 2)
    assert [entry["table"] for entry in found] == ["public.orders", "public.news"]


def test_what_was_recorded_is_read_to_its_end_while_triggers_are_removed(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection, Installer(source_db) as installer:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db) as running:
            running.stop()
            connection.execute("INSERT INTO orders SELECT generate_series(1, 3)")
            for step in installer.remove_steps():
                installer.run(step)
            assert installer.unread() == 3
            running.start()
            eventually(lambda: installer.unread() == 0, 60, "all is recorded and confirmed")
            assert len(changes(control_db, 3)) == 3
            assert running.store.pipelines.get(TRAIL).status is Status.RUNNING
            install(running.settings)
            connection.execute("INSERT INTO orders VALUES (4)")
            assert len(changes(control_db, 4)) == 4


def test_a_trail_whose_triggers_were_removed_says_how_to_begin_anew(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection, Installer(source_db) as installer:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        with recording(source_db, control_db) as running:
            for step in [*installer.remove_steps(), *installer.drop_schema_steps()]:
                installer.run(step)
            pipelines = running.store.pipelines
            eventually(lambda: pipelines.get(TRAIL).status is Status.HALTED, 60, "the trail stops")
            standing = pipelines.get(TRAIL)
    assert (standing.reason, "was removed" in standing.detail) == (State.SLOT_MISSING, True)
    assert standing.recovery == f"worker-sync audit triggers install source; then worker-sync resync {TRAIL}"


def test_settings_refuse_what_a_trail_by_triggers_excludes() -> None:
    def problems(**more: Any) -> str:
        data: dict[str, Any] = {
            "databases": {"shop": {"url": "postgresql://a/shop"}, "copy": {"url": "postgresql://a/copy"}},
            "audit": {"shop": {"tables": ["public.*"], "capture": "triggers"}},
        }
        with pytest.raises(SettingsError) as error:
            parse(data | more, where="test", folder=Path("/nonexistent"))
        return str(error.value)

    pipelines = {"p": {"source": "shop", "target": "copy", "tables": ["public.*"]}}
    assert "pipelines.p reads the log of 'shop'" in problems(pipelines=pipelines)
    assert "only PostgreSQL has audit triggers" in problems(databases={"shop": {"url": "mysql://a/shop"}})
    detach = {"url": "postgresql://a/shop", "retained_log": {"policy": "detach", "limit_bytes": 1}}
    assert "triggers go on recording" in problems(databases={"shop": detach})


def test_changes_of_a_table_that_was_dropped_since_are_recorded(source_db: str, control_db: str) -> None:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
        with recording(source_db, control_db) as running:
            connection.execute("INSERT INTO orders VALUES (1, 'before')")
            changes(control_db, 1)
            running.stop()
            connection.execute("INSERT INTO orders VALUES (2, 'unseen')")
            connection.execute("UPDATE orders SET id = 3 WHERE id = 2")
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
