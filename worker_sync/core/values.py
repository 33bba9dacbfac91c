"""Canonical values: the one form in which a value travels between engines.

A canonical value is None, bool, int, float, str, bytes or UNCHANGED, and the column's `Type` says how to read it:

=====================  ==================================================================================
kind                   canonical value
=====================  ==================================================================================
bool                   bool
int                    int that fits in 64 bits, signed or (``unsigned``) not
float                  float; NaN and infinities included
decimal                str in plain notation (``-12.50``), or ``NaN``, ``Infinity``, ``-Infinity``
text, enum             str
bytes                  bytes
uuid                   str, lower case with hyphens
date                   str ``YYYY-MM-DD``, also ``infinity``, ``-infinity``, and a trailing `` BC``
time, timetz           str ``HH:MM:SS[.ffffff]``, timetz with ``+HH[:MM[:SS]]``
timestamp              str ``YYYY-MM-DD HH:MM:SS[.ffffff]``, also infinities and `` BC``
timestamptz            as timestamp, in UTC, with ``+00`` after the time
interval               str, ISO 8601 duration with sign per field (``P1Y2M-3DT4H5M6.7S``)
json                   str, JSON text as the source printed it
array                  str, PostgreSQL array literal of the element's text forms
bit                    str of ``0`` and ``1``
native                 str, the source engine's own text; only the same engine can take it back exactly
=====================  ==================================================================================

Text is used where no Python type holds every value of the database type (infinity, years before 1 and after 9999,
decimals of any scale), so nothing is rounded on the way and an engine that reads its own text pays nothing.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, final


@final
class Unchanged:
    """The type of UNCHANGED."""

    _instance: Unchanged | None = None

    def __new__(cls) -> Unchanged:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "UNCHANGED"

    def __bool__(self) -> bool:
        raise TypeError("UNCHANGED is neither true nor false: compare with `is UNCHANGED`")

    def __reduce__(self) -> str:
        return "UNCHANGED"


#: A column that the source did not send because the change left it as it was. Not NULL, and never written.
UNCHANGED: Final = Unchanged()

# Any keeps the row types usable at the speed of plain tuples; the table above is the contract.
Value: TypeAlias = Any
Row: TypeAlias = tuple[Value, ...]
Key: TypeAlias = tuple[Value, ...]


def merge(older: Row, newer: Row) -> Row:
    """`newer` with every UNCHANGED column taken from `older`."""
    return tuple(old if new is UNCHANGED else new for old, new in zip(older, newer, strict=True))


def is_complete(row: Row) -> bool:
    """True when no column of `row` is UNCHANGED."""
    return not any(value is UNCHANGED for value in row)
