"""MongoDB's part of the type matrix: see `connectors.matrix`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from connectors.matrix import Extreme, TargetType
from connectors.mongodb.collections import DOCUMENT_TYPE, ENGINE, ID_TYPE
from connectors.mongodb.types import is_date
from worker_sync.core.schema import Kind, Type

_DATES: Final = frozenset({Extreme.INFINITE_DATE, Extreme.BEFORE_YEAR_1, Extreme.AFTER_YEAR_9999, Extreme.ZERO_DATE})
_LONG: Final = frozenset({Extreme.DIGITS})
_DATE: Final = TargetType("date", _DATES)
_FIXED: Final[Mapping[Kind, TargetType]] = {
    Kind.BOOL: TargetType("bool"),
    Kind.FLOAT: TargetType("double"),
    Kind.DECIMAL: TargetType("decimal", _LONG),
    Kind.BYTES: TargetType("binData"),
    Kind.UUID: TargetType("binData", note="subtype 4"),
    Kind.DATE: _DATE,
    Kind.JSON: TargetType(
        "object",
        frozenset({Extreme.KEY_TWICE, Extreme.NUL_IN_KEY, Extreme.HALF_SURROGATE, Extreme.DEPTH_180, *_LONG}),
        note="or array, or scalar",
        parsed=True,
    ),
}
_STRING: Final = TargetType("string")


def describe(type_: Type, engine: str) -> TargetType:
    """What a column of a table that `engine` is the source of becomes here, in the words of `$type`."""
    if engine == ENGINE and type_ in (ID_TYPE, DOCUMENT_TYPE):
        return TargetType("the same")
    if type_.kind is Kind.INT:
        return _integer((type_.size or 64) + type_.unsigned)
    if type_.kind is Kind.ARRAY:
        element = describe(type_.element or Type(Kind.TEXT), engine)
        return TargetType("array", element.refuses | {Extreme.LOWER_BOUND}, f"of {element.name}", parsed=element.parsed)
    if type_.kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ) and is_date(type_):
        return _DATE
    return _FIXED.get(type_.kind, _STRING)


def _integer(bits: int) -> TargetType:
    if bits <= 32:
        return TargetType("int")
    return TargetType("long", note="above 2^63-1: decimal" if bits > 64 else "")
