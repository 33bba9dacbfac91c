"""What is particular to MySQL and MariaDB as a target: unique keys, collations, foreign keys, triggers, packets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from connectors.base import Outcome
from connectors.mysql.sink import MysqlSink
from tests.contract.sink_target import (
    INT,
    PIPELINE,
    SHARD,
    TEXT,
    Script,
    apply_each,
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
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_mysql import connect, run
from tests.fixtures.fix_proxy import ProxyTo
from tests.fixtures.servers import with_database
from worker_sync.core.errors import Halt, Permanent, State, TargetRejected, Transient
from worker_sync.core.position import BEGINNING
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED
from worker_sync.embedded import EmbeddedMysql

#: Batches of the tests that break connections and servers, and rows of each.
BATCHES, ROWS = 40, 50


@pytest.fixture
def sink(either_target: str) -> Iterator[MysqlSink]:
    with MysqlSink("target", either_target) as sink:
        sink.prepare()
        fence(sink)
        yield sink


PEOPLE = table_schema("people", Column("id", INT, False), Column("email", TEXT, False), Column("age", INT))


@pytest.fixture
def people(sink: MysqlSink, either_target: str) -> TableSchema:
    """Ada has 1, Bob has 2; emails are unique; `extra` is the target's own."""
    run(
        either_target,
        "CREATE TABLE people (id bigint PRIMARY KEY, email varchar(100) NOT NULL UNIQUE, age bigint, "
        "extra varchar(20) NOT NULL DEFAULT 'none')",
    )
    table = sink.map_table(PEOPLE, None)
    script = Script(table, pipeline="before")
    script.add(insert((1, "ada", 36)), insert((2, "bob", 40)))
    sink.fence("before", SHARD, 1, "source", BEGINNING)
    assert sink.apply(script.whole()) == Outcome.APPLIED
    run(either_target, "UPDATE people SET extra = email")
    return table


def test_an_upsert_never_touches_the_row_that_has_its_unique_value(sink: MysqlSink, people: TableSchema) -> None:
    script = Script(people)
    script.add(insert((3, "ada", 99)))
    with pytest.raises(TargetRejected) as caught:
        sink.apply(script.whole())
    assert "people" in str(caught.value)
    assert "email" in str(caught.value)
    assert "key (3)" in str(caught.value)
    assert "ada" not in str(caught.value)
    assert read_rows(sink, people) == {(1,): (1, "ada", 36), (2,): (2, "bob", 40)}


def test_an_update_never_touches_the_row_that_has_its_unique_value(sink: MysqlSink, people: TableSchema) -> None:
    script = Script(people)
    script.add(update((1, "bob", 36)))
    with pytest.raises(TargetRejected, match="email"):
        sink.apply(script.whole())
    assert read_rows(sink, people) == {(1,): (1, "ada", 36), (2,): (2, "bob", 40)}


def test_a_unique_index_that_is_added_meanwhile_is_minded(sink: MysqlSink, either_target: str) -> None:
    table = created(sink, table_schema("t", Column("id", INT, False), Column("n", INT)))
    script = Script(table)
    script.add(insert((1, 10)))
    script.add(insert((2, 10)))
    assert sink.apply(script.batch(1, 1)) == Outcome.APPLIED
    run(either_target, "ALTER TABLE t ADD UNIQUE one_n (n)")
    with pytest.raises(TargetRejected, match="one_n"):
        sink.apply(script.batch(2, 2))
    assert read_rows(sink, table) == {(1,): (1, 10)}


def test_swapped_unique_values_leave_the_targets_own_columns_alone(
    sink: MysqlSink, people: TableSchema, either_target: str
) -> None:
    script = Script(people)
    script.add(update((1, "bob", UNCHANGED)), update((2, "ada", 41)), insert((3, "cy", 1)))
    assert sink.apply(script.whole()) == Outcome.APPLIED
    rows = run(either_target, "SELECT id, email, age, extra FROM people ORDER BY id")
    assert rows == [(1, "bob", 36, "ada"), (2, "ada", 41, "bob"), (3, "cy", 1, "none")]


def test_a_unique_value_passes_from_a_deleted_row_to_a_new_one(sink: MysqlSink, people: TableSchema) -> None:
    script = Script(people)
    script.add(delete((1,)), insert((9, "ada", 1)), update((2, "free", UNCHANGED)), insert((8, "bob", 2)))
    assert sink.apply(script.whole()) == Outcome.APPLIED
    assert sorted(read_rows(sink, people).values()) == [(2, "free", 40), (8, "bob", 2), (9, "ada", 1)]


