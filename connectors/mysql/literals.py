"""Canonical values as SQL literals for one target column, or a refusal: nothing is rounded, cut or padded.

Strict mode still alters some values without an error: it rounds fractions of decimals and of seconds, cuts spaces that
a column has no room for, pads fixed binary columns and makes up numbers and times for NULL. Those are refused here.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from connectors.mysql.catalog import ENGINE, ColumnInfo
from connectors.mysql.sql import binary, text
from connectors.mysql.types import GEOMETRIES, labels_of, shortest_float
from worker_sync.core.schema import Column, Kind
from worker_sync.core.text import json_reader

#: A canonical value that is not None as a literal; raises ValueError, without the value in its words.
Writer = Callable[[Any], str]

NULL: Final = "NULL"
INTEGERS: Final = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "year"})
VARIABLE_TEXTS: Final = {"varchar": None, "tinytext": 255, "text": 65_535, "mediumtext": 16_777_215, "longtext": None}
BLOBS: Final = frozenset({"varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_TEXTS: Final = frozenset({*VARIABLE_TEXTS, "char"})
_MOMENTS: Final = frozenset({"datetime", "timestamp"})

#: The target's types that can hold values of a kind as they are.
_HOLDS: Final[dict[Kind, frozenset[str]]] = {
    Kind.BOOL: INTEGERS - {"year"},
    Kind.INT: INTEGERS | {"decimal"} | _TEXTS,
    Kind.FLOAT: frozenset({"float", "double"}),
    Kind.DECIMAL: INTEGERS | {"decimal"} | _TEXTS,
    Kind.TEXT: _TEXTS | {"enum", "set"},
    Kind.ENUM: _TEXTS | {"enum"},
    Kind.BYTES: BLOBS | GEOMETRIES | {"binary", "vector"},
    Kind.UUID: _TEXTS | {"uuid"},
    Kind.DATE: _TEXTS | {"date"},
    Kind.TIME: _TEXTS | {"time"},
    Kind.TIMESTAMP: _TEXTS | _MOMENTS,
    Kind.TIMESTAMPTZ: _TEXTS | _MOMENTS,
    Kind.BIT: _TEXTS | {"bit"},
    Kind.NATIVE: _TEXTS | {"set", "enum", "inet4", "inet6"},
}

_DECIMAL: Final = re.compile(r"-?\d+(?:\.(\d+))?")
#: Fewer digits survive as a double.
_LONG_NUMBER: Final = re.compile(r"[\d.]{16}")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_TIME: Final = re.compile(r"-?\d{2,3}:\d\d:\d\d(?:\.(\d{1,6}))?")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.(\d{1,6}))?")


def holds(column: Column, engine: str, target: ColumnInfo) -> bool:
    """Whether the target's column can take values of a source's column, of that source's engine, unaltered."""
    data_type = target.type.data_type
    if data_type == "json":
        # It orders members and rewrites numbers; what came from such a column is that already.
        return column.type.kind is Kind.JSON and engine == ENGINE
    return data_type in _HOLDS.get(column.type.kind, _TEXTS)


def writer(column: Column, target: ColumnInfo) -> Writer:
    """What makes literals for a column that `holds` the values."""
    data_type = target.type.data_type
    if data_type in INTEGERS or data_type == "decimal":
        return _number(0 if data_type in INTEGERS else target.type.scale or 0)
    if data_type in ("float", "double"):
        write = _float32 if data_type == "float" else _float
        return write if target.signed_zero else _unsigned_zero(write)
    if data_type in _MOMENTS:
        return _moment(target.type.fraction or 0, column.type.kind is Kind.TIMESTAMPTZ)
    if data_type == "time":
        return _timed(_TIME, target.type.fraction or 0)
    if data_type == "date":
        return _timed(_DATE, 0)
    if data_type == "bit":
        return _bits(target.type.precision or 1)
    if data_type in ("enum", "set"):
        return _labelled(frozenset(labels_of(target.type.column_type)), data_type == "set")
    if data_type in BLOBS or data_type in GEOMETRIES or data_type in ("binary", "vector"):
        return _binary(target.type.length if data_type == "binary" else None)
    if data_type == "json":
        return _json
    return _text(data_type, target.type.length)


