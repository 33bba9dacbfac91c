"""MySQL's and MariaDB's part of the type matrix: see `connectors.matrix`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from connectors.matrix import Extreme, TargetType
from connectors.mysql.ddl import type_name
from worker_sync.core.schema import Kind, Type

_NUMBERS: Final = frozenset({Extreme.NAN, Extreme.INFINITE_NUMBER})
_DATES: Final = frozenset({Extreme.INFINITE_DATE, Extreme.BEFORE_YEAR_1, Extreme.AFTER_YEAR_9999})
#: What a kind's values are refused for, where the column is not text.
_REFUSES: Final[Mapping[Kind, frozenset[Extreme]]] = {
    Kind.FLOAT: _NUMBERS | {Extreme.NEGATIVE_ZERO},
    Kind.DECIMAL: _NUMBERS,
    Kind.ENUM: frozenset({Extreme.EMPTY_LABEL}),
    Kind.DATE: _DATES,
    Kind.TIMESTAMP: _DATES,
    Kind.TIMESTAMPTZ: _DATES,
}
#: What the check of JSON in either server refuses.
_JSON: Final = frozenset(
    {Extreme.HALF_SURROGATE, Extreme.HUGE_IN_JSON, Extreme.DEPTH_31, Extreme.DEPTH_100, Extreme.DEPTH_180}
)
#: What one of the two servers refuses.
_ONLY: Final[Mapping[Extreme, str]] = {
    Extreme.NEGATIVE_ZERO: "MariaDB",
    Extreme.HUGE_IN_JSON: "MySQL",
    Extreme.PRECISE_IN_JSON: "MySQL",
    Extreme.DIGITS: "MySQL",
    Extreme.DEPTH_31: "MariaDB",
}
#: MySQL's own JSON type, whose numbers are doubles when they come as text.
_NATIVE_JSON: Final = TargetType("json", _JSON | {Extreme.PRECISE_IN_JSON, Extreme.DIGITS}, only=_ONLY, parsed=True)


def describe(type_: Type, engine: str) -> TargetType:
    """What a column of a table that `engine` is the source of becomes here, outside a key."""
    name = type_name(type_, engine)
    if type_.kind is Kind.JSON:
        return _NATIVE_JSON if name == "json" else TargetType(name, _JSON, only=_ONLY)
    return TargetType(name, frozenset() if name == "longtext" else _REFUSES.get(type_.kind, frozenset()), only=_ONLY)