def test_keys_that_the_collation_takes_for_one_are_refused_not_merged(sink: MysqlSink, either_target: str) -> None:
    run(either_target, "CREATE TABLE t (id varchar(10) COLLATE utf8mb4_general_ci PRIMARY KEY, v bigint)")
    table = sink.map_table(table_schema("t", Column("id", TEXT, False), Column("v", INT)), None)
    script = Script(table)
    script.add(insert(("a", 1)))
    script.add(insert(("A", 2)))
    assert sink.apply(script.batch(1, 1)) == Outcome.APPLIED
    with pytest.raises(TargetRejected):
        sink.apply(script.batch(2, 2))
    assert read_rows(sink, table) == {("a",): ("a", 1)}


def test_a_key_changes_its_case_under_a_collation_without_case(sink: MysqlSink, either_target: str) -> None:
    run(either_target, "CREATE TABLE t (id varchar(10) COLLATE utf8mb4_general_ci PRIMARY KEY, v bigint, w bigint)")
    columns = (Column("id", TEXT, False), Column("v", INT), Column("w", INT))
    table = sink.map_table(table_schema("t", *columns), None)
    script = Script(table)
    script.add(insert(("a", 1, 1)), insert(("b", 1, 1)))
    script.add(update(("A", 2, UNCHANGED), ("a",)))
    script.add(update(("B", 2, 2), ("b",)))
    script.add(delete(("A",)))
    for number in range(1, 4):
        assert sink.apply(script.batch(number, number)) == Outcome.APPLIED
    assert read_rows(sink, table) == {("A",): ("A", 2, 1), ("B",): ("B", 2, 2)}
    assert sink.apply(script.batch(4, 4)) == Outcome.APPLIED
    assert read_rows(sink, table) == {("B",): ("B", 2, 2)}


def test_zero_is_a_key_and_columns_do_not_update_themselves(sink: MysqlSink, either_target: str) -> None:
    run(
        either_target,
        "CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, v bigint, "
        "at timestamp(6) NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP(6))",
    )
    moment = Type(Kind.TIMESTAMPTZ, "timestamptz")
    table = sink.map_table(table_schema("t", Column("id", INT, False), Column("v", INT), Column("at", moment)), None)
    script = Script(table)
    script.add(insert((0, 1, "2001-01-01 00:00:00+00")), insert((5, 1, None)))
    script.add(update((0, 2, UNCHANGED)), update((5, 2, UNCHANGED)))
    apply_each(sink, script)
    assert read_rows(sink, table) == {(0,): (0, 2, "2001-01-01 00:00:00+00"), (5,): (5, 2, None)}


def test_foreign_keys_neither_order_writes_nor_cascade(sink: MysqlSink, either_target: str) -> None:
    run(
        either_target,
        "CREATE TABLE parent (id bigint PRIMARY KEY, v bigint)",
        "CREATE TABLE child (id bigint PRIMARY KEY, p bigint, "
        "FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
    )
    parent = sink.map_table(table_schema("parent", Column("id", INT, False), Column("v", INT)), None)
    child = sink.map_table(table_schema("child", Column("id", INT, False), Column("p", INT)), None)
    script = Script(child, parent)
    script.add(insert((1, 7), table=1), insert((7, 0), table=2))
    script.add(delete((7,), table=2), insert((7, 1), table=2))
    script.add(delete((7,), table=2))
    apply_each(sink, script)
    assert read_rows(sink, child) == {(1,): (1, 7)}
    assert read_rows(sink, parent) == {}


def test_triggers_fire_unless_they_look_at_foreign_key_checks(
    sink: MysqlSink, people: TableSchema, either_target: str
) -> None:
    run(either_target, "CREATE TRIGGER a BEFORE INSERT ON people FOR EACH ROW SET NEW.age = NEW.age + 100")
    check = "IF(@@foreign_key_checks, 'trigger', NEW.extra)"
    run(either_target, f"CREATE TRIGGER b BEFORE INSERT ON people FOR EACH ROW SET NEW.extra = {check}")
    script = Script(people)
    script.add(insert((3, "cy", 1)))
    assert sink.apply(script.whole()) == Outcome.APPLIED
    assert run(either_target, "SELECT age, extra FROM people WHERE id = 3") == [(101, "none")]


def test_a_table_may_be_called_new(sink: MysqlSink) -> None:
    table = created(sink, notes("new"))
    script = Script(table)
    script.add(insert((1, "a", None)))
    script.add(update((1, "b", None)))
    apply_each(sink, script)
    assert read_rows(sink, table) == {(1,): (1, "b", None)}


def test_a_truncate_goes_back_with_its_transaction(sink: MysqlSink, people: TableSchema) -> None:
    script = Script(people)
    script.add(truncate(), insert((1, "x", None)), update((9, UNCHANGED, 1)))
    with pytest.raises(Permanent, match="9"):
        sink.apply(script.whole())
    assert len(read_rows(sink, people)) == 2


