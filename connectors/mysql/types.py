"""Column types of MySQL and MariaDB as core types, and the server's values as canonical values.

The server prints every value as text (see `conn.connect`), binary ones as bytes. Canonical forms that differ from it:
fractions of a second lose their trailing zeros, `timestamp` columns (shown in UTC) get ``+00``, bits become ``0`` and
``1``, floats are parsed. Times beyond a day, zero dates and the like stay the text that they are; a target that has no
form for them refuses them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker_sync.core.schema import Kind, TableSchema, Type

#: The server's value -> canonical value; None where they are the same.
Converter = Callable[[Any], Any] | None

_INTEGERS: Final = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}
_TEXTS: Final = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}
_BYTES: Final = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"}
#: Their value is the server's internal form (SRID, then well-known binary), which it takes back as it is.
GEOMETRIES: Final = {
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection", "geomcollection",
}  # fmt: skip
_TEMPORAL: Final = {"time": Kind.TIME, "datetime": Kind.TIMESTAMP, "timestamp": Kind.TIMESTAMPTZ}
_FIXED: Final = {"date": Kind.DATE, "json": Kind.JSON, "uuid": Kind.UUID}
_SMALLEST_NORMAL: Final = 2.0**-126
_LABEL: Final = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPED: Final = re.compile(r"''|\\(.)", re.DOTALL)
_CONTROL: Final = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a"}


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type as information_schema has it.

    `data_type` is the bare name (``int``), `column_type` the whole (``int(10) unsigned``). `length` is in characters
    (bytes for binary types), `fraction` the digits after a second. `json`: the column is checked to hold JSON.
    """

    data_type: str
    column_type: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    fraction: int | None = None
    charset: str | None = None
    collation: str | None = None
    json: bool = False

    @property
    def native(self) -> str:
        """The type as it stands in a CREATE TABLE."""
        if self.charset is None:
            return self.column_type
        return f"{self.column_type} CHARACTER SET {self.charset} COLLATE {self.collation}"


def core_type(column: ColumnType) -> Type:
    """The engine-neutral type."""
    name, native = column.data_type, column.native
    unsigned = " unsigned" in column.column_type
    if name in _INTEGERS:
        return Type(Kind.INT, native, size=_INTEGERS[name], unsigned=unsigned)
    if name == "year":
        return Type(Kind.INT, native, size=16)
    if name in ("float", "double", "real"):
        return Type(Kind.FLOAT, native, size=32 if name == "float" else 64, unsigned=unsigned)
    if name in ("decimal", "numeric"):
        return Type(Kind.DECIMAL, native, precision=column.precision, scale=column.scale, unsigned=unsigned)
    if column.json or name in _FIXED:
        return Type(_FIXED.get(name, Kind.JSON), native)
    if name in _TEXTS:
        return Type(Kind.TEXT, native, size=column.length if name in ("char", "varchar") else None)
    if name in _BYTES or name in GEOMETRIES:
        return Type(Kind.BYTES, native, size=column.length if name in ("binary", "varbinary") else None)
    if name == "bit":
        return Type(Kind.BIT, native, size=column.precision or 1)
    if name in _TEMPORAL:
        return Type(_TEMPORAL[name], native, precision=column.fraction or 0)
    labels = labels_of(column.column_type) if name in ("enum", "set") else ()
    return Type(Kind.ENUM if name == "enum" else Kind.NATIVE, native, labels=labels)


def labels_of(column_type: str) -> tuple[str, ...]:
    """The labels of ``enum('a','it''s')`` or a set, in order."""
    body = column_type[column_type.index("(") :]
    return tuple(_ESCAPED.sub(_unescape, label) for label in _LABEL.findall(body))


def _unescape(match: re.Match[str]) -> str:
    return "'" if match[1] is None else _CONTROL.get(match[1], match[1])


def shortest_float(value: float) -> float:
    """The double nearest to the shortest decimal text that stands for the 32-bit float `value`: 0.1 for
    0.10000000149011612. A 32-bit float's canonical value."""
    try:
        wanted = struct.pack("<f", value)
    except OverflowError:
        return value
    # Six digits tell all normal numbers that need no more; below those, fewer may do.
    for digits in range(6 if abs(value) >= _SMALLEST_NORMAL else 1, 9):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == wanted:
            return short
    return float(f"{value:.9g}")


def trim_fraction(text: str) -> str:
    """A time or datetime without trailing zeros in its fraction of a second."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def bits(value: bytes, size: int) -> str:
    """The bits of a ``bit(size)`` value."""
    return f"{int.from_bytes(value, 'big'):0{size}b}"


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def _to_bool(value: str | bytes) -> bool:
    number = int.from_bytes(value, "big") if isinstance(value, bytes) else int(value)
    if number not in (0, 1):
        raise ValueError("a number that is neither 0 nor 1")
    return bool(number)


def _to_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _moment(value: str | bytes) -> str:
    return trim_fraction(_text(value))


_CONVERTERS: Final[Mapping[Kind, Converter]] = {
    Kind.BOOL: _to_bool,
    Kind.INT: int,
    Kind.BYTES: _to_bytes,
    Kind.TIME: _moment,
    Kind.TIMESTAMP: _moment,
}


def converter(type_: Type, data_type: str) -> Converter:
    """What makes the canonical value of `type_` from the text of a column of `data_type`. Raises ValueError."""
    if type_.kind is Kind.FLOAT:
        return _to_float32 if type_.size == 32 else float
    if type_.kind is Kind.TIMESTAMPTZ:
        return _to_timestamptz
    if type_.kind is Kind.BIT and data_type == "bit":
        size = type_.size or 1
        return lambda value: bits(value, size)
    if type_.kind in _CONVERTERS:
        return _CONVERTERS[type_.kind]
    # Text in a column with a binary type or collation.
    return None if data_type in _TEXTS or data_type in ("enum", "date", "decimal") else _text


def _to_float32(value: str) -> float:
    return shortest_float(float(value))


def _to_timestamptz(value: str | bytes) -> str:
    return _moment(value) + "+00"


def converters(table: TableSchema, data_types: Mapping[str, str]) -> tuple[Converter, ...]:
    """For each column of `table`, its converter; `data_types` are the actual ones in the database."""
    return tuple(converter(column.type, data_types[column.name]) for column in table.columns)
