"""MongoDB as a source on a real replica set: what the contract suite does not ask of every engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.write_concern import WriteConcern

from connectors.base import Source
from connectors.mongodb.source import MongoSource
from tests.contract.source_contract import read_on
from tests.contract.source_engine import following, rows_of
from tests.fixtures.servers import server_directory, unavailable
from worker_sync.core.change import Change
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.schema import TableName
from worker_sync.embedded import EmbeddedMongo, EmbeddedServerFailed, MissingWheel

Document = dict[str, Any]
GONE = {State.SCHEMA_MISMATCH}
WITH, WITHOUT = TableName("", "with_images"), TableName("", "without_images")


@pytest.fixture
def database(mongo_source: str) -> Iterator[Database[Document]]:
    with MongoClient[Document](mongo_source) as client:
        database = client.get_default_database(write_concern=WriteConcern("majority"))
        database.create_collection(WITH.name, changeStreamPreAndPostImages={"enabled": True})
        database.create_collection(WITHOUT.name)
        yield database


@pytest.fixture
def source(mongo_source: str, database: Database[Document]) -> Iterator[Source]:
    with MongoSource("shop", mongo_source) as source:
        yield source


@pytest.fixture
def start(source: Source) -> str:
    return source.create_stream([WITH, WITHOUT]).commit


def told(changes: list[Any]) -> list[tuple[str, Any]]:
    """Operations with the value of the field `v` behind each."""
    return [(str(change.op), _field(change)) for _, change in changes]


def _field(change: Change) -> Any:
    return None if change.after is None else json.loads(change.after[1]).get("v")


# -- documents after updates


def test_images_give_the_document_before_and_after_each_change(
    database: Database[Document], source: Source, start: str
) -> None:
    collection = database[WITH.name]
    collection.insert_one({"_id": 1, "v": "a"})
    collection.update_one({"_id": 1}, {"$set": {"v": "b"}})
    collection.replace_one({"_id": 1}, {"v": "c"})
    collection.delete_one({"_id": 1})
    with following(source, start) as follower:
        changes = follower.read_changes(4)
    assert told(changes) == [("c", "a"), ("u", "b"), ("u", "c"), ("d", None)]
    before = [change.before and json.loads(change.before[1])["v"] for _, change in changes]
    assert before == [None, "a", "b", "c"]
    assert changes[3][1].key == ("1",)


def test_without_images_each_update_has_the_document_of_its_own_time(
    database: Database[Document], source: Source, start: str
) -> None:
    collection = database[WITHOUT.name]
    for number in (1, 2, 3):
        collection.insert_one({"_id": number, "v": 0, "kept": "k"})
    for value in (1, 2, 3):
        collection.update_many({}, {"$set": {"v": value}})
    collection.delete_one({"_id": 2})
    collection.update_one({"_id": 3}, {"$unset": {"v": ""}})
    collection.replace_one({"_id": 1}, {"v": 9})
    with following(source, start) as follower:
        changes = follower.read_changes(15)
    rounds = [("u", value) for value in (1, 2, 3) for _ in range(3)]
    assert told(changes) == [("c", 0)] * 3 + rounds + [("d", None), ("u", None), ("u", 9)]
    rows = [change.after for _, change in changes if change.after]
    assert rows[-2] == ("3", '{"_id": 3, "kept": "k"}')
    assert all(json.loads(row[1])["kept"] == "k" for row in rows[:-1])


def test_without_images_a_transaction_ends_in_what_it_committed(
    database: Database[Document], source: Source, start: str
) -> None:
    collection = database[WITHOUT.name]
    collection.insert_many([{"_id": 1, "v": 0}, {"_id": 2, "v": 0}])
    with database.client.start_session() as session, session.start_transaction():
        collection.update_one({"_id": 1}, {"$set": {"v": 1}}, session=session)
        collection.update_one({"_id": 2}, {"$set": {"v": 1}}, session=session)
        collection.update_one({"_id": 1}, {"$set": {"v": 2}}, session=session)
        collection.delete_one({"_id": 2}, session=session)
    collection.update_one({"_id": 1}, {"$set": {"v": 3}})
    with following(source, start) as follower:
        changes = follower.read_changes(7)
    # Inside a transaction only its end can be known, which is what a target shows of it.
    assert told(changes)[2:] == [("u", 2), ("d", None), ("u", 2), ("d", None), ("u", 3)]
    assert [change.ordinal for _, change in changes[2:]] == [1, 2, 3, 4, 1]


def test_an_update_whose_version_is_gone_halts(own_mongodb: EmbeddedMongo) -> None:
    with MongoClient[Document](own_mongodb.url) as client, MongoSource("s", _in(own_mongodb.url, "shop")) as source:
        client.admin.command({"setParameter": 1, "minSnapshotHistoryWindowInSeconds": 0})
        collection = client["shop"]["c"]
        collection.insert_one({"_id": 1, "v": 0})
        start = source.create_stream([TableName("", "c")]).commit
        collection.update_one({"_id": 1}, {"$set": {"v": 1}})
        halt = _first_halt(source, start, lambda: collection.update_one({"_id": 2}, {"$inc": {"n": 1}}, upsert=True))
    assert halt.state is State.POSITION_LOST
    assert 'collMod: "c", changeStreamPreAndPostImages: {enabled: true}' in halt.recovery


def _in(url: str, name: str) -> str:
    return url.replace("/?", f"/{name}?")


def _first_halt(source: Source, start: str, meanwhile: Any) -> Halt:
    """Begin from `start` again and again until the server has forgotten."""
    deadline = monotonic() + 60
    while monotonic() < deadline:
        meanwhile()
        try:
            with following(source, start) as follower:
                follower.read_changes(1)
        except Halt as halt:
            return halt
    raise AssertionError("the stream can still be read from its start")


# -- transactions


def test_a_transaction_has_a_number_and_a_single_write_none(
    database: Database[Document], source: Source, start: str
) -> None:
    collection = database[WITH.name]
    collection.insert_many([{"_id": 1}, {"_id": 2}])
    with database.client.start_session() as session, session.start_transaction():
        collection.insert_one({"_id": 3}, session=session)
        database[WITHOUT.name].insert_one({"_id": 4}, session=session)
    with following(source, start) as follower:
        infos = [info for info, _ in follower.read_changes(4)]
    assert [bool(info.xid) for info in infos] == [False, False, True, True]
    assert infos[2] == infos[3]
    assert len({info.commit for info in infos}) == 3


def test_a_lone_change_does_not_wait_for_another(database: Database[Document], source: Source, start: str) -> None:
    with following(source, start) as follower:
        for number in range(5):
            database[WITH.name].insert_one({"_id": number})
            began = monotonic()
            follower.read_changes(number + 1)
            # An idle server writes into its log every 10 s, which would end the transaction too.
            assert monotonic() - began < 5


def test_a_cut_in_the_middle_of_a_transaction_delivers_it_again_as_the_same(
    database: Database[Document], source: Source, start: str
) -> None:
    with database.client.start_session() as session, session.start_transaction():
        database[WITH.name].insert_many([{"_id": number} for number in range(95)], session=session)
    with following(source, start, limit=10) as follower:
        follower.read_until(lambda: len(follower.changes) >= 30, "a part of the transaction")
        first = follower.changes
    with following(source, start, limit=10) as follower:
        assert follower.read_changes(95)[: len(first)] == first


def test_a_killed_server_is_transient_and_the_stream_goes_on_after_its_restart(own_mongodb: EmbeddedMongo) -> None:
    url = _in(own_mongodb.url, "shop")
    table = TableName("", "c")
    with MongoSource("s", url) as source, MongoClient[Document](own_mongodb.url) as client:
        collection = client["shop"].get_collection("c", write_concern=WriteConcern("majority", j=True))
        collection.insert_one({"_id": 1})
        start = source.create_stream([table]).commit
        with following(source, start) as follower:
            collection.insert_one({"_id": 2})
            follower.read_changes(1)
            reached = follower.reached
            own_mongodb.kill()
            with pytest.raises(Transient):
                read_on(follower.stream)
        own_mongodb.start()
        collection.insert_one({"_id": 3})
        with following(source, reached) as follower:
            assert [change.after and change.after[0] for _, change in follower.read_changes(1)] == ["3"]


# -- what stops a stream


@pytest.mark.parametrize(
    ("end", "words", "states"),
    [
        (lambda database: database[WITH.name].drop(), "with_images was dropped", GONE),
        (lambda database: database[WITH.name].rename("other"), "with_images was renamed to other", GONE),
        # Which collection goes first is the server's business; the stream's own is among them.
        (lambda database: database.client.drop_database(database.name), "", {*GONE, State.SLOT_MISSING}),
        (
            lambda database: database["fresh"].rename(WITH.name, dropTarget=True),
            "fresh was renamed to with_images",
            GONE,
        ),
    ],
    ids=["drop", "rename", "dropDatabase", "replaced"],
)
def test_what_ends_a_collection_halts_after_all_that_was_before(
    database: Database[Document], source: Source, start: str, end: Any, words: str, states: set[State]
) -> None:
    database["fresh"].insert_one({"_id": "new"})
    with following(source, start) as follower:
        database[WITH.name].insert_one({"_id": 1, "v": "last"})
        end(database)
        with pytest.raises(Halt) as halt:
            follower.read_until(lambda: False, "the end")
        assert told(follower.changes) == [("c", "last")]
        assert follower.pieces[-1].last
    assert halt.value.state in states
    assert words in halt.value.detail
    assert "worker-sync resync PIPELINE" in halt.value.recovery


def test_what_happens_to_other_collections_stops_nothing(
    database: Database[Document], source: Source, start: str
) -> None:
    database["one"].insert_one({})
    database["one"].rename("two")
    database["two"].drop()
    database[WITH.name].create_index("v")
    database[WITH.name].insert_one({"_id": 1, "v": "after"})
    with following(source, start) as follower:
        assert told(follower.read_changes(1)) == [("c", "after")]


def test_dropping_the_stream_stops_its_reader(source: Source, start: str) -> None:
    with following(source, start) as follower:
        source.drop_stream()
        with pytest.raises(Halt) as halt:
            read_on(follower.stream)
        assert halt.value.state is State.SLOT_MISSING
        with pytest.raises(Transient):
            follower.stream.read(0.1, 10)


def test_a_start_behind_the_end_of_the_log_is_lost(source: Source, start: str) -> None:
    with pytest.raises(Halt) as halt:
        source.open_stream("f" * 16)
    assert halt.value.state is State.POSITION_LOST


def test_text_that_is_not_utf8_halts_without_being_quoted(
    database: Database[Document], source: Source, start: str
) -> None:
    database[WITH.name].insert_one({"_id": 1, "v": "good"})
    broken = bson.encode({"_id": 2, "v": "XY"}).replace(b"XY", b"\xff\xfe")
    database[WITH.name].insert_one(RawBSONDocument(broken))
    with following(source, start) as follower:
        with pytest.raises(Halt) as halt:
            follower.read_until(lambda: False, "the end")
        assert told(follower.changes) == [("c", "good")]
    assert halt.value.state is State.UNREPRESENTABLE_VALUE
    assert "with_images" in halt.value.detail
    assert "xff" not in str(halt.value)


@pytest.mark.slow
def test_a_log_that_rolled_over_is_lost(small_log: str) -> None:
    with MongoClient[Document](small_log) as client, MongoSource("s", _in(small_log, "shop")) as source:
        client["shop"]["c"].insert_one({"_id": 0})
        start = source.create_stream([TableName("", "c")]).commit
        filler = client["other"]["filler"]

        def fill() -> None:
            filler.insert_many([{"text": "x" * 200_000} for _ in range(20)])
            filler.delete_many({})

        halt = _first_halt_at_start(source, start, fill)
        assert halt.state is State.POSITION_LOST
        assert "worker-sync resync PIPELINE" in halt.recovery
        source.drop_stream()
        with following(source, source.create_stream([TableName("", "c")]).commit) as follower:
            client["shop"]["c"].insert_one({"_id": 1})
            assert len(follower.read_changes(1)) == 1


def _first_halt_at_start(source: Source, start: str, meanwhile: Any) -> Halt:
    deadline = monotonic() + 90
    while monotonic() < deadline:
        meanwhile()
        try:
            with suppress(Transient), source.open_stream(start):
                pass
        except Halt as halt:
            return halt
    raise AssertionError("the log still reaches back to the start")


@pytest.fixture
def small_log() -> Iterator[str]:
    """A server that keeps a log of a few megabytes."""
    with server_directory("mongo") as directory:
        server = EmbeddedMongo(directory, {"oplogSize": "5"})
        try:
            server.start()
        except (MissingWheel, EmbeddedServerFailed) as error:
            unavailable("MongoDB", error)
        try:
            yield server.url
        finally:
            server.stop()


# -- large documents


def test_a_large_document_comes_without_the_one_before(
    database: Database[Document], source: Source, start: str
) -> None:
    """Both images and the description of an update of 10 MB are 31 MB, more than an event may have."""
    collection = database[WITH.name]
    collection.insert_one({"_id": 1, "v": "x" * 10_000_000})
    collection.update_one({"_id": 1}, {"$set": {"v": "y" * 10_000_000}})
    collection.update_one({"_id": 1}, {"$set": {"v": "small"}})
    with following(source, start) as follower:
        changes = [change for _, change in follower.read_changes(3)]
    assert [_field(change)[0] for change in changes] == ["x", "y", "s"]
    assert [change.before is None for change in changes] == [True, True, False]


# -- current rows

IDS = [
    MinKey(), None, -5, 1, 2.5, Int64(1 << 40), Decimal128("1E+30"), "", "a", "b", {"a": 1}, {"a": 1, "b": 2},
    Binary(b"x", 0), Binary(bytes(16), 4), ObjectId("507f1f77bcf86cd799439011"), False, True, DatetimeMS(5),
    Timestamp(1, 1), MaxKey(),
]  # fmt: skip


def test_chunks_cover_ids_of_every_type(database: Database[Document], source: Source) -> None:
    database["mixed"].insert_many([{"_id": value} for value in reversed(IDS)])
    with source.reader() as reader:
        schema = reader.schema(TableName("", "mixed"))
        assert schema is not None
        keys, _ = rows_of(reader, schema, 1)
        assert len(keys) == len(set(keys)) == len(IDS)
        assert rows_of(reader, schema, 3)[0] == keys
        found = reader.rows(schema, keys).rows
    assert sorted(row[0] for row in found) == sorted(key[0] for key in keys)


def test_a_chunk_is_found_by_the_index(database: Database[Document], source: Source) -> None:
    database["mixed"].insert_many([{"_id": value} for value in IDS])
    database["mixed"].insert_many([{"_id": number} for number in range(1_000, 3_000)])
    behind = {"$expr": {"$gt": ["$_id", {"$literal": 2_900}]}}
    query = {"find": "mixed", "filter": behind, "sort": {"_id": 1}, "limit": 5}
    plan = database.command({"explain": query, "verbosity": "executionStats"})
    assert plan["executionStats"]["totalKeysExamined"] < 20


def test_tables_are_the_collections_that_can_be_captured(database: Database[Document], source: Source) -> None:
    database.create_collection("view", viewOn=WITH.name, pipeline=[])
    database.create_collection("measures", timeseries={"timeField": "at"})
    database.create_collection("log", capped=True, size=4096)
    database.create_collection("with.dot")
    source.create_stream([WITH])
    assert [str(schema.table) for schema in source.tables()] == ["with_images", "without_images", "with.dot"]
    for name, reason in (("view", "a view"), ("measures", "a time series"), ("log", "capped")):
        with pytest.raises(Halt) as halt:
            source.create_stream([TableName("", name)])
        assert halt.value.state is State.TABLE_UNSUPPORTED
        assert reason in halt.value.detail
        failed = [finding for finding in source.preflight([TableName("", name)]) if finding.ok is False]
        assert [finding.check for finding in failed] == [f"table {name}"]


# -- preflight


def test_preflight_asks_for_images_and_names_the_statement(database: Database[Document], source: Source) -> None:
    (failed,) = [finding for finding in source.preflight([WITH, WITHOUT]) if finding.ok is False]
    assert failed.check == f"images {WITHOUT}"
    assert failed.fix == 'db.runCommand({collMod: "without_images", changeStreamPreAndPostImages: {enabled: true}})'
    database.command({"collMod": WITHOUT.name, "changeStreamPreAndPostImages": {"enabled": True}})
    assert [finding for finding in source.preflight([WITH, WITHOUT]) if not finding.ok] == []


def test_read_write_on_the_database_is_enough_and_read_is_not(
    database: Database[Document], mongo_source: str, start: str
) -> None:
    name = f"u{ObjectId()}"
    database.command({"createUser": name, "pwd": "pw", "roles": [{"role": "read", "db": database.name}]})
    try:
        with MongoSource("shop", _as_user(mongo_source, name, database.name)) as source:
            (failed,) = [finding for finding in source.preflight([WITH]) if finding.ok is False]
            assert failed.check == "privileges"
            assert "insert" in failed.detail
            assert f"grantRolesToUser('{name}'" in failed.fix
            database.command({"grantRolesToUser": name, "roles": [{"role": "readWrite", "db": database.name}]})
        with MongoSource("shop", _as_user(mongo_source, name, database.name)) as source:
            assert [finding for finding in source.preflight([WITH]) if finding.ok is False] == []
            source.create_stream([WITH])
            source.emit("prefix", b"")
            database[WITH.name].insert_one({"_id": 1})
            with following(source, start) as follower:
                assert len(follower.read_changes(1)) == 1
                assert source.stream_status().active
    finally:
        with suppress(OperationFailure):
            database.command({"dropUser": name})


def _as_user(url: str, name: str, database: str) -> str:
    scheme, _, rest = url.partition("://")
    hosts, _, options = rest.rpartition("@")[2].partition("/")
    kept = [option for option in options.partition("?")[2].split("&") if not option.startswith("authSource")]
    return f"{scheme}://{name}:pw@{hosts}/{database}?" + "&".join([*kept, f"authSource={database}"])


def test_messages_of_another_stream_are_not_ours(mongo_source: str, source: Source, start: str) -> None:
    with MongoSource("other", mongo_source) as other:
        other.create_stream([WITH])
        other.emit("prefix", b"theirs")
    source.emit("prefix", b"ours")
    with following(source, start) as follower:
        follower.read_until(lambda: follower.messages, "a message")
    assert [message.content for message in follower.messages] == [b"ours"]