def test_a_table_without_transactions_halts(sink: MysqlSink, either_target: str) -> None:
    run(either_target, "CREATE TABLE notes (id bigint PRIMARY KEY, title text, body text) ENGINE=MyISAM")
    with pytest.raises(Halt, match="no transactions") as caught:
        sink.create_table(notes())
    assert "ENGINE=InnoDB" in caught.value.recovery


def test_a_key_without_a_unique_index_halts(sink: MysqlSink, either_target: str) -> None:
    run(either_target, "CREATE TABLE notes (id bigint NOT NULL, title text, body text, UNIQUE (id, title(10)))")
    with pytest.raises(Halt, match="unique index"):
        sink.create_table(notes())


def test_a_row_of_15_megabytes_passes_and_a_larger_packet_is_refused(sink: MysqlSink, either_target: str) -> None:
    data = Type(Kind.BYTES, "bytea")
    table = created(sink, table_schema("t", Column("id", INT, False), Column("data", data)))
    (limit,) = run(either_target, "SELECT @@max_allowed_packet")[0]
    fits, too_large = Script(table), Script(table)
    fits.add(insert((1, bytes(range(32, 39)) * (15 * 1024 * 1024 // 7))), insert((2, b"small")))
    too_large.add(insert((3, b"x" * limit)))
    with pytest.raises(TargetRejected, match="max_allowed_packet") as caught:
        sink.apply(too_large.whole())
    assert "SET GLOBAL max_allowed_packet" in str(caught.value)
    assert sink.apply(fits.whole()) == Outcome.APPLIED
    with sink.reader() as reader:
        assert reader.rows(table, [(1,)]).rows == [fits.transactions[0][0].after]


@pytest.mark.parametrize(
    ("source", "to", "expected"),
    [
        (TableName("", "orders"), None, "orders"),
        (TableName("public", "orders"), None, "orders"),
        (TableName("sales", "orders"), None, "sales.orders"),
        (TableName("sales", "orders"), "kept.as.it.is", "kept.as.it.is"),
    ],
)
def test_tables_of_other_namespaces_keep_them_in_their_name(
    mariadb_target: str, source: TableName, to: str | None, expected: str
) -> None:
    schema = TableSchema(source, (Column("id", INT, False),), ("id",), "postgresql")
    with MysqlSink("target", mariadb_target) as sink:
        assert sink.create_table(sink.map_table(schema, to)) is True
        assert run(mariadb_target, "SHOW TABLES") == [(expected,)]


@pytest.mark.parametrize(
    ("table", "column", "word"), [("t" * 65, "v", "to:"), ("t", "v" * 65, "exclude")], ids=["table", "column"]
)
def test_names_longer_than_mysql_takes_halt(mariadb_target: str, table: str, column: str, word: str) -> None:
    schema = table_schema(table, Column("id", INT, False), Column(column, INT))
    with MysqlSink("target", mariadb_target) as sink, pytest.raises(Halt, match="64") as caught:
        sink.create_table(schema)
    assert caught.value.state == State.TABLE_UNSUPPORTED
    assert word in caught.value.recovery


def test_a_wait_for_a_lock_is_temporary(sink: MysqlSink, people: TableSchema, either_target: str) -> None:
    sink.marks(PIPELINE)
    script = Script(people)
    script.add(update((1, "x", 1)))
    with connect(either_target) as other, other.cursor() as cursor:
        other.begin()
        cursor.execute("SELECT * FROM people WHERE id = 1 FOR UPDATE")
        sink._session.run("SET SESSION innodb_lock_wait_timeout = 1")
        with pytest.raises(Transient):
            sink.apply(script.whole())
        other.rollback()
    assert sink.apply(script.whole()) == Outcome.APPLIED


def _apply_all(url: str, table: TableSchema, script: Script, done: list[str]) -> None:
    """What a worker does: apply each batch, again after every temporary failure."""
    with MysqlSink("target", url) as sink:
        for number in range(1, len(script.transactions) + 1):
            while True:
                with suppress(Transient):
                    done.append(sink.apply(script.batch(number, number)))
                    break


def _traffic(table: TableSchema) -> Script:
    script = Script(table)
    for number in range(BATCHES):
        script.add(*[insert((number * ROWS + row, "v", "x" * 200)) for row in range(ROWS)])
    return script


def _check_arrived(url: str, table: TableSchema) -> None:
    with MysqlSink("target", url) as sink:
        mark = sink.marks(PIPELINE)[SHARD]
        assert (mark.changes, mark.batches) == (BATCHES * ROWS, BATCHES)
        assert len(read_rows(sink, table)) == BATCHES * ROWS


def test_connections_reset_in_the_middle_lose_nothing(either_target: str, proxy_to: ProxyTo) -> None:
    with MysqlSink("target", either_target) as sink:
        sink.prepare()
        table = created(sink, notes())
        fence(sink)
    proxy = proxy_to(either_target)
    done: list[str] = []
    worker = threading.Thread(target=_apply_all, args=(proxy.url, table, _traffic(table), done))
    worker.start()
    for reached in range(3, BATCHES, 6):
        eventually(lambda reached=reached: len(done) >= reached, 60, "the worker gets on")  # type: ignore[misc]
        proxy.drop()
    worker.join()
    _check_arrived(either_target, table)


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_a_server_killed_in_the_middle_loses_nothing(flavour: str, request: pytest.FixtureRequest) -> None:
    server: EmbeddedMysql = request.getfixturevalue(f"own_{flavour}")
    run(server.url, "CREATE DATABASE target")
    url = with_database(server.url, "target")
    with MysqlSink("target", url) as sink:
        sink.prepare()
        table = created(sink, notes())
        fence(sink)
    done: list[str] = []
    worker = threading.Thread(target=_apply_all, args=(url, table, _traffic(table), done))
    worker.start()
    for reached in (5, 20):
        eventually(lambda reached=reached: len(done) >= reached, 60, "the worker gets on")  # type: ignore[misc]
        server.kill()
        server.start()
    worker.join()
    _check_arrived(url, table)


# Preflight.


def test_preflight_of_a_fresh_database_passes(sink: MysqlSink) -> None:
    findings = sink.preflight([sink.map_table(notes(), None)])
    assert [finding for finding in findings if not finding.ok] == []
    names = {finding.check for finding in findings}
    assert {"server-version", "writable", "sql_mode", "max_allowed_packet", "privileges", "watermark-table"} <= names


def test_preflight_names_missing_rights_with_the_grant(either_target: str) -> None:
    database = either_target.rpartition("/")[2]
    user = f"r_{database[-12:]}"
    run(
        either_target,
        f"CREATE USER {user}@'%' IDENTIFIED BY 'r'",
        f"GRANT SELECT, INSERT ON {database}.* TO {user}@'%'",
    )
    host = either_target.rpartition("@")[2]
    try:
        with MysqlSink("target", f"mysql://{user}:r@{host}") as sink:
            failed = {finding.check: finding.fix for finding in sink.preflight([]) if not finding.ok}
            assert set(failed) == {"privileges", "watermark-table", "temporary-tables"}
        run(either_target, *failed.values())
        with MysqlSink("target", f"mysql://{user}:r@{host}") as sink:
            assert [finding for finding in sink.preflight([]) if not finding.ok] == []
            sink.prepare()
            fence(sink)
            assert sink.create_table(notes())
    finally:
        run(either_target, f"DROP USER {user}@'%'")


def test_preflight_tells_of_triggers_and_of_tables_that_do_not_fit(
    sink: MysqlSink, people: TableSchema, either_target: str
) -> None:
    run(
        either_target,
        "CREATE TRIGGER count_people BEFORE INSERT ON people FOR EACH ROW SET NEW.extra = 'trigger'",
        "CREATE TABLE notes (id bigint PRIMARY KEY)",
    )
    findings = {finding.check: finding for finding in sink.preflight([people, sink.map_table(notes(), None)])}
    assert findings["trigger count_people"].ok
    assert "fires" in findings["trigger count_people"].detail
    assert findings["table people"].ok
    assert findings["table notes"].ok is False
    assert "ADD COLUMN `title`" in findings["table notes"].fix


def test_a_watermark_table_of_before_parked_keys_is_brought_up_to_date(either_target: str) -> None:
    with MysqlSink("target", either_target) as sink:
        sink.prepare()
        schema = created(sink, notes())
        fence(sink)
        run(either_target, "ALTER TABLE worker_sync_watermarks DROP COLUMN parked")
        sink.prepare()
        sink.prepare()
        assert sink.marks(PIPELINE)[SHARD].parked == frozenset()
        run(either_target, "ALTER TABLE worker_sync_watermarks DROP COLUMN parked")
        assert sink.marks(PIPELINE)[SHARD].parked == frozenset()
        run(either_target, "ALTER TABLE worker_sync_watermarks DROP COLUMN parked")
        script = Script(schema)
        script.add(insert((1, "a", None)))
        assert sink.apply(script.whole()) == Outcome.APPLIED
        sink.park(PIPELINE, SHARD, 1, frozenset({("public.notes", (1,))}))
        assert sink.marks(PIPELINE)[SHARD].parked == {("public.notes", (1,))}
