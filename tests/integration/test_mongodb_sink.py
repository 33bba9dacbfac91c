"""The MongoDB sink on a real replica set: what the contract suite does not ask of every engine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from connectors.base import Outcome
from connectors.mongodb.abandoned import IDLE_SECONDS
from connectors.mongodb.sink import MongoSink
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import server_directory, unavailable, with_database
from worker_sync.core.change import Batch, Change, Op, Section, SnapshotMark, TransactionInfo
from worker_sync.core.errors import ConfigError, Fenced, Halt, Permanent, State, TargetRejected, Transient, Unreachable
from worker_sync.core.position import BEGINNING, Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED, Row
from worker_sync.embedded import EmbeddedMongo, EmbeddedServerFailed, MissingWheel
from worker_sync.embedded.server import State as ServerState

SOURCE = "source-1"
TABLE = TableSchema(
    TableName("", "things"),
    (
        Column("id", Type(Kind.INT, size=64), nullable=False),
        Column("name", Type(Kind.TEXT)),
        Column("data", Type(Kind.JSON)),
    ),
    ("id",),
)


@pytest.fixture
def sink(mongo_target: str) -> Iterator[MongoSink]:
    with MongoSink("target", mongo_target) as sink:
        sink.prepare()
        sink.create_table(TABLE)
        sink.fence("p", 0, 1, SOURCE, BEGINNING)
        yield sink


@pytest.fixture
def database(mongo_target: str) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_target) as client:
        yield client.get_default_database()


def put(row: Row, op: str = Op.INSERT, key: Row | None = None) -> Change:
    return Change(0, op, 1, key, None, row)


def delete(*key: Any) -> Change:
    return Change(0, Op.DELETE, 1, key, None, None)


TRUNCATE = Change(0, Op.TRUNCATE, 1, None, None, None)


#: So many more rows has each batch that is to take too long.
STEP = 20_000


def batch(number: int, *changes: Change, loading: bool = False, table: TableSchema = TABLE, epoch: int = 1) -> Batch:
    """The transaction with this number, after the one before it."""
    for ordinal, change in enumerate(changes, 1):
        change.ordinal = ordinal
    info = TransactionInfo(f"{number:016x}", 1_700_000_000_000_000 + number)
    after = Position(f"{number - 1:016x}") if number > 1 else BEGINNING
    sections = [Section(info, len(changes))]
    tables = {1: table}
    loads = [1] if loading else []
    return Batch("s", "p", 0, epoch, after, Position(info.commit), sections, tables, list(changes), loading=loads)


def documents(database: Database[dict[str, Any]], name: str = "things") -> list[dict[str, Any]]:
    return list(database[name].find().sort("_id"))


def rows(sink: MongoSink, table: TableSchema = TABLE) -> list[Row]:
    with sink.reader() as reader:
        return reader.chunk(table, None, 100_000).rows


def test_rows_are_documents(sink: MongoSink, database: Database[dict[str, Any]]) -> None:
    assert sink.apply(batch(1, put((1, "a", '{"x": 1}')), put((2, None, None)))) == Outcome.APPLIED
    assert documents(database) == [{"_id": 1, "name": "a", "data": {"x": 1}}, {"_id": 2, "name": None, "data": None}]
    assert rows(sink) == [(1, "a", '{"x": 1}'), (2, None, None)]


def test_an_insert_of_a_row_that_is_there_replaces_it(sink: MongoSink) -> None:
    sink.apply(batch(1, put((1, "a", None))))
    assert sink.apply(batch(2, put((2, "b", None)), put((1, "c", None)))) == Outcome.APPLIED
    assert rows(sink) == [(1, "c", None), (2, "b", None)]


def test_many_inserts_and_updates_in_one_batch_are_all_there(sink: MongoSink) -> None:
    sink.apply(batch(1, *[put((i, "old", None)) for i in range(100)]))
    changes = [put((i, "new", None), Op.UPDATE) for i in range(50)]
    changes += [put((i, "more", None)) for i in range(100, 150)] + [delete(i) for i in range(50, 60)]
    sink.apply(batch(2, *changes))
    expected = {i: "new" if i < 50 else "old" if i < 100 else "more" for i in range(150) if not 50 <= i < 60}
    assert {row[0]: row[1] for row in rows(sink)} == expected


def test_an_unchanged_column_keeps_its_value(sink: MongoSink) -> None:
    sink.apply(batch(1, put((1, "a", '{"x": 1}'))))
    sink.apply(batch(2, put((1, "b", UNCHANGED), Op.UPDATE)))
    assert rows(sink) == [(1, "b", '{"x": 1}')]


def test_an_update_in_part_of_a_missing_row_is_refused_and_nothing_is_applied(sink: MongoSink) -> None:
    with pytest.raises(TargetRejected, match=r"things: the row with key \(2,\) is to be updated in part"):
        sink.apply(batch(1, put((1, "a", None)), put((2, "b", UNCHANGED), Op.UPDATE)))
    assert rows(sink) == []
    assert sink.marks("p")[0].position == BEGINNING


def test_while_the_table_is_loading_an_update_in_part_of_a_missing_row_is_left_to_its_chunk(sink: MongoSink) -> None:
    changes = [put((1, "a", None)), put((2, "b", UNCHANGED), Op.UPDATE), put((4, "c", UNCHANGED), Op.UPDATE, key=(3,))]
    assert sink.apply(batch(1, *changes, loading=True)) == Outcome.APPLIED
    assert rows(sink) == [(1, "a", None)]


def test_a_key_change_carries_the_unchanged_columns(sink: MongoSink) -> None:
    sink.apply(batch(1, put((1, "a", '{"$ref": "#/x"}'))))
    sink.apply(batch(2, put((5, "b", UNCHANGED), Op.UPDATE, key=(1,))))
    assert rows(sink) == [(5, "b", '{"$ref": "#/x"}')]


def test_truncate_empties_the_collection_in_its_place(sink: MongoSink) -> None:
    sink.apply(batch(1, put((1, "a", None))))
    sink.apply(batch(2, put((2, "b", None)), TRUNCATE, put((3, "c", None))))
    assert rows(sink) == [(3, "c", None)]


def test_rows_may_swap_the_values_of_a_unique_index(sink: MongoSink, database: Database[dict[str, Any]]) -> None:
    database["things"].create_index("name", unique=True)
    sink.apply(batch(1, put((1, "a", '{"x": 1}')), put((2, "b", "[]"))))
    sink.apply(batch(2, put((1, "b", UNCHANGED), Op.UPDATE), put((2, "a", "true"), Op.UPDATE)))
    assert rows(sink) == [(1, "b", '{"x": 1}'), (2, "a", "true")]


def test_a_taken_value_of_a_unique_index_is_refused_without_the_value(
    sink: MongoSink, database: Database[dict[str, Any]]
) -> None:
    database["things"].create_index("name", unique=True)
    sink.apply(batch(1, put((1, "precious", None))))
    with pytest.raises(TargetRejected, match=r"things: duplicate key in the unique index on \(name\)") as refusal:
        sink.apply(batch(2, put((2, "precious", None))))
    assert "precious" not in str(refusal.value)
    assert rows(sink) == [(1, "precious", None)]


def test_a_row_larger_than_a_document_is_refused(sink: MongoSink) -> None:
    with pytest.raises(TargetRejected, match="16 MB"):
        sink.apply(batch(1, put((1, "x" * 17_000_000, None))))
    assert rows(sink) == []


def test_a_batch_larger_than_a_message_takes_several_commands(sink: MongoSink) -> None:
    large = "x" * 15_000_000
    assert sink.apply(batch(1, *[put((i, large, None)) for i in range(4)])) == Outcome.APPLIED
    assert sink.apply(batch(2, *[put((i, large, None), Op.UPDATE) for i in range(4)])) == Outcome.APPLIED
    with sink.reader() as reader:
        assert reader.count(TABLE) == 4


def test_a_validator_of_the_collection_refuses_a_row(sink: MongoSink, database: Database[dict[str, Any]]) -> None:
    database.command({"collMod": "things", "validator": {"name": {"$type": "string"}}})
    with pytest.raises(TargetRejected, match="things: MongoDB error 121"):
        sink.apply(batch(1, put((1, None, None))))


def test_a_collection_dropped_while_running_stops_the_pipeline(
    sink: MongoSink, database: Database[dict[str, Any]]
) -> None:
    sink.apply(batch(1, put((1, "a", None))))
    database["things"].drop()
    with pytest.raises(Halt) as halt:
        sink.apply(batch(2, put((2, "b", None))))
    assert halt.value.state is State.SCHEMA_MISMATCH
    assert "things" not in database.list_collection_names()


def test_a_collection_made_anew_while_running_is_written_to(
    sink: MongoSink, database: Database[dict[str, Any]]
) -> None:
    sink.apply(batch(1, put((1, "a", None))))
    database["things"].drop()
    assert sink.create_table(TABLE)
    assert sink.apply(batch(2, put((2, "b", None)))) == Outcome.APPLIED
    assert rows(sink) == [(2, "b", None)]


def test_the_same_batches_from_many_threads_are_applied_once(sink: MongoSink, mongo_target: str) -> None:
    batches = [
        batch(number, put((number, "a", None)), put((0, str(number), None), Op.UPDATE)) for number in range(1, 6)
    ]
    outcomes: list[str] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with MongoSink("target", mongo_target) as mine:
                for one in batches:
                    while (outcome := mine.apply(one)) == Outcome.EARLY:
                        pass
                    outcomes.append(outcome)
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert outcomes.count(Outcome.APPLIED) == len(batches)
    assert outcomes.count(Outcome.DUPLICATE) == 3 * len(batches)
    assert sink.marks("p")[0].changes == 10
    assert rows(sink)[0] == (0, "5", None)


def test_an_apply_waits_for_the_one_before_it(sink: MongoSink, database: Database[dict[str, Any]]) -> None:
    """Another transaction holds the shard's document: the apply begins when that one ends."""
    outcomes: list[str] = []
    applying = threading.Thread(target=lambda: outcomes.append(sink.apply(batch(1, put((1, "a", None))))))
    watermarks = database["worker_sync_watermarks"]
    with database.client.start_session() as session:
        session.start_transaction()
        watermarks.update_one({"_id": {"p": "p", "s": 0}}, {"$set": {"position": "x/end/0"}}, session=session)
        applying.start()
        admin = database.client.admin
        waiting = (
            {"$currentOp": {"allUsers": True}},
            {"$match": {"command.u.$inc.turns": 1, "writeConflicts": {"$gt": 0}}},
        )
        eventually(lambda: list(admin.aggregate(list(waiting))), what="the apply waits")
        session.abort_transaction()
    applying.join()
    assert outcomes == [Outcome.APPLIED]


