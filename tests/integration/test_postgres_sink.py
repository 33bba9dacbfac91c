"""What only PostgreSQL targets have: foreign keys, triggers, identity and generated columns, killed connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from connectors.base import Outcome
from connectors.postgres.session import MAX_STAGING
from connectors.postgres.sink import PostgresSink
from tests.contract.sink_target import (
    INT,
    PIPELINE,
    SHARD,
    TEXT,
    Script,
    apply_each,
    chunk_batch,
    created,
    delete,
    fence,
    insert,
    notes,
    read_rows,
    table_schema,
    truncate,
    update,
)
from tests.contract.test_sink_postgres import ordinary_role
from tests.fixtures.eventually import eventually
from worker_sync.core.errors import Halt, State, TargetRejected, Transient
from worker_sync.core.position import BEGINNING
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED

MANY = 200
PARENTS = table_schema("parents", Column("id", INT, False), Column("name", TEXT))
CHILDREN = table_schema("children", Column("id", INT, False), Column("parent", INT), Column("name", TEXT))


@pytest.fixture
def admin(target_db: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(target_db, autocommit=True, options="-c search_path=public") as connection:
        yield connection


@pytest.fixture
def sink(target_db: str) -> Iterator[PostgresSink]:
    with PostgresSink("target", target_db) as sink:
        sink.prepare()
        fence(sink)
        yield sink


@pytest.fixture
def ordinary(target_db: str) -> Iterator[PostgresSink]:
    """A sink whose role may not set session_replication_role."""
    with PostgresSink("target", ordinary_role(target_db)) as sink:
        sink.prepare()
        fence(sink)
        yield sink


def family(sink: PostgresSink, admin: psycopg.Connection[Any], action: str = "") -> None:
    created(sink, PARENTS)
    created(sink, CHILDREN)
    admin.execute(f"ALTER TABLE children ADD FOREIGN KEY (parent) REFERENCES parents {action}".encode())


# Foreign keys and triggers.


def test_cascades_and_triggers_of_the_target_do_not_fire(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    family(sink, admin, "ON DELETE CASCADE")
    admin.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''fired''; END'")
    admin.execute("CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON children EXECUTE FUNCTION refuse()")
    script = Script(PARENTS, CHILDREN)
    script.add(insert((1, "p")), insert((10, 1, "c"), table=2))
    script.add(delete((1,)))
    apply_each(sink, script)
    assert read_rows(sink, CHILDREN) == {(10,): (10, 1, "c")}


@pytest.mark.parametrize("count", [2, MANY])
def test_without_the_replica_role_parents_come_first_and_leave_last(
    ordinary: PostgresSink, admin: psycopg.Connection[Any], count: int
) -> None:
    family(ordinary, admin)
    script = Script(CHILDREN, PARENTS)
    children = [insert((n, n, "c"), table=1) for n in range(count)]
    parents = [insert((n, "p"), table=2) for n in range(count)]
    script.add(*[change for pair in zip(children, parents, strict=True) for change in pair])
    # A source without this foreign key may delete the parent first.
    script.add(*[delete((n,), table=2) for n in range(count)], *[delete((n,), table=1) for n in range(count)])
    assert ordinary.apply(script.batch(1, 1)) == Outcome.APPLIED
    assert len(read_rows(ordinary, CHILDREN)) == count
    assert ordinary.apply(script.batch(2, 2)) == Outcome.APPLIED
    assert read_rows(ordinary, PARENTS) == {}


def test_without_the_replica_role_a_missing_parent_is_refused_by_name(
    ordinary: PostgresSink, admin: psycopg.Connection[Any]
) -> None:
    family(ordinary, admin)
    script = Script(CHILDREN)
    script.add(insert((1, 99, "hidden")))
    with pytest.raises(TargetRejected, match=r"public\.children, constraint children_parent_fkey, key \(1\)") as caught:
        ordinary.apply(script.whole())
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("count", [2, MANY])
def test_rows_that_reference_their_own_table_need_no_order(
    ordinary: PostgresSink, admin: psycopg.Connection[Any], count: int
) -> None:
    created(ordinary, CHILDREN)
    admin.execute("ALTER TABLE children ADD FOREIGN KEY (parent) REFERENCES children")
    script = Script(CHILDREN)
    script.add(*[insert((n, (n + 1) % count, "x")) for n in range(count)])
    assert ordinary.apply(script.whole()) == Outcome.APPLIED


def test_a_deferred_cycle_of_tables_is_applied(ordinary: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    left, right = (table_schema(name, Column("id", INT, False), Column("peer", INT)) for name in ("left_", "right_"))
    created(ordinary, left)
    created(ordinary, right)
    admin.execute("ALTER TABLE left_ ADD FOREIGN KEY (peer) REFERENCES right_ DEFERRABLE")
    admin.execute("ALTER TABLE right_ ADD FOREIGN KEY (peer) REFERENCES left_ DEFERRABLE")
    script = Script(left, right)
    script.add(insert((1, 1), table=1), insert((1, 1), table=2))
    assert ordinary.apply(script.whole()) == Outcome.APPLIED
    script.add(insert((2, 7), table=1))
    with pytest.raises(TargetRejected, match="left_"):
        ordinary.apply(script.batch(2, 2))


@pytest.mark.parametrize("both", [True, False])
def test_a_referenced_table_is_truncated(sink: PostgresSink, admin: psycopg.Connection[Any], both: bool) -> None:
    family(sink, admin)
    script = Script(PARENTS, CHILDREN)
    script.add(insert((1, "p")), insert((10, None, "c"), table=2))
    script.add(truncate(), *([truncate(table=2)] if both else []))
    apply_each(sink, script)
    assert read_rows(sink, PARENTS) == {}
    assert len(read_rows(sink, CHILDREN)) == (0 if both else 1)


# Columns that the target treats in its own way.


def test_identity_columns_take_the_source_s_values(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    admin.execute(
        "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL, body text)"
    )
    script = Script(notes())
    script.add(insert((7, "a", "x")))
    script.add(update((7, "b", UNCHANGED)))
    script.add(update((8, "c", UNCHANGED), (7,)))
    script.add(*[insert((n, "many", None)) for n in range(100, 100 + MANY)])
    script.add(*[update((n, "more", None)) for n in range(100, 100 + MANY)])
    apply_each(sink, script)
    rows = read_rows(sink, notes())
    assert rows.pop((8,)) == (8, "c", "x")
    assert set(rows.values()) == {(n, "more", None) for n in range(100, 100 + MANY)}


@pytest.mark.parametrize("count", [1, MANY])
def test_an_identity_column_outside_the_key_takes_the_source_s_values(
    sink: PostgresSink, admin: psycopg.Connection[Any], count: int
) -> None:
    schema = table_schema("counted", Column("id", INT, False), Column("n", INT), Column("t", TEXT))
    admin.execute("CREATE TABLE counted (id bigint PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, t text)")
    script = Script(schema)
    script.add(*[insert((number, 5, "a")) for number in range(count)])
    script.add(*[update((number, 6, UNCHANGED)) for number in range(count)])
    apply_each(sink, script)
    assert set(read_rows(sink, schema).values()) == {(number, 6, "a") for number in range(count)}


@pytest.mark.parametrize("count", [1, MANY])
def test_generated_and_additional_columns_of_the_target_are_its_own(
    sink: PostgresSink, admin: psycopg.Connection[Any], count: int
) -> None:
    admin.execute(
        "CREATE TABLE notes (more int DEFAULT 5, id bigint PRIMARY KEY, title text NOT NULL, "
        "body text GENERATED ALWAYS AS (title || '!') STORED)"
    )
    script = Script(notes())
    script.add(*[insert((n, "a", "the source's")) for n in range(count)])
    script.add(*[update((n, "b", "the source's")) for n in range(count)])
    apply_each(sink, script)
    found = admin.execute("SELECT DISTINCT more, title, body FROM notes").fetchall()
    assert found == [(5, "b", "b!")]


@pytest.mark.parametrize("count", [1, MANY])
def test_other_types_of_an_existing_target_are_cast(
    sink: PostgresSink, admin: psycopg.Connection[Any], count: int
) -> None:
    flag = Type(Kind.BOOL, "boolean")
    schema = table_schema("cast_", Column("id", INT, False), Column("flag", flag), Column("n", INT))
    admin.execute("CREATE TABLE cast_ (id numeric PRIMARY KEY, flag int, n text)")
    script = Script(schema)
    script.add(*[insert((n, True, 5)) for n in range(count)])
    apply_each(sink, script)
    assert admin.execute("SELECT DISTINCT flag, n FROM cast_").fetchall() == [(1, "5")]


@pytest.mark.parametrize("count", [2, MANY])
def test_a_deferrable_primary_key_is_enough(sink: PostgresSink, admin: psycopg.Connection[Any], count: int) -> None:
    admin.execute("CREATE TABLE notes (id bigint PRIMARY KEY DEFERRABLE, title text, body text)")
    script = Script(notes())
    script.add(*[insert((n, "a", "x")) for n in range(count)])
    script.add(*[update((n, "b", UNCHANGED)) for n in range(count)])
    apply_each(sink, script)
    assert admin.execute("SELECT count(*), min(title), min(body) FROM notes").fetchone() == (count, "b", "x")


def test_a_collision_is_everyday_life_and_leaves_no_warning(
    sink: PostgresSink, admin: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    created(sink, PARENTS)
    admin.execute("ALTER TABLE parents ADD UNIQUE (name)")
    script = Script(PARENTS)
    script.add(insert((1, "a")), insert((2, "b")))
    script.add(update((1, "b")), update((2, "a")))
    apply_each(sink, script)
    assert read_rows(sink, PARENTS) == {(1,): (1, "b"), (2,): (2, "a")}
    assert caplog.messages == []


def test_ranges_of_an_exclusion_constraint_swap(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    span = Type(Kind.NATIVE, "int4range")
    schema = created(sink, table_schema("spans", Column("id", INT, False), Column("span", span)))
    admin.execute("ALTER TABLE spans ADD EXCLUDE USING gist (span WITH &&)")
    script = Script(schema)
    script.add(insert((1, "[1,5)")), insert((2, "[5,9)")))
    script.add(update((1, "[5,9)")), update((2, "[1,5)")))
    apply_each(sink, script)
    assert read_rows(sink, schema) == {(1,): (1, "[5,9)"), (2,): (2, "[1,5)")}


def test_staging_tables_stay_few_however_many_tables_there_are(
    sink: PostgresSink, admin: psycopg.Connection[Any]
) -> None:
    tables = [created(sink, notes(f"notes{number}")) for number in range(MAX_STAGING + 4)]
    script = Script(*tables)
    script.add(*[insert((n, "a", None), table=number) for number in script.tables for n in range(30)])
    for number in script.tables:
        script.add(*[update((n, "b", UNCHANGED), table=number) for n in range(30)])
    apply_each(sink, script)
    found = admin.execute("SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'").fetchone()
    assert found is not None
    assert 0 < found[0] <= MAX_STAGING + 1
    assert all(set(read_rows(sink, table).values()) == {(n, "b", None) for n in range(30)} for table in tables)


def test_names_that_need_quotes(sink: PostgresSink) -> None:
    schema = TableSchema(
        TableName('we"ird %s $1', "Order"),
        (Column("select", INT, False), Column('a"b', TEXT), Column("%s", TEXT), Column("$1", TEXT)),
        ("select",),
        "postgresql",
    )
    created(sink, schema)
    script = Script(schema)
    script.add(insert((1, "a", "b", "c")))
    script.add(update((1, UNCHANGED, "x", "y")), *[insert((n, "a", "b", "c")) for n in range(2, MANY)])
    script.add(update((0, UNCHANGED, "x", "z"), (1,)), *[delete((n,)) for n in range(2, MANY)])
    apply_each(sink, script)
    assert read_rows(sink, schema) == {(0,): (0, "a", "x", "z")}


# Tables.


def test_a_table_of_another_engine_gets_types_by_kind(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    types = [
        Type(Kind.INT, "int unsigned", size=32, unsigned=True),
        Type(Kind.INT, "bigint unsigned", size=64, unsigned=True),
        Type(Kind.DECIMAL, "decimal(10,3)", precision=10, scale=3),
        Type(Kind.ENUM, "enum('a')", labels=("a",)),
        Type(Kind.TIMESTAMP, "datetime(3)", precision=3),
        Type(Kind.ARRAY, "", element=Type(Kind.UUID)),
        Type(Kind.JSON, "json"),
    ]
    columns = tuple(Column(f"c{number}", type_, number > 0) for number, type_ in enumerate(types))
    created(sink, TableSchema(TableName("shop", "things"), columns, ("c0",), "mysql"))
    found = admin.execute(
        "SELECT array_agg(format_type(atttypid, atttypmod) ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = 'shop.things'::regclass AND attnum > 0"
    ).fetchone()
    assert found == (
        ["bigint", "numeric(20,0)", "numeric(10,3)", "text", "timestamp(3) without time zone", "uuid[]", "json"],
    )


def test_a_missing_type_halts_and_leaves_nothing(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    strange = Column("x", Type(Kind.NATIVE, "geo.point3d"))
    schema = table_schema("strange", Column("id", INT, False), strange)
    with pytest.raises(Halt, match=r"geo\.point3d") as caught:
        sink.create_table(schema)
    assert caught.value.state == State.SCHEMA_MISMATCH
    assert admin.execute("SELECT to_regclass('strange')").fetchone() == (None,)


def test_an_enum_that_lacks_labels_halts_with_the_statement(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    admin.execute("CREATE TYPE mood AS ENUM ('sad')")
    mood = Type(Kind.ENUM, "public.mood", labels=("sad", "ok"))
    with pytest.raises(Halt, match=r"ALTER TYPE public\.mood ADD VALUE 'ok'"):
        sink.create_table(table_schema("moods", Column("id", INT, False), Column("m", mood)))


def test_a_target_without_a_fitting_key_halts(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    admin.execute("CREATE TABLE notes (id bigint, title text, body text)")
    with pytest.raises(Halt, match='ADD PRIMARY KEY \\("id"\\)'):
        sink.create_table(notes())


def test_table_names_are_mapped(sink: PostgresSink) -> None:
    source = table_schema("notes", Column("id", INT, False))
    elsewhere = TableSchema(TableName("shop", "notes"), source.columns, ("id",), "mysql")
    assert sink.map_table(source, None).table == TableName("public", "notes")
    assert sink.map_table(source, "n").table == TableName("public", "n")
    assert sink.map_table(source, "x.n").table == TableName("x", "n")
    assert sink.map_table(elsewhere, None).table == TableName("shop", "notes")
    assert sink.map_table(elsewhere, "n").table == TableName("public", "n")


def test_an_altered_target_is_noticed(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    created(sink, notes())
    script = Script(notes())
    script.add(*[insert((n, "short", None)) for n in range(MANY)])
    script.add(*[update((n, "short", None)) for n in range(MANY)])
    script.add(*[update((n, "x" * 50, None)) for n in range(MANY)])
    admin.execute("ALTER TABLE notes ALTER title TYPE varchar(9)")
    assert sink.apply(script.batch(1, 1)) == Outcome.APPLIED
    assert sink.apply(script.batch(2, 2)) == Outcome.APPLIED
    admin.execute("ALTER TABLE notes ALTER title TYPE text")
    assert sink.apply(script.batch(3, 3)) == Outcome.APPLIED


def test_a_role_that_may_create_nothing_new_works_with_what_is_there(
    ordinary: PostgresSink, admin: psycopg.Connection[Any]
) -> None:
    database = admin.info.dbname
    admin.execute(f"REVOKE CREATE ON DATABASE {database} FROM {database}_user".encode())
    ordinary.prepare()
    created(ordinary, notes())
    script = Script(notes())
    script.add(insert((1, "a", None)))
    assert ordinary.apply(script.whole()) == Outcome.APPLIED


# Refusals and faults.


def test_a_text_that_postgresql_has_no_form_for_is_refused(sink: PostgresSink) -> None:
    created(sink, notes())
    for count in (1, MANY):
        script = Script(notes())
        script.add(*[insert((n, "a\x00b", None)) for n in range(count)])
        with pytest.raises(TargetRejected):
            sink.apply(script.whole())


def test_a_row_that_is_there_already_turns_the_copy_into_a_merge(sink: PostgresSink) -> None:
    created(sink, notes())
    script = Script(notes())
    script.add(insert((MANY - 1, "old", None)))
    script.add(*[insert((n, "new", None)) for n in range(MANY)])
    apply_each(sink, script)
    assert set(read_rows(sink, notes()).values()) == {(n, "new", None) for n in range(MANY)}


def test_a_value_that_cannot_be_cast_is_refused(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    admin.execute("CREATE TABLE notes (id bigint PRIMARY KEY, title int, body text)")
    script = Script(notes())
    script.add(insert((1, "no number", None)))
    with pytest.raises(TargetRejected):
        sink.apply(script.whole())


@pytest.mark.parametrize("count", [1, MANY])
def test_a_killed_connection_leaves_nothing_and_is_opened_again(
    sink: PostgresSink, admin: psycopg.Connection[Any], count: int
) -> None:
    created(sink, notes())
    script = Script(notes())
    script.add(*[insert((n, "a", None)) for n in range(count)])
    # The apply writes its rows or waits to write them while this transaction holds the table.
    with admin.transaction():
        admin.execute("LOCK TABLE notes IN SHARE MODE")
        outcome: list[object] = []
        worker = threading.Thread(target=_apply, args=(sink, script, outcome))
        worker.start()
        eventually(lambda: _kill_waiting(admin), 10, "the apply waits for the lock and is killed")
        worker.join()
    assert isinstance(outcome[0], Transient)
    assert read_rows(sink, notes()) == {}
    assert sink.marks(PIPELINE)[SHARD].position == BEGINNING
    assert sink.apply(script.whole()) == Outcome.APPLIED
    assert sink.apply(script.whole()) == Outcome.DUPLICATE
    assert len(read_rows(sink, notes())) == count


def test_marks_do_not_wait_for_an_apply(sink: PostgresSink, admin: psycopg.Connection[Any]) -> None:
    with admin.transaction():
        admin.execute("SELECT * FROM worker_sync.watermarks FOR UPDATE")
        assert sink.marks(PIPELINE)[SHARD].position == BEGINNING


def test_a_snapshot_chunk_may_collide_and_stays_whole(sink: PostgresSink) -> None:
    created(sink, notes())
    rows = [(n, "a", None) for n in range(MANY)]
    first = chunk_batch(notes(), rows[:100], BEGINNING, 1)
    assert sink.apply(first) == Outcome.APPLIED
    assert sink.apply(chunk_batch(notes(), rows, first.upto, 2)) == Outcome.APPLIED
    assert len(read_rows(sink, notes())) == MANY


def test_preflight_names_what_is_missing(
    ordinary: PostgresSink, sink: PostgresSink, admin: psycopg.Connection[Any]
) -> None:
    created(sink, notes())
    wider = table_schema("notes", *notes().columns, Column("extra", TEXT))
    findings = {finding.check: finding for finding in sink.preflight([wider])}
    assert findings["replica-role"].ok
    assert findings["table public.notes"].ok is False
    assert "ADD COLUMN" in findings["table public.notes"].fix
    findings = {finding.check: finding for finding in ordinary.preflight([notes()])}
    assert "may not set" in findings["replica-role"].detail
    assert "GRANT SET ON PARAMETER" in findings["replica-role"].fix
    assert findings["table public.notes"].fix.startswith("GRANT SELECT, INSERT, UPDATE, DELETE")


def _apply(sink: PostgresSink, script: Script, outcome: list[object]) -> None:
    try:
        outcome.append(sink.apply(script.whole()))
    except Exception as error:  # noqa: BLE001 - judged by the test that started this thread
        outcome.append(error)


def _kill_waiting(admin: psycopg.Connection[Any]) -> bool:
    found = admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return found.fetchone() is not None


@pytest.mark.parametrize(("type_", "value"), [("integer", 'se"cret'), ("json", '{"se"cret\n": "x"}')])
def test_the_value_of_a_refused_row_is_in_no_message(
    sink: PostgresSink, target_db: str, type_: str, value: str
) -> None:
    schema = table_schema("typed", Column("id", INT, False), Column("v", TEXT))
    with psycopg.connect(target_db, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE public.typed (id bigint PRIMARY KEY, v {type_})".encode())
    fence(sink)
    script = Script(schema)
    script.add(insert((1, value)))
    with pytest.raises(TargetRejected) as caught:
        sink.apply(script.whole())
    assert "cret" not in str(caught.value)
    assert value not in str(caught.value)
    assert "typed" in str(caught.value)
