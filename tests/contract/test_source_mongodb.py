"""MongoDB joins the source suite: a row is a key and a whole document."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from bson.binary import UUID_SUBTYPE, Binary
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

from connectors.base import Source
from connectors.mongodb import registration
from connectors.mongodb.source import MongoSource
from tests.contract.source_contract import SourceContract
from tests.contract.source_engine import SourceEngine, Values, Writer
from worker_sync.core.schema import Kind, TableName
from worker_sync.core.values import Key, Row

_IMAGES = {"enabled": True}


class _MongoWriter(Writer):
    def __init__(self, engine: _MongoEngine, database: Database[dict[str, Any]], session: ClientSession) -> None:
        self._engine = engine
        self._database = database
        self._session = session

    def insert(self, table: TableName, *rows: Values) -> None:
        documents = [self._engine.document(table, row) for row in rows]
        self._database[table.name].insert_many(documents, session=self._session)

    def update(self, table: TableName, key: Values, values: Values) -> None:
        where = {"_id": self._engine.document(table, key)["_id"]}
        self._database[table.name].update_one(where, {"$set": dict(values)}, session=self._session)

    def delete(self, table: TableName, key: Values) -> None:
        where = {"_id": self._engine.document(table, key)["_id"]}
        self._database[table.name].delete_one(where, session=self._session)

    def truncate(self, table: TableName) -> None:
        raise NotImplementedError("MongoDB has no truncate")

    def message(self, prefix: str, content: bytes) -> None:
        registration.put(self._database, self._engine.name, prefix, content, self._session)


class _MongoEngine(SourceEngine):
    truncates = False
    remembers_confirmations = False
    changes_keys = False
    column_names = ("_id", "document")
    key_names = ("_id",)

    def __init__(self, url: str, client: MongoClient[dict[str, Any]]) -> None:
        self._url = url
        self._client = client
        self._database = client.get_default_database(write_concern=WriteConcern("majority"))
        self._tables: dict[TableName, tuple[Mapping[str, Kind], Sequence[str]]] = {}

    def source(self) -> Source:
        return MongoSource(self.name, self._url)

    def create_table(self, name: str, columns: Mapping[str, Kind], key: Sequence[str]) -> TableName:
        table = TableName("", name)
        self._database.create_collection(name, changeStreamPreAndPostImages=_IMAGES)
        self._tables[table] = columns, key
        return table

    @contextmanager
    def transaction(self) -> Iterator[Writer]:
        with self._client.start_session() as session, session.start_transaction():
            yield _MongoWriter(self, self._database, session)

    def stir(self) -> None:
        self._database["unrelated"].insert_many([{"number": number} for number in range(100)])

    def document(self, table: TableName, values: Values) -> dict[str, Any]:
        """The document of a row: the key as `_id`, the other columns as fields."""
        kinds, key = self._tables[table]
        stored = {name: _stored(kinds[name], value) for name, value in values.items()}
        identifier = stored[key[0]] if len(key) == 1 else {name: stored[name] for name in key}
        return {"_id": identifier, **{name: value for name, value in stored.items() if name not in key}}

    def row(self, table: TableName, values: Values) -> Row:
        document = self.document(table, values)
        return json.dumps(document["_id"]), json.dumps(document, ensure_ascii=False)

    def key(self, table: TableName, *values: Any) -> Key:
        kinds, names = self._tables[table]
        printed = {name: _printed(kinds[name], value) for name, value in zip(names, values, strict=True)}
        return (json.dumps(printed[names[0]] if len(names) == 1 else printed, ensure_ascii=False),)

    def id_of(self, row: Row) -> Any:
        return json.loads(row[0])


def _stored(kind: Kind, value: Any) -> Any:
    return Binary(UUID(value).bytes, UUID_SUBTYPE) if kind is Kind.UUID else value


def _printed(kind: Kind, value: Any) -> Any:
    if kind is not Kind.UUID:
        return value
    return {"$binary": {"base64": base64.b64encode(UUID(value).bytes).decode(), "subType": "04"}}


@pytest.fixture
def engine(mongo_source: str) -> Iterator[SourceEngine]:
    with MongoClient[dict[str, Any]](mongo_source) as client:
        yield _MongoEngine(mongo_source, client)


class TestMongoSource(SourceContract):
    pass
