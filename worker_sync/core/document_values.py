"""Values of Extended JSON as canonical values of declared types. What doesn't fit exactly is refused."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, Final
from uuid import UUID

from worker_sync.core.schema import Kind, Type
from worker_sync.core.text import format_json, format_timestamptz
from worker_sync.core.values import Value

#: The only field of an object that would otherwise read as one of the forms below.
WRAPPER: Final = "@json"
#: Of more digits than a declared decimal has; rounding is an error.
_EXACT: Final = Context(prec=160, traps=[Inexact, InvalidOperation])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UUID_SUBTYPES: Final = frozenset({"4", "04"})


class NotThisType(ValueError):
    """A value of another type, or that doesn't fit; the text says which was wanted and holds no value."""


def converter(type_: Type) -> Callable[[Any], Value]:
    """What makes the canonical value of `type_` of a value that is neither missing nor null. Raises NotThisType."""
    match type_.kind:
        case Kind.INT:
            return _integer(type_.size or 64)
        case Kind.DECIMAL:
            assert type_.precision is not None
            return _decimal(type_.precision, type_.scale or 0)
        case Kind.TEXT:
            return _text(type_.size)
        case kind:
            return _CONVERTERS[kind]


def _form(value: Any) -> tuple[str, Any]:
    """The name and content of an Extended JSON form; of anything else the empty name and the value."""
    if isinstance(value, dict) and len(value) == 1:
        name, content = next(iter(value.items()))
        if name.startswith("$"):
            return name, content
    return "", value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise NotThisType("no boolean")
    return value


def _number(value: Any, wanted: str) -> Decimal:
    """The number as its text has it; NaN and infinities too."""
    name, content = _form(value)
    wrapped = name in ("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal") and isinstance(content, str)
    plain = not name and isinstance(content, int | float | Decimal) and not isinstance(content, bool)
    if not (wrapped or plain):
        raise NotThisType(f"no {wanted}")
    try:
        return Decimal(repr(content) if isinstance(content, float) else content)
    except InvalidOperation:
        raise NotThisType(f"no {wanted}") from None


def _integer(bits: int) -> Callable[[Any], Value]:
    limit = 1 << (bits - 1)

    def convert(value: Any) -> int:
        number = _number(value, "integer")
        # Exact bounds come first: a huge exponent must not become a huge integer.
        if not number.is_finite() or not -limit <= number < limit or number != number.to_integral_value():
            raise NotThisType(f"no integer of {bits} bits")
        return int(number)

    return convert


def _float(value: Any) -> float:
    number = _number(value, "number")
    if number.is_snan():
        raise NotThisType("no number")
    found = float(number)
    if number.is_finite() and Decimal(repr(found)) != number and Decimal(found) != number:
        raise NotThisType("a number that a double doesn't hold")
    return found


def _decimal(precision: int, scale: int) -> Callable[[Any], Value]:
    unit = Decimal(1).scaleb(-scale)
    limit = Decimal(1).scaleb(precision - scale)

    def convert(value: Any) -> str:
        number = _number(value, "number")
        if not number.is_finite() or not -limit < number < limit:
            raise NotThisType(f"no decimal({precision}, {scale})")
        try:
            # No sign for zero: databases don't keep it.
            return format((number or Decimal(0)).quantize(unit, context=_EXACT), "f")
        except Inexact:
            raise NotThisType(f"no decimal({precision}, {scale}): it has more digits behind the point") from None

    return convert


def _text(size: int | None) -> Callable[[Any], Value]:
    def convert(value: Any) -> str:
        name, content = _form(value)
        if name not in ("", "$oid", "$symbol") or not isinstance(content, str):
            raise NotThisType("no text")
        if size is not None and len(content) > size:
            raise NotThisType(f"a text of more than {size} characters")
        return content

    return convert


def _bytes(value: Any) -> bytes:
    return _binary(value)[0]


def _binary(value: Any) -> tuple[bytes, str]:
    """Content and subtype."""
    name, content = _form(value)
    if name != "$binary" or not isinstance(content, dict):
        raise NotThisType("no bytes")
    try:
        return base64.b64decode(content["base64"], validate=True), str(content["subType"])
    except (KeyError, TypeError, binascii.Error):
        raise NotThisType("no bytes") from None


def _uuid(value: Any) -> str:
    name, content = _form(value)
    try:
        if name == "$binary":
            data, subtype = _binary(value)
            if subtype in _UUID_SUBTYPES:
                return str(UUID(bytes=data))
        elif name in ("", "$uuid") and isinstance(content, str):
            return str(UUID(content))
    except ValueError:
        pass
    raise NotThisType("no UUID")


def _moment(value: Any) -> datetime:
    name, content = _form(value)
    inner, number = _form(content)
    try:
        if name == "$date" and inner == "$numberLong" and isinstance(number, str):
            return _EPOCH + timedelta(milliseconds=int(number))
        if name == "$date" and isinstance(content, str):
            return datetime.fromisoformat(content).astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotThisType("a date outside the years 1 to 9999") from None
    raise NotThisType("no date")


def _timestamptz(value: Any) -> str:
    return format_timestamptz(_moment(value).replace(tzinfo=None))


def _date(value: Any) -> str:
    if isinstance(value, str):
        try:
            return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).date().isoformat()
        except ValueError:
            raise NotThisType("no date like 2026-01-31") from None
    moment = _moment(value)
    if (moment.hour, moment.minute, moment.second, moment.microsecond) != (0, 0, 0, 0):
        raise NotThisType("a moment that is not midnight UTC, so no date")
    return moment.date().isoformat()


_CONVERTERS: Final[Mapping[Kind, Callable[[Any], Value]]] = {
    Kind.BOOL: _boolean,
    Kind.FLOAT: _float,
    Kind.BYTES: _bytes,
    Kind.UUID: _uuid,
    Kind.DATE: _date,
    Kind.TIMESTAMPTZ: _timestamptz,
    Kind.JSON: format_json,
}