#: A worker between two commands of its transaction, until it is killed.
IN_A_TRANSACTION = """
import sys
from pymongo import MongoClient
client = MongoClient(sys.argv[1], appname="worker-sync")
session = client.start_session()
session.start_transaction()
marks = client.get_default_database().worker_sync_watermarks
marks.update_one({"_id.p": "p"}, {"$set": {"position": "half done"}}, session=session)
print("half done", flush=True)
sys.stdin.read()
"""


def test_the_transaction_of_a_worker_that_vanished_does_not_hold_up_the_next(
    sink: MongoSink, database: Database[dict[str, Any]], mongo_target: str
) -> None:
    with MongoClient[dict[str, Any]](mongo_target, appname="worker-sync") as vanished:
        marks = vanished.get_default_database().worker_sync_watermarks
        with vanished.start_session() as session, session.start_transaction():
            marks.update_one({"_id.p": "p"}, {"$set": {"position": "half done"}}, session=session)
            began = time.monotonic()
            assert sink.apply(batch(1, put((1, "one", None)))) == Outcome.APPLIED
            # The server by itself: 60. A worker that only paused for less than 5 s goes on.
            assert IDLE_SECONDS < time.monotonic() - began < 40
            session.abort_transaction()
    assert len(documents(database)) == 1