def column_literals(values: Sequence[Any], write: Writer, nullable: bool) -> list[str]:
    """The literals of a column's values. Raises ValueError."""
    if None not in values:
        return list(map(write, values))
    if not nullable:
        # The server would make up a value for some types.
        raise ValueError("NULL in a column that is not nullable")
    return [NULL if value is None else write(value) for value in values]


def _number(scale: int) -> Writer:
    def write(value: Any) -> str:
        if value.__class__ is int:
            return int.__repr__(value)
        if isinstance(value, bool):
            return "1" if value else "0"
        match = _DECIMAL.fullmatch(str(value))
        if match is None:
            raise ValueError("not a finite decimal number")
        if len((match[1] or "").rstrip("0")) > scale:
            raise ValueError(f"more than {scale} digits after the point")
        return str(value)

    return write


def _float(value: Any) -> str:
    if value - value != 0:
        raise ValueError("NaN or infinity")
    # As a string: a bare -0.0 would be a decimal without a sign.
    return f"'{value!r}'"


def _float32(value: Any) -> str:
    if value - value == 0 and shortest_float(value) != value:
        raise ValueError("a float of 64 bits")
    try:
        # All its digits: the shortest text of the largest float lies beyond what the server takes.
        return _float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        raise ValueError("a float of 64 bits") from None


def _unsigned_zero(write: Writer) -> Writer:
    def checked(value: Any) -> str:
        if value == 0 and math.copysign(1.0, value) < 0:
            raise ValueError("-0.0, which MariaDB makes 0.0")
        return write(value)

    return checked


def _timed(form: re.Pattern[str], digits: int) -> Writer:
    def write(value: Any) -> str:
        match = form.fullmatch(value)
        if match is None:
            raise ValueError("outside the dates and times that MySQL has")
        if form.groups and len(match[1] or "") > digits:
            raise ValueError(f"more than {digits} digits of a second's fraction")
        return f"'{value}'"

    return write


def _moment(digits: int, with_zone: bool) -> Writer:
    write = _timed(_MOMENT, digits)
    return (lambda value: write(value.removesuffix("+00"))) if with_zone else write


def _bits(size: int) -> Writer:
    def write(value: Any) -> str:
        if len(value) != size or value.strip("01"):
            raise ValueError(f"not {size} bits")
        return f"b'{value}'"

    return write


def _labelled(labels: frozenset[str], several: bool) -> Writer:
    def write(value: Any) -> str:
        chosen = value.split(",") if several and value else [value]
        if not labels.issuperset(chosen) and value:
            raise ValueError("not one of the column's labels")
        return text(value)

    return write


def _binary(size: int | None) -> Writer:
    def write(value: Any) -> str:
        if size is not None and len(value) != size:
            raise ValueError(f"not {size} bytes")
        return binary(value)

    return write


def _json(value: Any) -> str:
    # A document may hold decimals of any precision; one that is made from text has doubles only.
    if _LONG_NUMBER.search(value):
        _check_numbers(value)
    return text(value)


def _check_double(number: str) -> None:
    if Decimal(number) != Decimal(repr(float(number))):
        raise ValueError("JSON with a number that a double would round")


def _check_integer(number: str) -> None:
    if not -(1 << 63) <= int(number) < 1 << 64:
        _check_double(number)


_check_numbers: Final = json_reader(_check_double, _check_integer)


def _text(data_type: str, length: int | None) -> Writer:
    characters = length if data_type in ("varchar", "char") else None
    most = VARIABLE_TEXTS.get(data_type)

    def write(value: Any) -> str:
        if value.__class__ is not str:
            value = str(int(value)) if isinstance(value, bool) else str(value)
        if characters is not None and len(value) > characters:
            raise ValueError(f"more than {characters} characters")
        if most is not None and len(value) * 4 > most and len(value.encode()) > most:
            raise ValueError(f"more than {most} bytes")
        if data_type == "char" and value.endswith(" "):
            raise ValueError("spaces at the end, which a CHAR column drops")
        return text(value)

    return write
