"""Watermark documents: one per pipeline and shard, `_id` {p: pipeline, s: shard}.

`position` is text (`str(Position)`); times are microseconds since 1970 but for `applied_at`, a date that the server
sets; `snapshots` maps escaped names of source tables to {chunk, last_key, done}; `turns` counts how often an apply
had to wait for another one; `parked` is the text of `worker_sync.core.parking.parked_text`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bson import MaxKey, MinKey
from bson.decimal128 import Decimal128
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from connectors.base import Mark, SnapshotState
from connectors.mongodb.conn import Document
from connectors.mongodb.types import MAX_INT64
from worker_sync.core.change import Batch, SnapshotMark
from worker_sync.core.errors import Fenced, Halt, State, Transient
from worker_sync.core.parking import Parked, parked_text, parse_parked
from worker_sync.core.position import Position
from worker_sync.core.values import Key

WATERMARKS: Final = "worker_sync_watermarks"
#: Another fence may come between two looks at a document, never this often.
FENCE_ATTEMPTS: Final = 10
_ESCAPES: Final = (("%", "%25"), (".", "%2E"), ("$", "%24"), ("\0", "%00"))


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a shard is taken to stand: its position and its parked keys (`parked_text`), and those that it holds
    after the batch."""

    position: Position
    parked: str = ""
    then: str = ""


class Watermarks:
    """The watermark collection."""

    def __init__(self, database: Database[Document]) -> None:
        self._collection = database[WATERMARKS]
        self._newest = self._collection.with_options(read_concern=ReadConcern("local"))

    def advance(self, batch: Batch, stand: Stand, count: int, session: ClientSession | None = None) -> bool:
        """Move the shard's mark from `stand` to the batch's end, if it stands so in the batch's epoch.

        In a transaction this first write is also the lock: of two applies to one shard the server lets one go on
        and tells the other of a conflict. `count` is the number of changes that the caller applies with it.
        """
        where = {
            "_id": _id(batch.pipeline, batch.shard),
            "epoch": batch.epoch,
            "position": str(stand.position),
            # Documents of a version without parked keys lack the field.
            "parked": stand.parked or {"$in": ["", None]},
        }
        update = _advanced(batch, count, stand)
        return self._collection.update_one(where, update, session=session).matched_count == 1

    def park(self, pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
        """See `connectors.base.Sink.park`."""
        where = {"_id": _id(pipeline, shard), "epoch": epoch}
        self._collection.update_one(where, {"$set": {"parked": parked_text(parked)}})

    def stamp(self, batch: Batch, session: ClientSession) -> None:
        """Set the time of the apply once more, after its writes."""
        where = {"_id": _id(batch.pipeline, batch.shard)}
        self._collection.update_one(where, {"$currentDate": {"applied_at": True}}, session=session)

    def wait_turn(self, batch: Batch) -> None:
        """Return once no transaction holds the shard's document: the server makes a plain write wait for that."""
        self._collection.update_one({"_id": _id(batch.pipeline, batch.shard)}, {"$inc": {"turns": 1}})

    def find(self, pipeline: str, shard: int) -> Mark | None:
        document = self._newest.find_one({"_id": _id(pipeline, shard)})
        return _mark(document) if document else None

    def all(self, pipeline: str) -> dict[int, Mark]:
        """What a majority has: a failover can't take it back."""
        return {int(document["_id"]["s"]): _mark(document) for document in self._collection.find(_all(pipeline))}

    def forget(self, pipeline: str) -> None:
        self._collection.delete_many(_all(pipeline))

    def fence(self, pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
        mine = {"_id": _id(pipeline, shard), "identity": identity, "epoch": {"$lte": epoch}}
        for _ in range(FENCE_ATTEMPTS):
            document = self._collection.find_one_and_update(
                mine, {"$set": {"epoch": epoch}}, return_document=ReturnDocument.AFTER
            )
            if document is not None:
                return _mark(document)
            try:
                self._collection.insert_one(_new(pipeline, shard, epoch, identity, start))
            except DuplicateKeyError:
                self._refuse(pipeline, shard, epoch, identity)
        raise Transient(f"the watermark of {pipeline}/{shard} was fenced by others {FENCE_ATTEMPTS} times in a row")

    def _refuse(self, pipeline: str, shard: int, epoch: int, identity: str) -> None:
        mark = self.find(pipeline, shard)
        if mark is not None and mark.identity != identity:
            raise Halt(
                State.IDENTITY_CHANGED,
                f"the watermark of {pipeline}/{shard} belongs to source {mark.identity}, this is {identity}",
                f"worker-sync resync {pipeline}",
            )
        if mark is not None and mark.epoch > epoch:
            raise Fenced(f"{pipeline}/{shard} is at epoch {mark.epoch}, this is {epoch}")


def _id(pipeline: str, shard: int) -> Document:
    return {"p": pipeline, "s": shard}


def _all(pipeline: str) -> Document:
    """A range of `_id`, which its index serves."""
    return {"_id": {"$gte": {"p": pipeline, "s": MinKey()}, "$lte": {"p": pipeline, "s": MaxKey()}}}


def _new(pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Document:
    return {
        "_id": _id(pipeline, shard),
        "epoch": epoch,
        "position": str(start),
        "identity": identity,
        "committed_at": None,
        "applied_at": None,
        "changes": 0,
        "batches": 0,
        "snapshots": {},
        "parked": "",
    }


def _advanced(batch: Batch, count: int, stand: Stand) -> Document:
    values: Document = {"position": str(batch.upto)}
    if stand.then != stand.parked:
        values["parked"] = stand.then
    if batch.committed_at is not None:
        values["committed_at"] = batch.committed_at
    if batch.snapshot is not None:
        values[f"snapshots.{_escaped(batch.snapshot.table)}"] = _snapshot(batch.snapshot)
    return {"$set": values, "$inc": {"changes": count, "batches": 1}, "$currentDate": {"applied_at": True}}


def _snapshot(mark: SnapshotMark) -> Document:
    last = None if mark.last_key is None else [_stored(value) for value in mark.last_key]
    return {"chunk": mark.chunk, "last_key": last, "done": mark.done}


def _stored(value: Any) -> Any:
    return Decimal128(str(value)) if isinstance(value, int) and value > MAX_INT64 else value


def _loaded(value: Any) -> Any:
    if isinstance(value, Decimal128):
        return int(value.to_decimal())
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _escaped(name: str) -> str:
    for character, escape in _ESCAPES:
        name = name.replace(character, escape)
    return name


def _unescaped(name: str) -> str:
    for character, escape in reversed(_ESCAPES):
        name = name.replace(escape, character)
    return name


def _mark(document: Document) -> Mark:
    applied_at, committed_at = document["applied_at"], document["committed_at"]
    return Mark(
        epoch=int(document["epoch"]),
        position=Position.parse(document["position"]),
        identity=document["identity"],
        committed_at=None if committed_at is None else int(committed_at),
        applied_at=None if applied_at is None else int(applied_at) * 1000,
        changes=int(document["changes"]),
        batches=int(document["batches"]),
        snapshots={_unescaped(name): _snapshot_state(state) for name, state in document["snapshots"].items()},
        parked=parse_parked(document.get("parked")),
    )


def _snapshot_state(document: Document) -> SnapshotState:
    last = document["last_key"]
    key: Key | None = None if last is None else tuple(map(_loaded, last))
    return SnapshotState(int(document["chunk"]), key, bool(document["done"]))