def test_the_transaction_of_a_worker_that_was_killed_is_ended_as_soon_as_its_connection_is(
    sink: MongoSink, mongo_target: str
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", IN_A_TRANSACTION, mongo_target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"half done\n"
        worker.kill()
    began = time.monotonic()
    assert sink.apply(batch(1, put((1, "one", None)))) == Outcome.APPLIED
    assert time.monotonic() - began < IDLE_SECONDS


def test_a_new_capture_does_not_wait_for_a_worker_that_vanished(sink: MongoSink, mongo_target: str) -> None:
    with MongoClient[dict[str, Any]](mongo_target, appname="worker-sync") as vanished:
        marks = vanished.get_default_database().worker_sync_watermarks
        with vanished.start_session() as session, session.start_transaction():
            marks.update_one({"_id.p": "p"}, {"$set": {"position": "half done"}}, session=session)
            began = time.monotonic()
            assert sink.fence("p", 0, 2, SOURCE, BEGINNING).position == BEGINNING
            assert time.monotonic() - began < 40  # the server by itself: 60
            session.abort_transaction()


def test_the_time_of_an_apply_is_the_servers(sink: MongoSink, database: Database[dict[str, Any]]) -> None:
    def server_time() -> int:
        return int(database.command("hello")["localTime"].timestamp() * 1_000_000)

    before = server_time()
    sink.apply(batch(1, *[put((i, "a", None)) for i in range(100)]))
    applied_at = sink.marks("p")[0].applied_at
    assert applied_at is not None
    # The server's clock for this has milliseconds.
    assert before - 1_000_000 <= applied_at <= server_time() + 1_000_000


def test_snapshot_progress_keeps_any_table_name_and_any_key(sink: MongoSink) -> None:
    key = ("a", 1, (1 << 64) - 1, True, 1.5, b"\0")
    chunk = batch(1, put((1, "a", None), Op.READ))
    chunk.snapshot = SnapshotMark("we.ird$%2E", 3, key, True)
    chunk.sections = []
    sink.apply(chunk)
    mark = sink.marks("p")[0]
    state = mark.snapshots["we.ird$%2E"]
    assert (state.chunk, state.last_key, state.done) == (3, key, True)
    assert state.last_key is not None
    assert [type(part) for part in state.last_key] == [str, int, int, bool, float, bytes]
    assert mark.committed_at is None


def test_a_fence_of_a_lower_epoch_or_another_source_is_refused(sink: MongoSink) -> None:
    sink.fence("p", 0, 3, SOURCE, BEGINNING)
    with pytest.raises(Fenced):
        sink.fence("p", 0, 2, SOURCE, BEGINNING)
    with pytest.raises(Halt) as halt:
        sink.fence("p", 0, 4, "source-2", BEGINNING)
    assert halt.value.state is State.IDENTITY_CHANGED
    assert sink.apply(batch(1, put((1, "a", None)), epoch=2)) == Outcome.STALE


def test_a_view_or_a_capped_collection_is_no_target(sink: MongoSink, database: Database[dict[str, Any]]) -> None:
    database.command({"create": "a_view", "viewOn": "things", "pipeline": []})
    database.create_collection("small", capped=True, size=4096)
    for name in ("a_view", "small"):
        with pytest.raises(Halt, match=f"collection {name} can't take the rows"):
            sink.create_table(TableSchema(TableName("", name), TABLE.columns, TABLE.key))


def test_a_collection_with_another_kind_of_id_is_no_target(sink: MongoSink) -> None:
    sink.apply(batch(1, put((1, "a", None))))
    composite = TableSchema(TABLE.table, TABLE.columns, ("id", "name"))
    with pytest.raises(Halt, match="_id does not hold the key"):
        sink.create_table(composite)


def test_chunks_follow_each_other_in_key_order(sink: MongoSink) -> None:
    table = TableSchema(TableName("", "pairs"), TABLE.columns, ("name", "id"))
    sink.create_table(table)
    expected = [(i, name, None) for name in ("a", "b", "é") for i in range(-3, 4)]
    sink.apply(batch(1, *[put(row) for row in reversed(expected)], table=table))
    read: list[Row] = []
    with sink.reader() as reader:
        while True:
            chunk = reader.chunk(table, (read[-1][1], read[-1][0]) if read else None, 7)
            read += chunk.rows
            if chunk.done:
                break
        assert read == expected
        assert sorted(reader.rows(table, [("b", 1), ("zz", 1)]).rows) == [(1, "b", None)]
        assert reader.schema(TableName("", "nothing")) is None


def test_an_unreachable_server_is_named_without_its_password() -> None:
    url = "mongodb://user:secret@127.0.0.1:1/shop?serverSelectionTimeoutMS=200"
    with MongoSink("target", url) as sink:
        with pytest.raises(Unreachable, match=r"mongodb://user@127\.0\.0\.1:1/shop") as refusal:
            sink.prepare()
        assert "secret" not in str(refusal.value)
        (finding,) = sink.preflight([TABLE])
        assert (finding.check, finding.ok) == ("reachable", False)


def test_a_wrong_password_is_told_as_such(mongo_target: str) -> None:
    if "@" not in mongo_target:
        pytest.skip("this server asks for no password")
    head, _, tail = mongo_target.rpartition("@")
    with (
        MongoSink("target", f"{head.rpartition(':')[0]}:wrong@{tail}") as sink,
        pytest.raises(ConfigError, match="refused the user name or password"),
    ):
        sink.prepare()


def test_preflight_of_a_good_target_finds_nothing(sink: MongoSink) -> None:
    missing = TableSchema(TableName("", "new"), TABLE.columns, TABLE.key)
    findings = sink.preflight([TABLE, missing])
    assert [finding for finding in findings if finding.ok is False] == []
    assert {"reachable", "replica-set", "version", "privileges", "oplog"} < {finding.check for finding in findings}


def test_preflight_names_the_missing_privilege_and_its_grant(
    mongo_target: str, database: Database[dict[str, Any]]
) -> None:
    if "@" not in mongo_target:
        pytest.skip("this server asks for no password")
    database.command({"createUser": "reader", "pwd": "pw", "roles": [{"role": "read", "db": database.name}]})
    _, _, tail = mongo_target.rpartition("@")
    tail = tail.replace("authSource=admin", f"authSource={database.name}")
    with MongoSink("target", f"mongodb://reader:pw@{tail}") as sink:
        findings = {finding.check: finding for finding in sink.preflight([])}
        assert findings["privileges"].ok is False
        assert "grantRolesToUser('reader'" in findings["privileges"].fix
        assert findings["oplog"].ok is None
        with pytest.raises(Halt, match="lacks a privilege"):
            sink.prepare()
    database.command({"dropUser": "reader"})


def apply_ever_larger(sink: MongoSink) -> None:
    """What takes some machines more than a second takes others less."""
    for number in range(1, 6):
        sink.apply(batch(number, *[put((i, "a", None), Op.UPDATE) for i in range(STEP * number)]))


def test_a_transaction_that_lives_too_long_is_transient_and_says_what_to_do(own_mongodb: EmbeddedMongo) -> None:
    url = with_database(own_mongodb.url, "shop")
    with MongoSink("target", url) as sink, MongoClient[dict[str, Any]](url) as client:
        sink.prepare()
        sink.create_table(TABLE)
        sink.fence("p", 0, 1, SOURCE, BEGINNING)
        client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=1)
        with pytest.raises(Transient, match="transactionLifetimeLimitSeconds"):
            apply_ever_larger(sink)
        client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=60)
        applied = sink.marks("p")[0].batches
        assert len(rows(sink)) == STEP * applied
        assert sink.apply(batch(applied + 1, put((1, "b", None)))) == Outcome.APPLIED


