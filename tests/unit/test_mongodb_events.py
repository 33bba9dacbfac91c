"""Change stream events from their bytes, those that no server here sends among them."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp

from connectors.mongodb.events import Decoder, Event
from connectors.mongodb.transactions import Assembly
from connectors.mongodb.walk import fields
from worker_sync.core.change import Message
from worker_sync.core.errors import Halt, State


def event(operation: str, time: int = 1, **others: Any) -> bytes:
    return bson.encode(
        {
            "_id": {"_data": "82"},
            "operationType": operation,
            "clusterTime": Timestamp(1, time),
            "wallTime": DatetimeMS(1_000),
            "ns": {"db": "shop", "coll": "orders"},
            "documentKey": {"_id": 1},
            **others,
        }
    )


def decoded(data: bytes) -> Event:
    return Decoder("s", ["orders"]).decode(data, 0)


def halt_of(data: bytes) -> Halt:
    with pytest.raises(Halt) as halt:
        decoded(data)
    return halt.value


@pytest.mark.parametrize("operation", ["shardCollection", "createIndexes", "modify", "reshardCollection", "insertion2"])
def test_an_event_of_an_unknown_kind_halts_with_its_name(operation: str) -> None:
    halt = halt_of(event(operation))
    assert halt.state is State.UNKNOWN_MESSAGE
    assert operation in halt.detail


def test_an_event_of_a_collection_that_was_not_asked_for_halts() -> None:
    halt = halt_of(event("delete", ns={"db": "shop", "coll": "other"}))
    assert halt.state is State.UNKNOWN_MESSAGE


def test_an_unknown_bson_type_halts() -> None:
    data = event("insert", fullDocument={"_id": 1, "v": True}).replace(b"\x08v\0", b"\x1fv\0")
    assert halt_of(data).state is State.UNREPRESENTABLE_VALUE


def test_an_update_without_its_document_asks_for_it() -> None:
    for data in (event("update", fullDocument=None), event("update")):
        found = decoded(data)
        assert found.change is not None
        assert found.change.after is None
        assert found.unread == bson.encode({"_id": 1})
        assert found.key == "1"


def test_a_session_and_number_make_a_transaction() -> None:
    found = decoded(event("delete", lsid={"id": Binary(bytes(16), 4)}, txnNumber=bson.Int64(7)))
    assert (found.info.commit, found.info.committed_at) == ("0000000100000001", 1_000_000)
    assert found.info.xid == f"{'00' * 16}:7"


def test_messages_of_ours_are_told_from_those_of_others() -> None:
    place = {"db": "shop", "coll": "worker_sync_stream"}
    document = {"content": Binary(b"x")}
    ours = event("replace", ns=place, documentKey={"_id": {"s": "s", "m": "p"}}, fullDocument=document)
    theirs = event("replace", ns=place, documentKey={"_id": {"s": "t", "m": "p"}}, fullDocument=document)
    assert (decoded(ours).message, decoded(theirs).message) == (Message("p", b"x"), None)


def test_a_message_without_changes_is_a_piece_of_its_own() -> None:
    place = {"db": "shop", "coll": "worker_sync_stream"}
    key = {"_id": {"s": "s", "m": "p"}}
    decoder, assembly = Decoder("s", ["orders"]), Assembly()
    assembly.add(decoder.decode(event("replace", ns=place, documentKey=key, fullDocument={"content": b""}), 0), 10)
    assert assembly.is_open
    assembly.add(decoder.decode(event("delete", time=2), 0), 10)
    (piece,) = assembly.take()
    assert (piece.changes, piece.messages, piece.last) == ([], [Message("p", b"")], True)


def test_fields_are_found_behind_values_of_every_type() -> None:
    values = {
        "a": 1.0, "b": "text", "c": {"d": 1}, "e": [1], "f": Binary(b"abc", 2), "g": None, "h": bson.Regex("x", "i"),
        "i": bson.Code("f", {"s": 1}), "j": 1, "k": Timestamp(1, 1), "l": bson.Int64(1), "m": bson.Decimal128("1"),
        "n": bson.MinKey(), "o": bson.ObjectId(), "p": True, "q": DatetimeMS(1), "r": bson.Code("f"), "end": "here",
    }  # fmt: skip
    data = bson.encode(values)
    found = fields(data)
    assert [name.decode() for name in found] == list(values)
    assert data[found[b"end"][1] + 4 :].startswith(b"here\0")
