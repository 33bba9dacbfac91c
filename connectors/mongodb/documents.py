"""Rows as documents and back.

The key is `_id`: the value of a key of one column, which is not repeated in a field of its own; a document of the key's
columns in key order for a key of several; generated for a table without key. The other columns are fields in row order,
NULL as null.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from connectors.mongodb import types
from connectors.mongodb.collections import is_collection
from connectors.mongodb.conn import Document
from connectors.mongodb.whole_documents import WholeDocuments
from worker_sync.core.errors import Halt, State, Unrepresentable
from worker_sync.core.schema import Kind, TableSchema, Type
from worker_sync.core.values import UNCHANGED, Key, Row

#: An `_id` can't be an array, and JSON may be one.
_NO_KEYS: Final = frozenset({Kind.ARRAY, Kind.JSON})


class TableCodec:
    """The converters of one table, made once. Raises Halt for a table that documents can't hold."""

    any_id = False

    def __init__(self, table: TableSchema) -> None:
        self.table = table
        self.composite = len(table.key) > 1
        self._check()
        self._fields = tuple("_id" if name in self._single else name for name in table.column_names)
        writers = [(column.name, types.writer(column.type)) for column in table.columns]
        self._writers = [(field, write) for field, (_, write) in zip(self._fields, writers, strict=True) if write]
        by_name = dict(writers)
        self._key_writers = [by_name[name] for name in table.key]
        self._readers = [types.reader(column.type) for column in table.columns]
        self._key_readers = [self._readers[index] for index in table.key_indexes]
        self.nested = any(_holds_json(column.type) for column in table.columns)

    @property
    def _single(self) -> tuple[str, ...]:
        return () if self.composite else self.table.key

    def _check(self) -> None:
        kinds = {column.name: column.type.kind for column in self.table.columns}
        for name in self._single:
            if kinds[name] in _NO_KEYS:
                raise _mismatch(self.table, f"an _id can't hold the {kinds[name]} column {name!r}", "use another key")
        for name in kinds:
            if not name or "." in name or "\0" in name or name.startswith("$"):
                raise _mismatch(self.table, f"{name!r} can't be a field name", "rename or exclude the column")
            if name == "_id" and self._single != ("_id",):
                raise _mismatch(self.table, "the column '_id' is not its key", "rename or exclude the column")

    def identifier(self, key: Key) -> Any:
        """The `_id` of the row with this key."""
        try:
            pairs = zip(key, self._key_writers, strict=True)
            values = [value if write is None else write(value) for value, write in pairs]
        except ValueError as error:
            raise Unrepresentable(f"key of {self.table.table}: {error}") from None
        return dict(zip(self.table.key, values, strict=True)) if self.composite else values[0]

    def beyond(self, key: Key) -> Document:
        """What selects the documents behind a key."""
        return {"_id": {"$gt": self.identifier(key)}}

    def document(self, row: Row) -> Document:
        """The document of a row; a column that is UNCHANGED has no field."""
        document = dict(zip(self._fields, row, strict=True))
        if UNCHANGED in row:
            document = {field: value for field, value in document.items() if value is not UNCHANGED}
            return self._nest_key(self._convert_present(document))
        field = ""
        try:
            for field, write in self._writers:
                value = document[field]
                if value is not None:
                    document[field] = write(value)
        except ValueError as error:
            raise self._refusal(field, error) from None
        return self._nest_key(document)

    def _convert_present(self, document: Document) -> Document:
        for field, write in self._writers:
            value = document.get(field)
            if value is not None:
                try:
                    document[field] = write(value)
                except ValueError as error:
                    raise self._refusal(field, error) from None
        return document

    def _nest_key(self, document: Document) -> Document:
        if not self.composite:
            return document
        key = {name: document.pop(name) for name in self.table.key}
        return {"_id": key, **document}

    def _refusal(self, field: str, error: ValueError) -> Unrepresentable:
        column = self.table.key[0] if field == "_id" else field
        return Unrepresentable(f"{self.table.table}, column {column}: {error}")

    def row(self, document: Mapping[str, Any]) -> Row:
        """The row that the document holds; a field that isn't there reads as NULL."""
        if self.composite:
            document = {**document, **self._key_fields(document["_id"])}
        pairs = zip(map(document.get, self._fields), self._readers, strict=True)
        return tuple([None if value is None else read(value) for value, read in pairs])

    def _key_fields(self, identifier: Any) -> Mapping[str, Any]:
        return identifier if isinstance(identifier, Mapping) else {}


def _holds_json(type_: Type) -> bool:
    return type_.kind is Kind.JSON or (type_.element is not None and _holds_json(type_.element))


def _mismatch(table: TableSchema, detail: str, recovery: str) -> Halt:
    return Halt(State.SCHEMA_MISMATCH, f"{table.table} can't be written to MongoDB: {detail}", recovery)


#: What turns rows into documents and back.
Codec: TypeAlias = TableCodec | WholeDocuments


@lru_cache(maxsize=4096)
def codec_of(table: TableSchema) -> Codec:
    """The codec of this version of the table."""
    return WholeDocuments(table) if is_collection(table) else TableCodec(table)
