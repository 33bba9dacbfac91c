"""Key columns in conditions: what to compare, and the literals of canonical key values.

An enum, a set or a bit sorts by its number but compares as text, and a float compares unequal to the decimal text that
stands for it; their numbers are compared instead.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectors.mysql.catalog import ColumnInfo, TableInfo
from connectors.mysql.sql import binary, names, quote, text
from connectors.mysql.types import labels_of
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key

_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
#: Equal to nothing and beyond nothing: the literal of a value that the column can't hold.
_NOTHING: Final = "NULL"
_NUMERIC: Final = {"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "year"}
_BY_COLLATION: Final = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"}


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A key's column: its SQL name, what is compared, and how a canonical value is written there.

    `loose`: the server may take two different values for the same (upper and lower case, spaces at the end).
    """

    name: str
    expression: str
    literal: Callable[[Any], str]
    loose: bool = False


def key_columns(table: TableSchema, info: TableInfo) -> list[KeyColumn]:
    """The columns of the table's key, as the database has them."""
    there = {column.name: column for column in info.columns}
    for name in table.key:
        if name not in there:
            raise Halt(
                State.SCHEMA_MISMATCH,
                f"table {table.table} has no column {name}",
                "mend the table, then worker-sync resume PIPELINE",
            )
    return [column_of(there[name]) for name in table.key]


def beyond(key: Sequence[KeyColumn], after: Key) -> str:
    """The rows whose key is greater than `after`, in a form that lets the index find the first of them."""
    first, value = key[0].expression, key[0].literal(after[0])
    if len(key) == 1:
        return f"{first} > {value}"
    return f"{first} >= {value} AND ({first} > {value} OR ({beyond(key[1:], after[1:])}))"


def among(key: Sequence[KeyColumn], keys: Sequence[Key]) -> str:
    """The rows that have one of these keys, as the server compares them."""
    if len(key) == 1:
        return f"{key[0].expression} IN ({', '.join(key[0].literal(value) for (value,) in keys)})"
    some = (", ".join(column.literal(value) for column, value in zip(key, parts, strict=True)) for parts in keys)
    return f"({', '.join(column.expression for column in key)}) IN ({', '.join(f'({parts})' for parts in some)})"


def in_order(key: Sequence[KeyColumn]) -> str:
    """The ORDER BY list."""
    return names(column.name for column in key)


def column_of(column: ColumnInfo) -> KeyColumn:
    """How the column's values are compared."""
    name, data_type = quote(column.name), column.type.data_type
    if data_type in ("enum", "set"):
        numbers = {label: place for place, label in enumerate(labels_of(column.type.column_type))}
        write = _enum(numbers) if data_type == "enum" else _set(numbers)
        return KeyColumn(column.name, f"{name} + 0", write)
    if data_type == "bit":
        return KeyColumn(column.name, f"{name} + 0", _bits)
    if data_type in ("float", "double"):
        return KeyColumn(column.name, f"{name} + 0e0", _float32 if data_type == "float" else _float)
    if data_type in _NUMERIC:
        return KeyColumn(column.name, name, _number)
    loose = data_type in _BY_COLLATION and not _is_exact(column.type.collation or "")
    return KeyColumn(column.name, name, _moment if data_type in ("datetime", "timestamp") else _string, loose)


def _is_exact(collation: str) -> bool:
    """Whether values that are equal to the server are equal."""
    return collation.endswith(("_nopad_bin", "_0900_bin")) or collation == "binary"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    shown = str(value)
    return shown if _NUMBER.fullmatch(shown) else _NOTHING


def _float(value: Any) -> str:
    if not _is_finite(value):
        return _NOTHING
    # Without an exponent the server would take it for a decimal.
    shown = repr(float(value))
    return shown if "e" in shown else f"{shown}e0"


def _float32(value: Any) -> str:
    return _float(struct.unpack("<f", struct.pack("<f", float(value)))[0]) if _is_finite(value) else _NOTHING


def _is_finite(value: Any) -> bool:
    return float(value) - float(value) == 0


def _string(value: Any) -> str:
    if isinstance(value, bytes):
        return binary(value)
    return text(value) if isinstance(value, str) else text(str(int(value)) if isinstance(value, bool) else str(value))


def _moment(value: Any) -> str:
    return text(str(value).removesuffix("+00"))


def _bits(value: Any) -> str:
    return str(int(value, 2)) if isinstance(value, str) and value and not value.strip("01") else _NOTHING


def _enum(numbers: Mapping[str, int]) -> Callable[[Any], str]:
    # The empty string is number 0: what a lax server stored for a label that it didn't know.
    return lambda value: str(numbers[value] + 1) if value in numbers else ("0" if value == "" else _NOTHING)


def _set(numbers: Mapping[str, int]) -> Callable[[Any], str]:
    def literal(value: Any) -> str:
        labels = value.split(",") if value else []
        if not set(labels) <= numbers.keys():
            return _NOTHING
        return str(sum(1 << numbers[label] for label in labels))

    return literal
