"""Collections as a source's tables: two columns, the `_id` as text and the document as Extended JSON.

The forms are those of `connectors.mongodb.identifiers` and `connectors.mongodb.extjson`: every BSON type survives, a
MongoDB target makes the same document of it, and other targets have a key that they can index and JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pymongo.database import Database

from connectors.mongodb.conn import Document
from connectors.mongodb.marks import WATERMARKS
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type

ENGINE: Final = "mongodb"
#: Where a source's streams are kept: see `connectors.mongodb.registry`.
STREAMS: Final = "worker_sync_stream"
#: Collections that are none of an application's.
OWN: Final = frozenset({WATERMARKS, STREAMS})

ID: Final = "_id"
DOCUMENT: Final = "document"
NATIVE: Final = "bson"
ID_TYPE: Final = Type(Kind.TEXT, NATIVE)
DOCUMENT_TYPE: Final = Type(Kind.JSON, NATIVE)
_COLUMNS: Final = (Column(ID, ID_TYPE, nullable=False), Column(DOCUMENT, DOCUMENT_TYPE, nullable=False))

_WITH_IMAGES: Final = "changeStreamPreAndPostImages"


def collection_schema(table: TableName) -> TableSchema:
    """The schema of every collection that is read as whole documents."""
    return TableSchema(table, _COLUMNS, (ID,), ENGINE)


def is_collection(table: TableSchema) -> bool:
    """Whether the table's rows are those of `collection_schema`, or their keys alone."""
    return table.engine == ENGINE and all(column.type in (ID_TYPE, DOCUMENT_TYPE) for column in table.columns)


def listed(database: Database[Document]) -> dict[TableName, Mapping[str, Any]]:
    """What the server lists of the database's collections and views, by table name; the system's and our own are left
    out. A dot in a collection's name parts the table's namespace from its name, so names read as they are written."""
    found: Iterable[Mapping[str, Any]] = database.list_collections()
    names = {TableName.parse(info["name"]): info for info in found if _is_ours_to_read(info["name"])}
    return dict(sorted(names.items()))


def _is_ours_to_read(name: str) -> bool:
    return name not in OWN and not name.startswith("system.")


def obstacle(info: Mapping[str, Any]) -> str:
    """Why the collection can't be captured; empty when it can."""
    if info["type"] == "timeseries":
        return "a time series, whose changes are not in change streams"
    if info["type"] != "collection":
        return f"a {info['type']}, which has no changes of its own"
    if info["options"].get("capped"):
        return "capped, and what falls out of it is not in change streams"
    return ""


def has_images(info: Mapping[str, Any]) -> bool:
    """Whether updates are logged with the document before and after."""
    return bool(info["options"].get(_WITH_IMAGES, {}).get("enabled"))


def images_statement(name: str) -> str:
    """What makes a collection log its documents before and after updates, for mongosh."""
    return f'db.runCommand({{collMod: "{name}", {_WITH_IMAGES}: {{enabled: true}}}})'
