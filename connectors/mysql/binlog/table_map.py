"""TABLE_MAP events: the table that the following row events belong to, with its full metadata.

Layout: table id (6), flags (2), database, table (each a length byte, the name, a zero byte), number of columns, a type
byte each, the types' parameters, a bitmap of nullable columns, then optional fields (type byte, length, value). The
optional fields of full metadata are the only source of column names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from connectors.mysql.binlog.events import malformed
from connectors.mysql.binlog.numbers import length_encoded

DECIMAL: Final = 0
TINY: Final = 1
SHORT: Final = 2
LONG: Final = 3
FLOAT: Final = 4
DOUBLE: Final = 5
TIMESTAMP: Final = 7
LONGLONG: Final = 8
INT24: Final = 9
DATE: Final = 10
TIME: Final = 11
DATETIME: Final = 12
YEAR: Final = 13
NEWDATE: Final = 14
VARCHAR: Final = 15
BIT: Final = 16
TIMESTAMP2: Final = 17
DATETIME2: Final = 18
TIME2: Final = 19
BLOB_COMPRESSED: Final = 140
VARCHAR_COMPRESSED: Final = 141
VECTOR: Final = 242
JSON: Final = 245
NEWDECIMAL: Final = 246
ENUM: Final = 247
SET: Final = 248
TINY_BLOB: Final = 249
MEDIUM_BLOB: Final = 250
LONG_BLOB: Final = 251
BLOB: Final = 252
VAR_STRING: Final = 253
STRING: Final = 254
GEOMETRY: Final = 255

_ONE_BYTE: Final = frozenset(
    {FLOAT, DOUBLE, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, BLOB_COMPRESSED, VECTOR, JSON, GEOMETRY}
    | {TIMESTAMP2, DATETIME2, TIME2}
)
_TWO_BYTES: Final = frozenset({VARCHAR, VARCHAR_COMPRESSED, VAR_STRING, BIT, NEWDECIMAL, STRING, ENUM, SET})
_NO_BYTES: Final = frozenset(
    {DECIMAL, TINY, SHORT, LONG, LONGLONG, INT24, DATE, NEWDATE, YEAR, TIMESTAMP, DATETIME, TIME}
)

_NUMERIC: Final = frozenset({TINY, SHORT, INT24, LONG, LONGLONG, NEWDECIMAL, FLOAT, DOUBLE, YEAR})
_TEXTUAL: Final = frozenset({STRING, VAR_STRING, VARCHAR, BLOB, VARCHAR_COMPRESSED, BLOB_COMPRESSED})
#: The types that the lists of character sets count: MariaDB counts geometry among them, MySQL its vectors.
_CHARACTER: Final = {False: _TEXTUAL | {VECTOR}, True: _TEXTUAL | {GEOMETRY}}
_ENUMERATED: Final = frozenset({ENUM, SET})

_SIGNEDNESS: Final = 1
_DEFAULT_CHARSET: Final = 2
_COLUMN_CHARSET: Final = 3
_COLUMN_NAME: Final = 4
_SET_LABELS: Final = 5
_ENUM_LABELS: Final = 6
_PRIMARY_KEY: Final = 8
_PRIMARY_KEY_WITH_PREFIX: Final = 9
_ENUM_DEFAULT_CHARSET: Final = 10
_ENUM_COLUMN_CHARSET: Final = 11


@dataclass(slots=True)
class LoggedColumn:
    """One column as the log describes it.

    `type` is the real one (enums and sets are announced as strings) and `meta` its parameter: length bytes of a blob,
    maximum bytes of a string, fractional digits of a time, precision and scale (two bytes) of a decimal, bits.
    `name` is empty without full metadata; `collation` is 0 where none is given, `labels` are bytes in it.
    """

    type: int
    meta: int
    nullable: bool
    name: str = ""
    unsigned: bool = False
    collation: int = 0
    labels: tuple[bytes, ...] = ()


@dataclass(slots=True)
class TableMap:
    """`key`: indexes of the primary key's columns, in its order; empty without one, and when it has only the
    beginning of a column."""

    database: str
    table: str
    mariadb: bool
    columns: list[LoggedColumn] = field(default_factory=list)
    key: tuple[int, ...] = ()

    @property
    def is_named(self) -> bool:
        return all(column.name for column in self.columns)


def table_name(body: bytes) -> tuple[str, str]:
    """Database and table of a TABLE_MAP event's body, without reading the rest."""
    database, at = _name(body, 8)
    table, _ = _name(body, at)
    return database, table