def test_a_sink_goes_on_after_its_server_was_killed(own_mongodb: EmbeddedMongo) -> None:
    with MongoSink("target", with_database(own_mongodb.url, "shop")) as sink:
        sink.prepare()
        sink.create_table(TABLE)
        sink.fence("p", 0, 1, SOURCE, BEGINNING)
        sink.apply(batch(1, put((1, "a", None))))
        own_mongodb.kill()
        with pytest.raises(Unreachable):
            sink.apply(batch(2, put((2, "b", None))))
        own_mongodb.start()
        outcomes = {sink.apply(batch(1, put((1, "a", None)))), sink.apply(batch(2, put((2, "b", None))))}
        assert outcomes == {Outcome.DUPLICATE, Outcome.APPLIED}
        assert rows(sink) == [(1, "a", None), (2, "b", None)]


class WithoutItsSet(EmbeddedMongo):
    """A member that has not taken its place in the replica set, as every member for a moment after its start."""

    def _after_start(self, state: ServerState) -> None:
        """Nothing is initiated."""


def test_a_connection_to_a_server_that_was_still_starting_is_given_up_for_another() -> None:
    with server_directory("mongo") as directory:
        server = WithoutItsSet(directory)
        try:
            server.start()
        except (MissingWheel, EmbeddedServerFailed) as error:
            unavailable("MongoDB", error)
        try:
            address = server.url.partition("@")[2].partition("/")[0]
            with (
                MongoSink("target", f"mongodb://{address}/shop?directConnection=true") as early,
                pytest.raises(Transient, match="still starting"),
            ):
                early.apply(batch(1, put((1, "one", None))))
        finally:
            server.stop()


