"""Tables and types as they travel with the data."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property

import msgspec


class Kind(StrEnum):
    """Families of types; `worker_sync.core.values` says what a value of each looks like."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    DECIMAL = "decimal"
    TEXT = "text"
    ENUM = "enum"
    BYTES = "bytes"
    UUID = "uuid"
    DATE = "date"
    TIME = "time"
    TIMETZ = "timetz"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    INTERVAL = "interval"
    JSON = "json"
    ARRAY = "array"
    BIT = "bit"
    NATIVE = "native"


class Type(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column's type: engine-neutral `kind` with its parameters, and the source engine's own name for it.

    `size`: bits of an int or float, maximum characters of a text, maximum bytes of bytes, bits of a bit string.
    `precision` and `scale`: of a decimal; of a temporal kind `precision` is the number of fractional digits (None: the
    engine's default, 6). `labels`: of an enum, in order. `element`: of an array.
    """

    kind: Kind
    native: str = ""
    size: int | None = None
    precision: int | None = None
    scale: int | None = None
    unsigned: bool = False
    labels: tuple[str, ...] = ()
    element: Type | None = None


class TableName(msgspec.Struct, frozen=True, order=True):
    """A table's name with its namespace (schema or database; empty where the engine has none)."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Split `namespace.name` at the first dot; a name without a dot has no namespace."""
        namespace, dot, name = text.partition(".")
        return cls(namespace, name) if dot else cls("", text)


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column; rows are tuples in the order of their table's columns.

    `number` stays with the column when it is renamed and is never given to another one of its table; 0 where the
    engine has no such numbers, or where it is not known.
    """

    name: str
    type: Type
    nullable: bool = True
    number: int = 0


class TableSchema(msgspec.Struct, frozen=True, dict=True, omit_defaults=True):
    """One version of a table: its name where it is written, its columns in row order, and the columns of its key.

    `engine` is the source's engine: `Type.native` means something to that engine only. `number` stays with the table
    when it is renamed, and another table that gets its name has another one; 0 where the engine has no such numbers.
    """

    table: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    engine: str = ""
    number: int = 0

    @cached_property
    def key_indexes(self) -> tuple[int, ...]:
        """Where the key's columns stand in a row."""
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)