def _name(body: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + body[at]
    return body[at + 1 : end].decode("utf-8"), end + 1


def parse_table_map(body: bytes, *, mariadb: bool) -> TableMap:
    """Read a TABLE_MAP event's body, written by that family of servers. Raises Halt for what is not known."""
    database, at = _name(body, 8)
    table, at = _name(body, at)
    count, at = length_encoded(body, at)
    types = body[at : at + count]
    length, at = length_encoded(body, at + count)
    parameters = body[at : at + length]
    at += length
    bitmap = body[at : at + (count + 7) // 8]
    result = TableMap(database, table, mariadb)
    offset = 0
    for number, kind in enumerate(types):
        real, meta, offset = _parameter(kind, parameters, offset)
        result.columns.append(LoggedColumn(real, meta, bool(bitmap[number >> 3] >> (number & 7) & 1)))
    if offset != length:
        raise malformed(f"a table map of {database}.{table} whose parameters don't fit its types")
    _read_options(result, body[at + (count + 7) // 8 :])
    return result


def _parameter(kind: int, data: bytes, at: int) -> tuple[int, int, int]:
    """The real type, its parameter, and the place behind it."""
    if kind in _NO_BYTES:
        return kind, 0, at
    if kind in _ONE_BYTE:
        return kind, data[at], at + 1
    if kind not in _TWO_BYTES:
        raise malformed(f"a column of type {kind}")
    first, second = data[at], data[at + 1]
    if kind == STRING:
        if first in (ENUM, SET):
            return first, second, at + 2
        # Two high bits of a length above 255 hide, inverted, in the type byte.
        return kind, ((first & 0x30) ^ 0x30) << 4 | second, at + 2
    if kind == BIT:
        return kind, second * 8 + first, at + 2
    if kind == NEWDECIMAL:
        return kind, first << 8 | second, at + 2
    return kind, first | second << 8, at + 2


def _read_options(table: TableMap, data: bytes) -> None:
    at = 0
    while at < len(data):
        kind = data[at]
        length, at = length_encoded(data, at + 1)
        value, at = data[at : at + length], at + length
        if at > len(data):
            raise malformed(f"a table map of {table.database}.{table.table} that is cut off")
        reader = _OPTIONS.get(kind)
        # What else there is (geometry types, visibility, dimensions) is not needed to read rows.
        if reader is not None:
            try:
                reader(table, value)
            except (ValueError, IndexError) as error:
                raise malformed(f"a table map of {table.database}.{table.table} with unreadable metadata") from error


def _of(table: TableMap, types: frozenset[int]) -> list[LoggedColumn]:
    return [column for column in table.columns if column.type in types]


def _signedness(table: TableMap, value: bytes) -> None:
    for number, column in enumerate(_of(table, _NUMERIC)):
        column.unsigned = bool(value[number >> 3] << (number & 7) & 0x80)


def _numbers(value: bytes) -> Iterator[int]:
    at = 0
    while at < len(value):
        number, at = length_encoded(value, at)
        yield number


def _with_charset(table: TableMap) -> list[LoggedColumn]:
    return _of(table, _CHARACTER[table.mariadb])


def _with_labels(table: TableMap) -> list[LoggedColumn]:
    return _of(table, _ENUMERATED)


def _default_charset(columns_of: Callable[[TableMap], list[LoggedColumn]]) -> Callable[[TableMap, bytes], None]:
    def read(table: TableMap, value: bytes) -> None:
        default, *exceptions = _numbers(value)
        columns = columns_of(table)
        for column in columns:
            column.collation = default
        for number, collation in zip(exceptions[::2], exceptions[1::2], strict=True):
            columns[number].collation = collation

    return read


def _each_charset(columns_of: Callable[[TableMap], list[LoggedColumn]]) -> Callable[[TableMap, bytes], None]:
    def read(table: TableMap, value: bytes) -> None:
        for column, collation in zip(columns_of(table), _numbers(value), strict=True):
            column.collation = collation

    return read


def _texts(value: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    texts = []
    for _ in range(count):
        length, at = length_encoded(value, at)
        texts.append(value[at : at + length])
        at += length
    return texts, at


def _names(table: TableMap, value: bytes) -> None:
    names, _ = _texts(value, 0, len(table.columns))
    for column, name in zip(table.columns, names, strict=True):
        column.name = name.decode("utf-8")


def _labels(kind: int) -> Callable[[TableMap, bytes], None]:
    def read(table: TableMap, value: bytes) -> None:
        at = 0
        for column in _of(table, frozenset({kind})):
            count, at = length_encoded(value, at)
            labels, at = _texts(value, at, count)
            column.labels = tuple(labels)

    return read


def _key(table: TableMap, value: bytes) -> None:
    table.key = tuple(_numbers(value))


def _key_with_prefix(table: TableMap, value: bytes) -> None:
    parts = tuple(_numbers(value))
    table.key = () if any(parts[1::2]) else parts[::2]


_OPTIONS: Final[dict[int, Callable[[TableMap, bytes], None]]] = {
    _SIGNEDNESS: _signedness,
    _DEFAULT_CHARSET: _default_charset(_with_charset),
    _COLUMN_CHARSET: _each_charset(_with_charset),
    _COLUMN_NAME: _names,
    _SET_LABELS: _labels(SET),
    _ENUM_LABELS: _labels(ENUM),
    _PRIMARY_KEY: _key,
    _PRIMARY_KEY_WITH_PREFIX: _key_with_prefix,
    _ENUM_DEFAULT_CHARSET: _default_charset(_with_labels),
    _ENUM_COLUMN_CHARSET: _each_charset(_with_labels),
}
