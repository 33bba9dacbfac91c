"""How the values of one logged column are packed in a row, and what makes canonical values of them.

A value has a fixed number of bytes (`format` is that of `struct`), or a length of one to four bytes before it.
`convert`, where there is one, makes the canonical value from what was unpacked.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors.mysql.binlog import table_map as kinds
from connectors.mysql.binlog.charsets import BINARY_COLLATION, Decode
from connectors.mysql.binlog.decimals import decimal_reader, decimal_size
from connectors.mysql.binlog.jsonb import json_text
from connectors.mysql.binlog.table_map import LoggedColumn
from connectors.mysql.binlog.temporal import (
    date_text,
    datetime_reader,
    fraction_size,
    time_reader,
    timestamp_reader,
)
from connectors.mysql.types import shortest_float
from worker_sync.core.errors import Halt, State

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Packing:
    """See the module. `prefix` is the number of length bytes, 0 for a fixed `format`."""

    format: str = ""
    prefix: int = 0
    convert: Convert | None = None


_INTEGERS: Final = {kinds.TINY: "bB", kinds.SHORT: "hH", kinds.LONG: "iI", kinds.LONGLONG: "qQ"}
_FIRST_YEAR: Final = 1900


def packing(column: LoggedColumn, decoders: Mapping[int, Decode]) -> Packing:
    """How that column is packed; `decoders` reads text by collation. Raises Halt for a type that can't be read."""
    kind, meta = column.type, column.meta
    if kind in _INTEGERS:
        return Packing(_INTEGERS[kind][column.unsigned])
    if kind in (kinds.VARCHAR, kinds.VAR_STRING, kinds.STRING, kinds.BLOB):
        return _string(column, decoders)
    factory = _FACTORIES.get(kind)
    if factory is None:
        fix = "ALTER TABLE ... FORCE (or give the column another type), then worker-sync resync PIPELINE"
        raise Halt(State.TABLE_UNSUPPORTED, f"column {column.name} is of a type that can't be read ({kind})", fix)
    return factory(column, meta)


def _string(column: LoggedColumn, decoders: Mapping[int, Decode]) -> Packing:
    prefix = column.meta if column.type == kinds.BLOB else 2 if column.meta > 255 else 1
    if column.collation == BINARY_COLLATION:
        return Packing(prefix=prefix, convert=_padded(column.meta) if column.type == kinds.STRING else None)
    decode = decoders.get(column.collation)
    if decode is None:
        fix = "ALTER TABLE ... MODIFY the column to CHARACTER SET utf8mb4, then worker-sync resync PIPELINE"
        detail = f"column {column.name} has a character set that can't be read (collation {column.collation})"
        raise Halt(State.TABLE_UNSUPPORTED, detail, fix)
    return Packing(prefix=prefix, convert=decode)


def _padded(size: int) -> Convert:
    """The log leaves the zero bytes out that end a BINARY value."""
    return lambda data: data.ljust(size, b"\0")


def _medium(column: LoggedColumn, _: int) -> Packing:
    signed = not column.unsigned
    return Packing("3s", convert=lambda data: int.from_bytes(data, "little", signed=signed))


def _decimal(_: LoggedColumn, meta: int) -> Packing:
    precision, scale = meta >> 8, meta & 255
    return Packing(f"{decimal_size(precision, scale)}s", convert=decimal_reader(precision, scale))


def _bits(_: LoggedColumn, meta: int) -> Packing:
    return Packing(f"{(meta + 7) // 8}s", convert=lambda data: f"{int.from_bytes(data, 'big'):0{meta}b}")


def _year(_: LoggedColumn, __: int) -> Packing:
    return Packing("B", convert=lambda value: value + _FIRST_YEAR if value else 0)


def _temporal(size: int, reader: Callable[[int], Convert]) -> Callable[[LoggedColumn, int], Packing]:
    return lambda _, digits: Packing(f"{size + fraction_size(digits)}s", convert=reader(digits))


def _length_prefixed(convert: Convert | None) -> Callable[[LoggedColumn, int], Packing]:
    return lambda _, meta: Packing(prefix=meta, convert=convert)


_FACTORIES: Final[dict[int, Callable[[LoggedColumn, int], Packing]]] = {
    kinds.INT24: _medium,
    kinds.NEWDECIMAL: _decimal,
    kinds.FLOAT: lambda _, __: Packing("f", convert=shortest_float),
    kinds.DOUBLE: lambda _, __: Packing("d"),
    kinds.BIT: _bits,
    kinds.YEAR: _year,
    kinds.DATE: lambda _, __: Packing("3s", convert=date_text),
    kinds.DATETIME2: _temporal(5, datetime_reader),
    kinds.TIMESTAMP2: _temporal(4, timestamp_reader),
    kinds.TIME2: _temporal(3, time_reader),
    kinds.JSON: _length_prefixed(json_text),
    kinds.GEOMETRY: _length_prefixed(None),
    kinds.VECTOR: _length_prefixed(None),
}


def labelled(column: LoggedColumn, labels: tuple[str, ...]) -> Packing:
    """An ENUM or SET with these labels. The empty text stands for a value that was no label when it was written."""
    if column.type == kinds.ENUM:
        texts = ("", *labels)
        return Packing("BH"[column.meta > 1], convert=texts.__getitem__)
    bits = [(1 << number, label) for number, label in enumerate(labels)]

    def read(data: bytes) -> str:
        value = int.from_bytes(data, "little")
        return ",".join([label for bit, label in bits if value & bit])

    return Packing(f"{column.meta}s", convert=read)


def uuid_text(data: bytes) -> str:
    """MariaDB's UUID column."""
    return str(uuid.UUID(bytes=data.ljust(16, b"\0")))


def inet6_text(data: bytes) -> str:
    """MariaDB's INET6 column."""
    return socket.inet_ntop(socket.AF_INET6, data.ljust(16, b"\0"))


def inet4_text(data: bytes) -> str:
    """MariaDB's INET4 column."""
    return socket.inet_ntop(socket.AF_INET, data.ljust(4, b"\0"))
