"""Canonical values and literals of filters, as objects whose order is that of the database type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from worker_sync.core.schema import Kind

#: Makes a comparable object of a canonical value.
Reader = Callable[[Any], Any]

_INFINITE: Final = Decimal("Infinity")
_YEAR: Final = re.compile(r"(\d{4,})-(.*)", re.DOTALL)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?")
Moment = tuple[int, str]


def _decimal(value: str) -> Decimal:
    number = Decimal(value)
    # As in PostgreSQL, NaN is equal to itself and above all numbers; literals are finite.
    return _INFINITE if number.is_nan() else number


def _float(value: float) -> float:
    return float("inf") if value != value else value


def _moment(value: str) -> Moment:
    """Sorts as dates and timestamps do, with infinities and years beyond 1 to 9999."""
    if value in ("infinity", "-infinity"):
        return (10**9 if value == "infinity" else -(10**9), "")
    match = _YEAR.fullmatch(value.removesuffix(" BC"))
    if match is None:
        raise ValueError("a date or timestamp that can't be read")
    rest = match[2].removesuffix("+00")
    if "." in rest:
        rest = rest.rstrip("0").rstrip(".")
    return (-int(match[1]) if value.endswith(" BC") else int(match[1]), rest)


#: The kinds that filters compare; None where a canonical value can be compared as it is.
READERS: Final[Mapping[Kind, Reader | None]] = {
    Kind.BOOL: None,
    Kind.INT: None,
    Kind.FLOAT: _float,
    Kind.DECIMAL: _decimal,
    Kind.TEXT: None,
    Kind.ENUM: None,
    Kind.UUID: None,
    Kind.DATE: _moment,
    Kind.TIMESTAMP: _moment,
    Kind.TIMESTAMPTZ: _moment,
}


def literal_of(kind: Kind, value: object) -> Any:
    """The comparable object of a literal. Raises ValueError for one that can't be a value of `kind`."""
    match kind, value:
        case Kind.BOOL, bool():
            return value
        case ((Kind.INT | Kind.FLOAT | Kind.DECIMAL), Decimal()):
            return _number(kind, value)
        case ((Kind.TEXT | Kind.ENUM), str()):
            return value
        case Kind.UUID, str():
            return _uuid(value)
        case ((Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMPTZ), str()):
            return _moment(_moment_text(kind, value))
    raise ValueError(f"it is compared with {_names(value)}")


def _names(value: object) -> str:
    return "TRUE or FALSE" if isinstance(value, bool) else "a number" if isinstance(value, Decimal) else "a text"


def _number(kind: Kind, value: Decimal) -> Any:
    if kind is Kind.FLOAT:
        return float(value)
    if kind is Kind.DECIMAL:
        return value
    if value != value.to_integral_value():
        raise ValueError("it is compared with a fraction")
    return int(value)


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("the text is no UUID") from None


def _moment_text(kind: Kind, text: str) -> str:
    """The canonical text of a date or timestamp literal."""
    if kind is Kind.DATE:
        if not _DATE.fullmatch(text):
            raise ValueError("the text is no date like 2026-01-31")
        day: date = _parsed(date.fromisoformat, text)
        return day.isoformat()
    if not _MOMENT.fullmatch(text):
        raise ValueError("the text is no timestamp like 2026-01-31 12:00:00")
    moment: datetime = _parsed(datetime.fromisoformat, text)
    if kind is Kind.TIMESTAMP:
        if moment.tzinfo is not None:
            raise ValueError("the text has a time zone")
        return moment.isoformat(" ")
    if moment.tzinfo is None:
        raise ValueError("the text has no time zone; write 2026-01-31 12:00:00+00")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


def _parsed(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except (ValueError, OverflowError):
        raise ValueError("the text is no date that exists") from None