def test_json_nested_deeper_than_a_document_may_be_is_refused(sink: MongoSink) -> None:
    deep = "[" * 90 + "]" * 90
    assert sink.apply(batch(1, put((1, "a", deep)))) == Outcome.APPLIED
    for depth in (250, 900, 100_000):
        with pytest.raises(Permanent):
            sink.apply(batch(2, put((2, "a", "[" * depth + "]" * depth))))
    assert rows(sink) == [(1, "a", deep)]


@pytest.fixture
def failing_mongodb() -> Iterator[str]:
    """A server whose commands can be made to fail."""
    with server_directory("mongo") as directory:
        server = EmbeddedMongo(directory, {"setParameter": "enableTestCommands=1"})
        try:
            server.start()
        except (MissingWheel, EmbeddedServerFailed) as error:
            unavailable("MongoDB", error)
        yield with_database(server.url, "shop")
        server.stop()


def fail(database: Database[dict[str, Any]], times: int, command: str, **how: Any) -> None:
    data = {"failCommands": [command], "appName": "worker-sync", **how}
    database.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data})


def test_failures_of_the_server_are_mended_in_place_or_handed_back(failing_mongodb: str) -> None:
    with MongoSink("target", failing_mongodb) as sink, MongoClient[dict[str, Any]](failing_mongodb) as client:
        database = client.get_default_database()
        sink.prepare()
        sink.create_table(TABLE)
        sink.fence("p", 0, 1, SOURCE, BEGINNING)

        # The commit is done, its answer is lost.
        fail(database, 1, "commitTransaction", writeConcernError={"code": 91, "errmsg": "shutting down"})
        assert sink.apply(batch(1, put((1, "a", None)))) == Outcome.APPLIED
        fail(database, 1, "commitTransaction", closeConnection=True)
        assert sink.apply(batch(2, put((2, "a", None)))) == Outcome.APPLIED

        # The connection is lost in the middle: the transaction is done over.
        fail(database, 1, "insert", closeConnection=True)
        assert sink.apply(batch(3, put((3, "a", None)))) == Outcome.APPLIED

        # A conflict with another writer is met again and again.
        fail(database, 3, "insert", errorCode=112, errorLabels=["TransientTransactionError"])
        assert sink.apply(batch(4, put((4, "a", None)))) == Outcome.APPLIED
        fail(database, 1000, "insert", errorCode=112, errorLabels=["TransientTransactionError"])
        with pytest.raises(Transient, match="conflicting writes"):
            sink.apply(batch(5, put((5, "a", None))))
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        assert sink.apply(batch(5, put((5, "a", None)))) == Outcome.APPLIED
        assert [row[0] for row in rows(sink)] == [1, 2, 3, 4, 5]
        assert sink.marks("p")[0].changes == 5


def test_a_watermark_of_before_parked_keys_holds_none(sink: MongoSink, database: Database[dict[str, Any]]) -> None:
    database.worker_sync_watermarks.update_many({}, {"$unset": {"parked": ""}})
    assert sink.apply(batch(1, put((1, "a", None)))) == Outcome.APPLIED
    assert {mark.parked for mark in sink.marks("p").values()} == {frozenset()}
