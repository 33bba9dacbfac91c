"""The versions of tables that the log describes, each with what reads its rows.

Names, types, signs, character sets and labels come from the log. What the log leaves out (which columns are generated,
that a text is JSON or sixteen bytes are a UUID) comes from the catalog, column by column, where the catalog still has
a column of that name and type: it may be ahead of the log. Of a table that is gone it comes from what was known before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import pymysql

from connectors.mysql.binlog import table_map as kinds
from connectors.mysql.binlog.charsets import BINARY_COLLATION
from connectors.mysql.binlog.row_events import TableReader
from connectors.mysql.binlog.rows import ImageColumn
from connectors.mysql.binlog.table_map import LoggedColumn, TableMap
from connectors.mysql.binlog.values import Packing, inet4_text, inet6_text, labelled, packing, uuid_text
from connectors.mysql.catalog import ENGINE, TableInfo, load_table
from connectors.mysql.collations import Collations
from connectors.mysql.conn import Connection, close, connect, redact
from connectors.mysql.errors import translated
from connectors.mysql.position import RESYNC
from connectors.mysql.types import ColumnType, core_type
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type

_INTEGERS = {
    kinds.TINY: "tinyint",
    kinds.SHORT: "smallint",
    kinds.INT24: "mediumint",
    kinds.LONG: "int",
    kinds.LONGLONG: "bigint",
    kinds.FLOAT: "float",
    kinds.DOUBLE: "double",
}
_TEMPORAL = {kinds.TIME2: "time", kinds.DATETIME2: "datetime", kinds.TIMESTAMP2: "timestamp"}
_PLAIN = {
    kinds.YEAR: "year",
    kinds.DATE: "date",
    kinds.JSON: "json",
    kinds.GEOMETRY: "geometry",
    kinds.VECTOR: "vector",
}
_BLOBS = {1: ("tiny", 2**8 - 1), 2: ("", 2**16 - 1), 3: ("medium", 2**24 - 1), 4: ("long", 2**32 - 1)}
#: MariaDB's types that the log shows as so many bytes, and what reads them.
_DISGUISED = {"uuid": (16, uuid_text), "inet6": (16, inet6_text), "inet4": (4, inet4_text)}


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a table beside the log: its columns' types by name, which of them are generated, its key."""

    types: Mapping[str, Type]
    generated: frozenset[str]
    key: tuple[str, ...]


_NOTHING: Final = _Known({}, frozenset(), ())


class Versions:
    """Gives each version of each table an id of its own; only a schema that differs is another version."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: Connection | None = None
        self._current: dict[TableName, int] = {}
        self._collations: Collations | None = None
        self.schemas: dict[int, TableSchema] = {}

    def describe(self, logged: TableMap, was: TableSchema | None = None, *, listed: bool = True) -> TableReader:
        """What reads the rows of that version; its id is 0 unless it is to be `listed` in `schemas`. The catalog has
        nothing of a table that `was`. Raises Halt for a table that can't be followed, Transient without a catalog."""
        name = TableName(logged.database, logged.table)
        if not logged.is_named:
            fix = "SET PERSIST binlog_row_metadata = FULL (MariaDB: SET GLOBAL, and in its configuration), then "
            raise Halt(State.PREFLIGHT_FAILED, f"the log has no column names of {name}", fix + RESYNC)
        with translated(redact(self._url)):
            conn = self._connection()
            known = _remembered(was) if was else _of_catalog(load_table(conn, logged.database, logged.table))
            collations = self._collations = self._collations or Collations(conn)
            collations.load(conn, (column.collation for column in logged.columns))
        columns, image = _columns(logged, known, collations)
        schema = TableSchema(name, tuple(columns), _key(name, logged, known), ENGINE)
        json = [index for index, column in enumerate(logged.columns) if column.type == kinds.JSON]
        return TableReader(self._number(schema) if listed else 0, schema, image, json)

    def number_of(self, name: TableName, was: TableSchema | None = None) -> int:
        """The id of a table's newest version: the log's, or before its first rows the catalog's, or what it `was`.
        Raises Halt for a table that is not there."""
        current = self._current.get(name)
        if current is not None:
            return current
        if was is not None:
            return self._number(was)
        with translated(redact(self._url)):
            known = load_table(self._connection(), name.namespace, name.name)
        if known is None:
            raise Halt(State.SCHEMA_MISMATCH, f"table {name} does not exist any more", RESYNC)
        return self._number(known.schema(name.namespace))

    def close(self) -> None:
        if self._conn is not None:
            close(self._conn)
            self._conn = None

    def _number(self, schema: TableSchema) -> int:
        current = self._current.get(schema.table)
        if current is None or self.schemas[current] != schema:
            current = self._current[schema.table] = len(self.schemas) + 1
            self.schemas[current] = schema
        return current

    def _connection(self) -> Connection:
        if self._conn is not None:
            try:
                self._conn.ping(reconnect=False)
            except (pymysql.Error, OSError):
                self.close()
        if self._conn is None:
            self._conn = connect(self._url)
        return self._conn


