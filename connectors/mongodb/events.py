"""Change stream events as changes, straight from their bytes.

Events: mongodb.com/docs/manual/reference/change-events. `lsid` and `txnNumber` are there for transactions only.
Every kind of event that is not known here stops the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

import bson
import msgspec

from connectors.mongodb.collections import DOCUMENT, ID, STREAMS, collection_schema
from connectors.mongodb.conn import PLAIN, Document
from connectors.mongodb.extjson import INT32, INT64, document_text, string_at
from connectors.mongodb.identifiers import key_text
from connectors.mongodb.said import SAID, context
from connectors.mongodb.walk import Place, document, fields
from worker_sync.core import markers
from worker_sync.core.change import Change, Message, Op, TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Row

_RESYNC: Final = "worker-sync resync PIPELINE"
_OPS: Final = {
    b"insert": Op.INSERT.value, b"update": Op.UPDATE.value, b"replace": Op.UPDATE.value, b"delete": Op.DELETE.value,
}  # fmt: skip
_DELETE: Final = Op.DELETE.value
#: What ends a stream, in words.
_ENDINGS: Final = {
    "drop": "collection {collection} was dropped",
    "rename": "collection {collection} was renamed to {renamed}",
    "dropDatabase": "the database was dropped",
    "invalidate": "the change stream is over: what it watched is gone",
}
#: Those that end one collection.
_OF_ONE: Final = frozenset({"drop", "rename"})
_DOCUMENT: Final = 0x03

Fields = dict[bytes, Place]
_SAID: Final = SAID.encode()
#: A BSON timestamp read as one number: its increment is the low half.
_UINT64: Final = Struct("<Q").unpack_from


class Event(msgspec.Struct, gc=False):
    """One event: a change of a row, with the message in front of it that says who wrote it; a message alone; or neither
    when it is none of the stream's business.

    `key` is the text of the row's `_id`. `unread` is the document that holds the `_id` of an update that came without
    the document after it: the change's `after` is still missing. `size` is the number of bytes that it took in the
    server's answer.
    """

    info: TransactionInfo
    size: int
    key: str = ""
    change: Change | None = None
    message: Message | None = None
    unread: bytes | None = None


class Decoder:
    """Decodes the events of one stream, which delivers these collections of this database. Of those that are `gone`
    the log may still hold changes, and behind them what became of the collection."""

    def __init__(self, name: str, collections: Sequence[str], gone: Sequence[str] = ()) -> None:
        self._name = name
        self._kept = frozenset(collections)
        self._numbers = {collection: number for number, collection in enumerate([*collections, *gone], 1)}
        self._by_namespace: dict[bytes, int] = {}
        self.schemas: dict[int, TableSchema] = {
            number: collection_schema(TableName.parse(collection)) for collection, number in self._numbers.items()
        }
        self._info = TransactionInfo("", 0)

    @property
    def commit(self) -> str:
        """The position of the newest event that was looked at, also of one that stopped the stream."""
        return self._info.commit

    def decode(self, data: bytes, at: int) -> Event:
        """The event at an offset. Raises Halt where the stream can't go on with it."""
        found = fields(data, at)
        info = self._transaction(data, found)
        at_op = found[b"operationType"][1]
        op = _OPS.get(data[at_op + 4 : at_op + 3 + INT32(data, at_op)[0]])
        size = INT32(data, at)[0]
        if op is None:
            self._require_kept(data, found)
            return Event(info, size)
        number = self._number(data, found[b"ns"][1])
        if not number:
            return Event(info, size, message=self._message(op, data, found))
        return self._row_event(info, size, op, number, data, found)

    def _transaction(self, data: bytes, found: Fields) -> TransactionInfo:
        commit = f"{_UINT64(data, found[b'clusterTime'][1])[0]:016x}"
        if commit != self._info.commit:
            committed_at = INT64(data, found[b"wallTime"][1])[0] * 1000
            self._info = TransactionInfo(commit, committed_at, _xid(data, found))
        return self._info

    def _number(self, data: bytes, at: int) -> int:
        """The table id of a namespace; 0 for the collection of messages."""
        namespace = document(data, at)
        number = self._by_namespace.get(namespace)
        if number is None:
            collection = _collection(namespace, 0)
            if collection != STREAMS and collection not in self._numbers:
                raise Halt(State.UNKNOWN_MESSAGE, f"an event of collection {collection}, not asked for", _RESYNC)
            number = self._by_namespace[namespace] = self._numbers.get(collection, 0)
        return number

    def _row_event(self, info: TransactionInfo, size: int, op: str, number: int, data: bytes, found: Fields) -> Event:
        # A document key of a replica set is the `_id` alone.
        at = found[b"documentKey"][1]
        is_delete = op == _DELETE
        try:
            key = key_text(data[at + 4], data, at + 9)
            before = _row(key, data, found.get(b"fullDocumentBeforeChange"))
            after = None if is_delete else _row(key, data, found.get(b"fullDocument"))
            message = _said(data, found.get(_SAID))
        except ValueError as error:
            raise self._unrepresentable(number, error) from None
        change = Change(0, op, number, (key,) if is_delete else None, before, after)
        unread = document(data, at) if after is None and not is_delete else None
        return Event(info, size, key, change, message, unread)

    def _unrepresentable(self, number: int, error: ValueError) -> Halt:
        detail = f"{self.schemas[number].table}, column {DOCUMENT} or {ID}: {error}"
        recovery = f"correct the document, then {_RESYNC}; or leave the collection out of the pipeline"
        return Halt(State.UNREPRESENTABLE_VALUE, detail, recovery)

    def _message(self, op: str, data: bytes, found: Fields) -> Message | None:
        key = _plain(data, found[b"documentKey"][1])["_id"]
        if op == _DELETE and key == {"s": self._name}:
            raise Halt(State.SLOT_MISSING, f"the stream {self._name} was dropped", _RESYNC)
        if op == _DELETE or key.get("s") != self._name or "m" not in key:
            return None
        return Message(key["m"], bytes(_plain(data, found[b"fullDocument"][1])["content"]))

    def _require_kept(self, data: bytes, found: Fields) -> None:
        """Raises Halt for an event that the stream can't go on with: any, but the end of a collection that is known to
        be gone."""
        operation = string_at(data, found[b"operationType"][1])[0]
        if operation not in _ENDINGS:
            recovery = f"upgrade Worker-Sync, then worker-sync resume PIPELINE; or {_RESYNC}"
            raise Halt(State.UNKNOWN_MESSAGE, f"a change stream event {operation!r}", recovery)
        collection = _collection(data, found[b"ns"][1]) if b"ns" in found else ""
        if collection == STREAMS:
            raise Halt(State.SLOT_MISSING, f"the collection {STREAMS} is gone ({operation})", _RESYNC)
        renamed = _collection(data, found[b"to"][1]) if b"to" in found else ""
        if operation in _OF_ONE and self._kept.isdisjoint((collection, renamed)):
            return
        recovery = (
            "name the collections that are there in the pipeline, then worker-sync resume PIPELINE if it is gone for "
            f"good, else {_RESYNC}"
        )
        detail = _ENDINGS[operation].format(collection=collection, renamed=renamed)
        raise Halt(State.SCHEMA_MISMATCH, detail, recovery)


def _row(key: str, data: bytes, place: Place | None) -> Row | None:
    if place is None or place[0] != _DOCUMENT:
        return None
    return key, document_text(data, place[1])


def _said(data: bytes, place: Place | None) -> Message | None:
    text = "" if place is None else context(data, place)
    return Message(markers.CONTEXT, text.encode()) if text else None


def _plain(data: bytes, at: int) -> Document:
    return bson.decode(document(data, at), PLAIN)


def _collection(data: bytes, at: int) -> str:
    found = fields(data, at).get(b"coll")
    return "" if found is None else string_at(data, found[1])[0]


def _xid(data: bytes, found: Fields) -> str:
    """Session and number of a transaction; empty for a single write, which has none."""
    if b"txnNumber" not in found:
        return ""
    session = _plain(data, found[b"lsid"][1])["id"]
    return f"{bytes(session).hex()}:{INT64(data, found[b'txnNumber'][1])[0]}"
