"""Rows of whole documents (see `connectors.mongodb.collections`) as documents and back, byte by byte the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from bson.raw_bson import RawBSONDocument

from connectors.mongodb.collections import DOCUMENT_TYPE, ID_TYPE
from connectors.mongodb.conn import RAW, Document
from connectors.mongodb.extjson import document_text
from connectors.mongodb.extjson_read import document_bytes
from connectors.mongodb.identifiers import identifier, key_text
from connectors.mongodb.walk import fields
from worker_sync.core.errors import Halt, State, Unrepresentable
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key, Row


def row_at(data: bytes, at: int) -> tuple[str, str]:
    """Key and text of the document at an offset. Raises ValueError for what has no text."""
    kind, key_at = fields(data, at)[b"_id"]
    return key_text(kind, data, key_at), document_text(data, at)


class WholeDocuments:
    """The converters of one table of documents; the columns may be the key alone."""

    composite = False
    #: Documents are read as bytes.
    nested = True
    #: The collection may hold an `_id` of any type.
    any_id = True

    def __init__(self, table: TableSchema) -> None:
        self.table = table
        types = [column.type for column in table.columns]
        self._id_at = types.index(ID_TYPE)
        self._document_at = types.index(DOCUMENT_TYPE) if DOCUMENT_TYPE in types else None

    def identifier(self, key: Key) -> Any:
        try:
            return identifier(key[0])
        except ValueError as error:
            raise Unrepresentable(f"key of {self.table.table}: {error}") from None

    def beyond(self, key: Key) -> Document:
        """What selects the documents behind a key. A plain `$gt` would only find keys of the same type."""
        return {"$expr": {"$gt": ["$_id", {"$literal": self.identifier(key)}]}}

    def document(self, row: Row) -> Document:
        if self._document_at is None:
            return {"_id": self.identifier((row[self._id_at],))}
        try:
            data = document_bytes(row[self._document_at])
        except ValueError as error:
            raise Unrepresentable(f"{self.table.table}: {error}") from None
        return cast(Document, RawBSONDocument(data, RAW))

    def row(self, document: Mapping[str, Any]) -> Row:
        try:
            key, text = row_at(bytes(cast(RawBSONDocument, document).raw), 0)
        except ValueError as error:
            recovery = "correct the document, or leave the collection out; then worker-sync resume PIPELINE"
            raise Halt(State.UNREPRESENTABLE_VALUE, f"{self.table.table}: {error}", recovery) from None
        if self._document_at is None:
            return (key,)
        return (key, text) if self._id_at < self._document_at else (text, key)
