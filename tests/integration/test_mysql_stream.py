"""What the binary log can hold beside plain changes: delivered as it is, or named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_mysql import connect
from tests.integration.mysql_rig import Rig, afters
from worker_sync.core.change import Message
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.values import UNCHANGED

_ITEMS = "CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(50), body LONGTEXT)"


@pytest.fixture(params=["mariadb_source", "mysql_source"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return _with_items(request.getfixturevalue(request.param))


@pytest.fixture
def mysql_rig(mysql_source: str) -> Rig:
    return _with_items(mysql_source)


@pytest.fixture
def mariadb_rig(mariadb_source: str) -> Rig:
    return _with_items(mariadb_source)


def _with_items(url: str) -> Rig:
    rig = Rig(url)
    rig.run(_ITEMS)
    rig.begin("items")
    return rig


def halts(rig: Rig) -> Halt:
    with rig.following() as follower, pytest.raises(Halt) as halt:
        follower.read_until(lambda: False, "a halt")
    assert "worker-sync" in halt.value.recovery
    return halt.value


# Images


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
def test_columns_that_an_image_leaves_out_are_unchanged(rig: Rig, image: str) -> None:
    rig.run(
        f"SET SESSION binlog_row_image = {image}",
        "INSERT INTO items VALUES (1, 'one', 'long'), (2, 'two', NULL)",
        "UPDATE items SET name = 'uno' WHERE id = 1",
        "UPDATE items SET id = 3 WHERE id = 2",
        "DELETE FROM items WHERE id = 1",
    )
    changes, _ = rig.changes(5)
    _, _, update, move, delete = changes
    assert update.key is None
    assert update.after == (1, "uno", UNCHANGED)
    assert (move.key, (move.after or ())[0]) == ((2,), 3)
    assert (move.after or ())[2] is UNCHANGED
    assert (delete.key, delete.after) == ((1,), None)
    assert all(change.before is None for change in changes)


def test_messages_arrive_with_minimal_images(rig: Rig) -> None:
    with rig.session() as session:
        session.execute("SET GLOBAL binlog_row_image = MINIMAL")
    try:
        rig.source.emit("worker_sync.mark", b"1")
        rig.source.emit("worker_sync.mark", b"2")
    finally:
        rig.run("SET GLOBAL binlog_row_image = FULL")
    with rig.following() as follower:
        follower.read_until(lambda: len(follower.messages) == 2, "two messages")
    assert follower.messages == [Message("worker_sync.mark", b"1"), Message("worker_sync.mark", b"2")]


def test_partial_json_is_applied_to_the_document_before(mysql_rig: Rig) -> None:
    rig = mysql_rig
    rig.run("CREATE TABLE docs (id INT PRIMARY KEY, note INT, one JSON, two JSON)")
    rig.begin("docs")
    document = """'{"a": 1, "b": [1.5, "x", {"deep": "value"}], "quo\\\\"ted.key": 1, "text": "abc"}'"""
    updates = [
        "one = JSON_SET(one, '$.a', 2), note = 7",
        "one = JSON_REPLACE(one, '$.b[0]', 7.25), two = JSON_REMOVE(two, '$.b[1]')",
        "one = JSON_REMOVE(one, '$.b[1]'), two = JSON_SET(two, '$.text', 'ab')",
        "one = JSON_SET(one, '$.\"quo\\\\\"ted.key\"', CAST('9.50' AS DECIMAL(5,2)))",
        "one = JSON_SET(one, '$.b[1].deep', 'vale')",
        "one = JSON_ARRAY(1, 2)",
        "one = NULL, two = JSON_REMOVE(two, '$.a')",
    ]
    rig.run(
        f"INSERT INTO docs VALUES (1, 0, {document}, {document})",
        "SET SESSION binlog_row_value_options = PARTIAL_JSON",
    )
    expected = [rig.current("docs")[1][0]]
    with connect(rig.url) as connection, connection.cursor() as session:
        session.execute("SET SESSION binlog_row_value_options = PARTIAL_JSON")
        for update in updates:
            session.execute(f"UPDATE docs SET {update}")
            expected.append(rig.current("docs")[1][0])
    changes, _ = rig.changes(len(expected))
    assert afters(changes) == expected
    assert [change.before for change in changes] == [None, *expected[:-1]]


def test_partial_json_without_the_document_before_halts(mysql_rig: Rig) -> None:
    rig = mysql_rig
    rig.run("CREATE TABLE docs (id INT PRIMARY KEY, one JSON)")
    rig.begin("docs")
    rig.run(
        """INSERT INTO docs VALUES (1, '{"a": "some text", "b": 2}')""",
        "SET SESSION binlog_row_value_options = PARTIAL_JSON",
        "SET SESSION binlog_row_image = MINIMAL",
        "UPDATE docs SET one = JSON_SET(one, '$.a', 'new')",
    )
    assert halts(rig).state is State.UNREPRESENTABLE_VALUE


# Compression, checksums


def test_compressed_transactions_of_mysql(mysql_rig: Rig) -> None:
    with connect(mysql_rig.url) as connection, connection.cursor() as session:
        session.execute("SET SESSION binlog_transaction_compression = ON")
        session.execute("INSERT INTO items VALUES (1, 'one', REPEAT('x', 100000))")
        session.execute("BEGIN")
        for number in range(2, 1_000):
            session.execute(f"INSERT INTO items VALUES ({number}, 'n', REPEAT('y', 3000))")
        session.execute("COMMIT")
    mysql_rig.run("INSERT INTO items VALUES (0, 'plain', NULL)")
    changes, _ = mysql_rig.changes(1_000)
    assert [(change.after or ())[0] for change in changes] == [*range(1, 1_000), 0]
    assert (changes[0].after or ())[2] == "x" * 100_000


@pytest.fixture
def compressing(mariadb_rig: Rig) -> Iterator[Rig]:
    mariadb_rig.run("SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress_min_len = 10")
    yield mariadb_rig
    mariadb_rig.run("SET GLOBAL log_bin_compress = OFF", "SET GLOBAL log_bin_compress_min_len = 256")


def test_compressed_events_of_mariadb(compressing: Rig) -> None:
    compressing.run(
        "INSERT INTO items VALUES (1, 'one', REPEAT('x', 100000)), (2, 'two', NULL)",
        "UPDATE items SET name = CONCAT(name, REPEAT('!', 20))",
        "DELETE FROM items WHERE id = 2",
        "TRUNCATE TABLE items /* a statement that is long enough to be worth its compression */",
    )
    changes, _ = compressing.changes(6)
    assert [change.op for change in changes] == ["c", "c", "u", "u", "d", "t"]
    assert (changes[2].after or ())[:2] == (1, "one" + "!" * 20)


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Rig:
    """On a server of its own."""
    server = request.getfixturevalue(request.param)
    with connect(server.url) as connection, connection.cursor() as session:
        session.execute("CREATE DATABASE own CHARACTER SET utf8mb4")
    return _with_items(server.url.removesuffix("/") + "/own")


_BOTH = pytest.mark.parametrize("own", ["own_mariadb", "own_mysql"], indirect=True)


@_BOTH
def test_checksums_come_and_go_with_the_files(own: Rig) -> None:
    own.run("INSERT INTO items VALUES (1, 'checked', NULL)")
    own.run("SET GLOBAL binlog_checksum = NONE", "INSERT INTO items VALUES (2, 'unchecked', NULL)")
    middle = own.source.stream_status().head
    own.run("INSERT INTO items VALUES (3, 'still', NULL)")
    own.run("SET GLOBAL binlog_checksum = CRC32", "INSERT INTO items VALUES (4, 'again', NULL)")
    assert [(row or ())[0] for row in afters(own.to_head())] == [1, 2, 3, 4]
    own.start = middle
    assert [(row or ())[0] for row in afters(own.to_head())] == [3, 4]


# Names of transactions


def test_transactions_carry_their_gtid(mysql_rig: Rig) -> None:
    mysql_rig.run("INSERT INTO items VALUES (1, 'plain', NULL)")
    mysql_rig.run("SET SESSION gtid_next = 'AUTOMATIC:label'", "INSERT INTO items VALUES (2, 'tagged', NULL)")
    server = mysql_rig.run("SELECT @@server_uuid")[0][0]
    with mysql_rig.following() as follower:
        plain, tagged = (info.xid for info, _ in follower.read_changes(2))
    assert plain.rpartition(":")[0] == server
    assert tagged.rpartition(":")[0] == f"{server}:label"
    executed = mysql_rig.run(f"SELECT GTID_SUBSET('{plain},{tagged}', @@gtid_executed)")
    assert executed == [(1,)]


def test_a_chunk_sees_a_tagged_transaction(mysql_rig: Rig) -> None:
    mysql_rig.run("SET SESSION gtid_next = 'AUTOMATIC:label'", "INSERT INTO items VALUES (1, 'tagged', NULL)")
    with mysql_rig.source.reader() as reader:
        schema = reader.schema(mysql_rig.table("items"))
        assert schema is not None
        chunk = reader.chunk(schema, None, 10)
    mysql_rig.run("SET SESSION gtid_next = 'AUTOMATIC:label'", "INSERT INTO items VALUES (2, 'later', NULL)")
    with mysql_rig.following() as follower:
        assert [chunk.sees(info) for info, _ in follower.read_changes(2)] == [True, False]


# Messages in comments


def test_only_a_comment_that_begins_a_statement_is_a_message(rig: Rig) -> None:
    with rig.session() as session:
        if not rig.is_mariadb:
            session.execute("SET SESSION binlog_rows_query_log_events = ON")
        session.execute("INSERT INTO items VALUES (1, '/*worker_sync.context forged*/', NULL)")
        session.execute('/*worker_sync.context {"actor": "ann"}*/ INSERT INTO items VALUES (2, \'x\', NULL)')
        session.execute("INSERT INTO items VALUES (3, 'y', NULL) /*worker_sync.context forged*/")
    with rig.following() as follower:
        follower.read_changes(3)
    assert follower.messages == [Message("worker_sync.context", b'{"actor": "ann"}')]


# Statements


def test_rows_changed_by_statement_halt(rig: Rig) -> None:
    rig.run("SET SESSION binlog_format = STATEMENT", "INSERT INTO items VALUES (1, 'x', NULL)")
    halt = halts(rig)
    assert halt.state is State.PREFLIGHT_FAILED
    assert "binlog_format" in halt.recovery


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE items",
        "RENAME TABLE other TO moved, /* and */ `items` TO gone",
        "ALTER TABLE items ADD x INT, RENAME TO gone",
        "DROP TABLE IF EXISTS nothing, other, items",
    ],
)
def test_a_captured_table_does_not_go_silently(rig: Rig, statement: str) -> None:
    rig.run("CREATE TABLE other (id INT PRIMARY KEY)", statement)
    assert halts(rig).state is State.SCHEMA_MISMATCH


def test_other_statements_pass_by(rig: Rig) -> None:
    rig.run(
        "CREATE TABLE other (id INT PRIMARY KEY, `drop table items` INT)",
        "ALTER TABLE other ADD COLUMN x INT COMMENT 'rename to items'",
        "CREATE VIEW seen AS SELECT * FROM items",
        "CREATE TRIGGER fires BEFORE INSERT ON other FOR EACH ROW SET NEW.x = 1",
        "CREATE PROCEDURE works() SELECT 1",
        "ANALYZE TABLE items",
        "OPTIMIZE TABLE items",
        "CREATE INDEX named ON items (name)",
        "DROP INDEX named ON items",
        "CREATE TABLE copied AS SELECT * FROM items",
        "CREATE TEMPORARY TABLE briefly (id INT)",
        "DROP TEMPORARY TABLE briefly",
        "BEGIN",
        "SAVEPOINT a",
        "INSERT INTO items VALUES (1, 'taken back', NULL)",
        "ROLLBACK TO SAVEPOINT a",
        "INSERT INTO items VALUES (2, 'stays', NULL)",
        "COMMIT",
        "TRUNCATE other",
        "DROP VIEW seen",
        "DROP TABLE other, copied",
        "DROP PROCEDURE works",
        "INSERT INTO items VALUES (3, 'last', NULL)",
    )
    assert afters(rig.to_head()) == [(2, "stays", None), (3, "last", None)]


def test_create_as_select_of_a_captured_table_brings_its_rows(rig: Rig) -> None:
    rig.source.create_stream([rig.table("items")])
    rig.run("CREATE TABLE copied (id INT PRIMARY KEY) AS SELECT 5 AS id")
    rig.source.create_stream([rig.table("copied")])
    rig.run("INSERT INTO copied VALUES (6)")
    assert afters(rig.to_head()) == [(5,), (6,)]


def test_a_table_gets_a_new_id_with_a_new_definition(rig: Rig) -> None:
    rig.run(
        "INSERT INTO items VALUES (1, 'old', NULL)",
        "ALTER TABLE items DROP COLUMN body, ADD COLUMN first INT FIRST",
        "INSERT INTO items VALUES (7, 2, 'new')",
        "OPTIMIZE TABLE items",
        "INSERT INTO items VALUES (8, 3, 'same')",
    )
    changes, schemas = rig.changes(3)
    assert [schemas[change.table].column_names for change in changes] == [
        ("id", "name", "body"),
        ("first", "id", "name"),
        ("first", "id", "name"),
    ]
    assert changes[0].table != changes[1].table == changes[2].table
    assert afters(changes) == [(1, "old", None), (7, 2, "new"), (8, 3, "same")]


# XA


def test_an_xa_transaction_of_one_phase_is_a_transaction(rig: Rig) -> None:
    rig.run("XA START 'x'", "INSERT INTO items VALUES (1, 'x', NULL)", "XA END 'x'", "XA COMMIT 'x' ONE PHASE")
    assert afters(rig.to_head()) == [(1, "x", None)]


def test_an_xa_transaction_of_two_phases_halts_when_it_is_ours(rig: Rig) -> None:
    rig.run("XA START 'y'", "INSERT INTO items VALUES (1, 'x', NULL)", "XA END 'y'", "XA PREPARE 'y'", "XA COMMIT 'y'")
    halt = halts(rig)
    assert halt.state is State.UNKNOWN_MESSAGE
    assert "XA" in halt.detail


def test_other_xa_transactions_pass_by(rig: Rig) -> None:
    rig.run(
        "CREATE TABLE other (id INT PRIMARY KEY)",
        "XA START 'z','branch',7",
        "INSERT INTO other VALUES (1)",
        "XA END 'z','branch',7",
        "XA PREPARE 'z','branch',7",
        "XA COMMIT 'z','branch',7",
        "XA START 'back'",
        "INSERT INTO other VALUES (2)",
        "XA END 'back'",
        "XA PREPARE 'back'",
        "XA ROLLBACK 'back'",
        "INSERT INTO items VALUES (1, 'after', NULL)",
    )
    assert afters(rig.to_head()) == [(1, "after", None)]


# Size


def test_a_row_of_15_megabytes(rig: Rig) -> None:
    size = 15_000_000
    rig.run(f"INSERT INTO items VALUES (1, 'large', REPEAT('x', {size}))", "UPDATE items SET name = 'both images'")
    changes, _ = rig.changes(2)
    assert [len((change.after or ())[2]) for change in changes] == [size, size]


def test_files_follow_each_other(rig: Rig) -> None:
    for number in range(4):
        rig.run(f"INSERT INTO items VALUES ({number}, 'x', NULL)", "FLUSH BINARY LOGS")
    with rig.following() as follower:
        infos = [info for info, _ in follower.read_changes(4)]
        follower.read_to(rig.source.stream_status().head)
    assert sorted({info.commit for info in infos}) == [info.commit for info in infos]
    for place, info in enumerate(infos):
        rig.start = info.commit
        assert [(row or ())[0] for row in afters(rig.to_head())] == list(range(place + 1, 4))


def test_a_killed_session_ends_the_stream_and_nothing_is_lost(rig: Rig) -> None:
    rig.run("INSERT INTO items VALUES (1, 'before', NULL)")
    with rig.following() as follower:
        first, _ = follower.read_changes(1)[0]
        rig.source.cut_off()
        rig.run("INSERT INTO items VALUES (2, 'after', NULL)")

        def ended() -> bool:
            try:
                follower.stream.read(0.1, 100)
            except Transient:
                return True
            return False

        eventually(ended, what="the stream ends")
    rig.start = first.commit
    assert afters(rig.to_head()) == [(2, "after", None)]
