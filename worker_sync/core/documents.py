"""Columns made of documents: the fields that a rule declares, read from MongoDB Extended JSON.

The form is that of github.com/mongodb/specifications, source/extended-json, relaxed or canonical. A missing field is
not null: it is refused unless the declaration says otherwise. So is what has another type, or doesn't fit exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from worker_sync.core.document_values import WRAPPER, NotThisType, converter
from worker_sync.core.errors import Unrepresentable
from worker_sync.core.schema import Column, Kind, TableSchema, Type
from worker_sync.core.table_rules import DocumentField
from worker_sync.core.text import format_json, parse_json
from worker_sync.core.values import UNCHANGED, Row, Value

#: The column of a collection that holds whole documents.
DOCUMENT: Final = "document"
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a column's values come from."""

    path: tuple[str, ...]
    convert: Callable[[Any], Value]
    missing_is_null: bool


class Unfolding:
    """Makes rows with the declared columns of rows with a document.

    `table` is what it makes: the key as it is, the declared columns in the order of their declaration, and `rest`, the
    JSON object of all fields that were not declared.
    """

    def __init__(self, source: TableSchema, fields: Mapping[str, DocumentField], rest: str | None) -> None:
        self._where = str(source.table)
        self._document = source.column_names.index(DOCUMENT)
        self._key = source.key_indexes
        self._sources = {name: _source(name, field) for name, field in fields.items()}
        self._rest = rest
        self._columns = len(fields) + (rest is not None)
        kept = tuple(source.columns[index] for index in self._key)
        made = tuple(Column(name, field.declared) for name, field in fields.items())
        more = (Column(rest, Type(Kind.JSON), nullable=False),) if rest is not None else ()
        self.table = msgspec.structs.replace(source, columns=kept + made + more)

    def __call__(self, row: Row) -> Row:
        """Raises Unrepresentable, naming collection, path and `_id` but no value."""
        key = tuple([row[index] for index in self._key])
        document = row[self._document]
        if document is UNCHANGED:
            return key + (UNCHANGED,) * self._columns
        fields = self._fields_of(key, document)
        values = [self._value(key, fields, source) for source in self._sources.values()]
        if self._rest is not None:
            values.append(self._rest_of(fields))
        return (*key, *values)

    def _fields_of(self, key: Row, document: Value) -> dict[str, Any]:
        try:
            fields = {} if document is None else parse_json(document)
        except ValueError as error:
            raise self._refused(key, f"the document is {error}") from None
        if isinstance(fields, dict) and list(fields) == [WRAPPER]:
            fields = fields[WRAPPER]
        if not isinstance(fields, dict):
            raise self._refused(key, "the document is no object")
        return fields

    def _value(self, key: Row, fields: Mapping[str, Any], source: _Source) -> Value:
        found = _at(fields, source.path)
        if found is _MISSING and not source.missing_is_null:
            raise self._refused(key, f"{'.'.join(source.path)} is missing (`missing: null` would make it NULL)")
        if found is _MISSING or found is None:
            return None
        try:
            return source.convert(found)
        except NotThisType as error:
            raise self._refused(key, f"{'.'.join(source.path)} is {error}") from None

    def _rest_of(self, fields: dict[str, Any]) -> str:
        for source in self._sources.values():
            parent = _at(fields, source.path[:-1])
            if isinstance(parent, dict):
                parent.pop(source.path[-1], None)
        fields.pop("_id", None)
        return format_json(fields)

    def _refused(self, key: Row, what: str) -> Unrepresentable:
        return Unrepresentable(f"collection {self._where}, _id {', '.join(map(str, key))}: {what}")


def _source(name: str, field: DocumentField) -> _Source:
    path = tuple((field.path or name).split("."))
    return _Source(path, converter(field.declared), field.missing == "null")


def _at(fields: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(fields, dict) or name not in fields:
            return _MISSING
        fields = fields[name]
    return fields
