"""Collections as tables: what they are called, what they must be, and the ids by which writes address them.

A write names its collection's id as well as its name. Otherwise a transaction would quietly make a collection that
someone dropped anew, with only the later rows in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bson.objectid import ObjectId
from pymongo.database import Database
from pymongo.errors import OperationFailure

from connectors.mongodb.collections import OWN
from connectors.mongodb.conn import Document
from connectors.mongodb.documents import Codec, codec_of
from connectors.mongodb.errors import NAMESPACE_EXISTS
from worker_sync.core.errors import ConfigError, Halt, State
from worker_sync.core.schema import TableName, TableSchema

#: The namespace whose tables need no prefix.
DEFAULT_NAMESPACE: Final = "public"


def collection_name(source: TableName, to: str | None) -> str:
    """Raises ConfigError for a name that a collection can't have."""
    name = to or (source.name if source.namespace in ("", DEFAULT_NAMESPACE) else str(source))
    if "$" in name or "\0" in name or name.startswith((".", "system.")) or name.endswith(".") or ".." in name:
        raise ConfigError(f"table {source}: {name!r} can't be a collection's name; give it another one by `to:`")
    if name in OWN:
        raise ConfigError(
            f"table {source}: {name!r} is a collection of Worker-Sync's own; give it another one by `to:`"
        )
    return name


class Tables:
    """The collections of one database."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._ids: dict[str, Any] = {}

    def id(self, table: TableSchema) -> Any:
        """The collection's id. Raises Halt when there is no such collection."""
        name = str(table.table)
        found = self._ids.get(name)
        if found is None:
            found = self._ids[name] = self._look_up(table)
        return found

    def forget_ids(self) -> None:
        self._ids.clear()

    def _look_up(self, table: TableSchema) -> Any:
        info = self.info(str(table.table))
        if info is None:
            raise Halt(
                State.SCHEMA_MISMATCH,
                f"collection {table.table} does not exist",
                "create it (create_tables: true does) and run worker-sync resync PIPELINE",
            )
        _check_kind(table, info)
        return info["info"]["uuid"]

    def info(self, name: str) -> Mapping[str, Any] | None:
        """What the server lists of the collection."""
        return next(iter(self._database.list_collections(filter={"name": name})), None)

    def create(self, table: TableSchema) -> bool:
        codec = codec_of(table)
        info = self.info(str(table.table))
        if info is not None:
            self._check(codec, info)
            return False
        try:
            self._database.command({"create": str(table.table), "writeConcern": {"w": "majority"}})
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
            return False
        return True

    def check(self, table: TableSchema) -> str:
        """What a preflight says of a table that can be written. Raises Halt for one that can't."""
        codec = codec_of(table)
        info = self.info(str(table.table))
        if info is None:
            return "will be created"
        self._check(codec, info)
        return "exists"

    def _check(self, codec: Codec, info: Mapping[str, Any]) -> None:
        _check_kind(codec.table, info)
        document = self._database[str(codec.table.table)].find_one({}, {"_id": 1})
        if document is None or codec.any_id:
            return
        if not codec.table.key and not isinstance(document["_id"], ObjectId):
            raise _mismatch(codec.table, "its documents' _id were not generated, so others wrote them")
        names = tuple(document["_id"]) if isinstance(document["_id"], dict) else ()
        if names != (codec.table.key if codec.composite else ()):
            raise _mismatch(codec.table, f"its documents' _id does not hold the key ({', '.join(codec.table.key)})")


def _check_kind(table: TableSchema, info: Mapping[str, Any]) -> None:
    if info["type"] != "collection":
        raise _mismatch(table, f"it is a {info['type']}")
    if info["options"].get("capped"):
        raise _mismatch(table, "it is capped")


def _mismatch(table: TableSchema, detail: str) -> Halt:
    recovery = f"drop or rename collection {table.table}, or write to another one by `to:`"
    return Halt(State.SCHEMA_MISMATCH, f"collection {table.table} can't take the rows: {detail}", recovery)
