"""Whole documents from MongoDB into MongoDB and PostgreSQL: what arrives is what was there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import psycopg
import pytest
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.database import Database

from connectors.base import Outcome, Sink, TableReader
from connectors.mongodb.sink import MongoSink
from connectors.mongodb.source import MongoSource
from connectors.postgres.sink import PostgresSink
from tests.contract.sink_target import IDENTITY, PIPELINE, SHARD, Script, chunk_batch, delete, insert, update
from worker_sync.core.position import BEGINNING
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Row

Document = dict[str, Any]
NAME = TableName("", "things")
RAW: CodecOptions[RawBSONDocument] = CodecOptions(RawBSONDocument)
OID = ObjectId("507f1f77bcf86cd799439011")

EVERY_TYPE: Document = {
    "z first": 'ü"\\\n\0🐘',
    "double": [1.0, -0.0, 1e300, 5e-324, float("inf"), float("-inf"), float("nan")],
    "int32": [0, -(1 << 31), (1 << 31) - 1],
    "int64": [Int64(0), Int64(5), Int64(-(1 << 63)), Int64((1 << 63) - 1)],
    "decimal": [Decimal128("1.50"), Decimal128("-9.999999999999999999999999999999999E+6144"), Decimal128("Infinity")],
    "bool": [True, False],
    "null": None,
    "oid": OID,
    "date": [DatetimeMS(0), DatetimeMS(1769860800123), DatetimeMS(-62135596800001), DatetimeMS((1 << 63) - 1)],
    "binary": [Binary(b"\x00\xff", 0), Binary(b"old", 2), Binary(bytes(16), 4), Binary(b"md5", 5), Binary(b"own", 200)],
    "timestamp": Timestamp(4294967295, 1),
    "regex": Regex("^a/", "imsx"),
    "code": [Code("f()"), Code("f()", {"a": 1})],
    "ends": [MinKey(), MaxKey()],
    "nested": {"b": {"a": []}, "a": {}, "": "no name"},
    "a reference": {"$ref": "people", "$id": OID},
    "like a type": [{"$oid": "x"}, {"@json": {"@json": 1}}, {"$numberLong": "5"}],
}
#: Ids of every type that can be one, each in a document of its own.
IDS: list[Any] = [
    OID, str(OID), "", 1, Int64(1 << 40), 2.5, Decimal128("7.10"), True, None, DatetimeMS(5), Timestamp(1, 2),
    MinKey(), MaxKey(),
    Binary(b"x", 0), Binary(bytes(16), 4), {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"b": 2, "a": {"c": 1.0}},
]  # fmt: skip


@pytest.fixture
def source(mongo_source: str) -> Iterator[Database[Document]]:
    with MongoClient[Document](mongo_source) as client:
        database = client.get_default_database()
        database.create_collection("things")
        database["things"].insert_many([{"_id": value, **EVERY_TYPE} for value in IDS])
        yield database


@pytest.fixture
def reader(mongo_source: str, source: Database[Document]) -> Iterator[TableReader]:
    with MongoSource("shop", mongo_source) as opened, opened.reader() as reader:
        yield reader


def fill(sink: Sink, reader: TableReader) -> tuple[TableSchema, list[Row]]:
    """Apply all rows of the source as one snapshot chunk; the target's table, and the rows."""
    schema = reader.schema(NAME)
    assert schema is not None
    table = sink.map_table(schema, None)
    sink.prepare()
    assert sink.create_table(table)
    sink.fence(PIPELINE, SHARD, 1, IDENTITY, BEGINNING)
    rows = reader.chunk(schema, None, 1_000).rows
    assert len(rows) >= len(IDS)
    assert sink.apply(chunk_batch(table, rows, BEGINNING, 1, done=True)) == Outcome.APPLIED
    return table, rows


def test_documents_are_the_same_bytes_in_another_mongodb(
    source: Database[Document], reader: TableReader, mongo_target: str
) -> None:
    with MongoSink("copy", mongo_target) as sink, sink.reader() as copied:
        table, rows = fill(sink, reader)
        assert copied.chunk(table, None, 1_000).rows == rows
        assert copied.rows(table, [(row[0],) for row in rows]).rows != []
        assert not sink.create_table(table)
        assert [finding for finding in sink.preflight([table]) if not finding.ok] == []
    with MongoClient[Document](mongo_target) as client:
        there = client.get_default_database()
        assert documents_of(there) == documents_of(source)


def documents_of(database: Database[Document]) -> list[bytes]:
    found = database.get_collection("things", codec_options=RAW).find().sort("_id", 1)
    return [bytes(cast(RawBSONDocument, document).raw) for document in found]


def test_updates_and_deletes_find_their_documents(reader: TableReader, mongo_target: str) -> None:
    with MongoSink("copy", mongo_target) as sink, sink.reader() as copied:
        table, rows = fill(sink, reader)
        sink.forget(PIPELINE)
        sink.fence(PIPELINE, SHARD, 1, IDENTITY, BEGINNING)
        script = Script(table)
        kept, gone = rows[::2], rows[1::2]
        changed = [(row[0], '{"_id": ' + _id_text(row) + ', "new": 1}') for row in kept]
        script.add(*[update(row) for row in changed], *[delete((row[0],)) for row in gone])
        script.add(insert(('"fresh"', '{"_id": "fresh"}')))
        assert sink.apply(script.whole()) == Outcome.APPLIED
        assert sorted(copied.chunk(table, None, 1_000).rows) == sorted([*changed, ('"fresh"', '{"_id": "fresh"}')])


def _id_text(row: Row) -> str:
    """The `_id` as the document has it, whose type may be narrower than the key's."""
    return str(row[1]).removeprefix('{"_id": ').partition(', "z first"')[0]


def test_documents_are_rows_in_postgresql(source: Database[Document], reader: TableReader, target_db: str) -> None:
    plain = ObjectId()
    source["things"].insert_one({"_id": plain, "n": 5, "big": Int64(7), "at": DatetimeMS(0)})
    with PostgresSink("copy", target_db) as sink, sink.reader() as copied:
        table, rows = fill(sink, reader)
        assert sorted(copied.chunk(table, None, 1_000).rows) == sorted(rows)
    with psycopg.connect(target_db) as connection:
        query = (
            "SELECT (document->>'n')::int, document->'big'->>'$numberLong', (document->'at'->>'$date')::timestamptz "
            "= 'epoch' FROM things WHERE _id = %s"
        )
        assert connection.execute(query, (f'{{"$oid": "{plain}"}}',)).fetchall() == [(5, "7", True)]


def test_a_document_without_a_field_differs_from_one_with_null(mongo_source: str) -> None:
    with MongoClient[Document](mongo_source) as client:
        client.get_default_database()["things"].insert_many([{"_id": 1, "v": None}, {"_id": 2}])
    with MongoSource("shop", mongo_source) as opened, opened.reader() as reader:
        schema = reader.schema(NAME)
        assert schema is not None
        rows = reader.chunk(schema, None, 10).rows
    assert rows == [("1", '{"_id": 1, "v": null}'), ("2", '{"_id": 2}')]