def _of_catalog(found: TableInfo | None) -> _Known:
    if found is None:
        return _NOTHING
    types = {column.name: core_type(column.type) for column in found.columns}
    return _Known(types, frozenset(column.name for column in found.columns if column.generated), found.key)


def _remembered(was: TableSchema) -> _Known:
    """Its generated columns are not known any more: rows that come now have them as others."""
    return _Known({column.name: column.type for column in was.columns}, frozenset(), was.key)


def _columns(logged: TableMap, known: _Known, collations: Collations) -> tuple[list[Column], list[ImageColumn]]:
    """The columns of rows, and those of images with their places in rows."""
    columns: list[Column] = []
    image = []
    for column in logged.columns:
        if column.name in known.generated:
            image.append(ImageColumn(_skipping(column, collations), None))
            continue
        type_, packed = _described(column, known.types.get(column.name), collations)
        image.append(ImageColumn(packed, len(columns)))
        columns.append(Column(column.name, type_, column.nullable))
    return columns, image


def _described(column: LoggedColumn, theirs: Type | None, collations: Collations) -> tuple[Type, Packing]:
    disguise = _DISGUISED.get(theirs.native.partition(" ")[0]) if theirs else None
    if theirs and disguise and column.type == kinds.STRING and column.meta == disguise[0]:
        return theirs, Packing(prefix=1, convert=disguise[1])
    labels = collations.labels(column)
    packed = labelled(column, labels) if labels is not None else packing(column, collations.decoders)
    own = core_type(_logged_type(column, labels or (), collations))
    if theirs is None:
        return own, packed
    # MariaDB's JSON is text to the log; MySQL's own is not.
    checked = theirs.kind is Kind.JSON and theirs.native != "json"
    json = checked and column.type == kinds.BLOB and column.collation != BINARY_COLLATION
    same = msgspec.structs.replace(theirs, native="") == msgspec.structs.replace(own, native="")
    return theirs if json or same else own, packed


def _skipping(column: LoggedColumn, collations: Collations) -> Packing:
    """How to step over a column; its value is not looked at."""
    labels = collations.labels(column)
    return labelled(column, labels) if labels is not None else packing(column, collations.decoders)


def _logged_type(column: LoggedColumn, labels: tuple[str, ...], collations: Collations) -> ColumnType:
    """The type as information_schema would have it."""
    kind, meta = column.type, column.meta
    if kind in _INTEGERS:
        name = _INTEGERS[kind]
        return ColumnType(name, f"{name} unsigned" if column.unsigned else name)
    if kind in _TEMPORAL:
        return ColumnType(_TEMPORAL[kind], f"{_TEMPORAL[kind]}({meta})", fraction=meta)
    if kind == kinds.NEWDECIMAL:
        text = f"decimal({meta >> 8},{meta & 255}){' unsigned' if column.unsigned else ''}"
        return ColumnType("decimal", text, precision=meta >> 8, scale=meta & 255)
    if kind == kinds.BIT:
        return ColumnType("bit", f"bit({meta})", precision=meta)
    if kind in (kinds.ENUM, kinds.SET):
        name = "enum" if kind == kinds.ENUM else "set"
        quoted = ",".join("'" + label.replace("\\", "\\\\").replace("'", "''") + "'" for label in labels)
        return ColumnType(name, f"{name}({quoted})")
    if kind in _PLAIN:
        return ColumnType(_PLAIN[kind], _PLAIN[kind])
    return _string_type(column, collations)


def _string_type(column: LoggedColumn, collations: Collations) -> ColumnType:
    binary = column.collation == BINARY_COLLATION
    if column.type == kinds.BLOB:
        prefix, length = _BLOBS[column.meta]
        name = prefix + ("blob" if binary else "text")
        return ColumnType(name, name, length)
    length = column.meta // collations.width(column.collation)
    fixed = column.type == kinds.STRING
    name = ("binary" if fixed else "varbinary") if binary else ("char" if fixed else "varchar")
    return ColumnType(name, f"{name}({length})", length)


def _key(name: TableName, logged: TableMap, known: _Known) -> tuple[str, ...]:
    """The primary key as the log has it, or else a unique index that is known, on columns of the log."""
    key = tuple(logged.columns[index].name for index in logged.key)
    if key and not known.generated.intersection(key):
        return key
    usable = {column.name for column in logged.columns if not column.nullable} - known.generated
    if known.key and usable.issuperset(known.key):
        return known.key
    fix = f"ALTER TABLE {name.name} ADD PRIMARY KEY (...), then {RESYNC}"
    raise Halt(State.TABLE_UNSUPPORTED, f"{name} has no key that identifies its rows in the log", fix)
