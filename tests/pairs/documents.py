"""MongoDB: `items` and `tags` as collections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from bson.decimal128 import Decimal128
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tests.pairs.lab import Lab, Rows, Step

Document = dict[str, Any]
CENT = Decimal("0.01")


class MongoLab(Lab):
    selects = ("*",)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._client: MongoClient[Document] = MongoClient(url, serverSelectionTimeoutMS=20_000)
        self._database: Database[Document] = self._client.get_default_database()

    def create(self) -> None:
        for name in ("items", "tags"):
            self._database.create_collection(name, changeStreamPreAndPostImages={"enabled": True})

    def fill(self, ids: Sequence[int]) -> None:
        self._database["items"].insert_many([_item(n, "old", Decimal(n), "old " * (1 + n % 50)) for n in ids])
        self._database["tags"].insert_many([{"_id": _tag(n, "a"), "note": "old"} for n in ids[::2]])

    def transaction(self, steps: Sequence[Step]) -> None:
        def work(session: ClientSession) -> None:
            for step in steps:
                self._do(step, session)

        with self._client.start_session() as session:
            session.with_transaction(work)

    def _do(self, step: Step, session: ClientSession) -> None:
        items, tags = self._database["items"], self._database["tags"]
        one = {"_id": step.id}
        match step.kind:
            case "insert":
                fresh = _item(step.id, step.text, step.amount, step.body)
                del fresh["_id"]
                items.update_one(one, {"$setOnInsert": fresh}, upsert=True, session=session)
            case "update":
                new = {"name": step.text, "amount": Decimal128(step.amount.quantize(CENT))}
                items.update_one(one, {"$set": new}, session=session)
            case "body":
                items.update_one(one, {"$set": {"body": step.body}}, session=session)
            case "move":
                # A document's key never changes: what comes nearest.
                items.update_one(one, {"$unset": {"body": ""}}, session=session)
            case "delete":
                items.delete_one(one, session=session)
            case "tag":
                tags.replace_one({"_id": _tag(step.id, step.label)}, {"note": step.text}, upsert=True, session=session)
            case "retag":
                tags.update_one({"_id": _tag(step.id, step.label)}, {"$set": {"note": None}}, session=session)
            case "untag":
                tags.delete_one({"_id": _tag(step.id, step.label)}, session=session)

    def rows(self, table: str, *, of_documents: bool) -> Rows:
        found: Iterable[Document] = self._database[table].find()
        rows = dict(_row(table, document) for document in found)
        if of_documents:
            return rows
        return {key: tuple(None if value is MISSING else value for value in row) for key, row in rows.items()}

    def close(self) -> None:
        self._client.close()


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


#: A field that isn't there, which is not null.
MISSING = _Missing()


def row_of_json(table: str, document: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A row of the lab from a document's Extended JSON."""
    return _row(table, {name: _unwrapped(value) for name, value in document.items()})


def _row(table: str, document: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    key = document["_id"]
    if table == "tags":
        return (int(key["item"]), key["label"]), (_value(document, "note"),)
    return (int(key),), tuple(_value(document, name) for name in ("name", "amount", "body"))


def _value(document: Mapping[str, Any], name: str) -> Any:
    value = document.get(name, MISSING)
    return str(value) if isinstance(value, Decimal128) else value


def _unwrapped(value: Any) -> Any:
    match value:
        case {"$numberDecimal": str(number)}:
            return Decimal128(number)
        case {"$numberLong": str(number)}:
            return int(number)
        case dict():
            return {name: _unwrapped(inner) for name, inner in value.items()}
    return value


def _item(number: int, name: str, amount: Decimal, body: str) -> Document:
    return {"_id": number, "name": name, "amount": Decimal128(amount.quantize(CENT)), "body": body}


def _tag(number: int, label: str) -> Document:
    return {"item": number, "label": label}
