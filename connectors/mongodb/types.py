"""Canonical values as BSON and back, one converter per column type.

===============================  =============================================================================
kind                             BSON
===============================  =============================================================================
bool, float                      bool, double
int                              int32 where the type has at most 32 bits, else int64; unsigned above 2^63-1:
                                 Decimal128
decimal                          Decimal128 with its scale, NaN and infinities; more than 34 digits: refused
text, enum, native               string
bytes, uuid                      binary of subtype 0, binary of subtype 4
date                             date at midnight UTC
timestamp, timestamptz           with a declared precision of at most 3: date; else the canonical text, because
                                 a BSON date has milliseconds only. The text orders as the moments do.
time, timetz, interval, bit      string
json                             document, array or scalar; integers int64, fractions double when its text is the
                                 same number written the same way, all others Decimal128
array                            array of converted elements; bounds that don't begin at 1: refused
===============================  =============================================================================

Dates stored as BSON dates have no infinity and no years outside 1 to 9999: refused.

SQL NULL is BSON null. A JSON `null` at the top of a json column is another value, and applications do store it, so it
is kept apart as ``{"@json": null}``; a JSON object whose only key is ``@json`` is wrapped in the same way. The name
has no dollar sign so that a query can ask for it.

A writer raises ValueError, without the value in its message, for what BSON has no form for. None stands for a
converter that changes nothing; NULL never reaches a converter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from bson.binary import UUID_SUBTYPE, Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64

from connectors.mongodb.decimals import decimal128, plain_text
from worker_sync.core import text
from worker_sync.core.schema import Kind, Type

Convert = Callable[[Any], Any]

MAX_INT64: Final = (1 << 63) - 1
MIN_INT64: Final = -(1 << 63)
#: The only key of a document that stands for the JSON value under it.
WRAPPER: Final = "@json"


def _wide_int(value: int) -> Int64 | Decimal128:
    return Int64(value) if MIN_INT64 <= value <= MAX_INT64 else decimal128(str(value))


def _uuid(value: str) -> Binary:
    return Binary(bytes.fromhex(value.replace("-", "")), UUID_SUBTYPE)


def _whole_milliseconds(parse: Callable[[str], datetime]) -> Convert:
    def convert(value: str) -> datetime:
        moment = parse(value)
        if moment.microsecond % 1000:
            raise ValueError("more fractional digits than the type declares")
        return moment

    return convert


def _json_integer(number: str) -> Int64 | Decimal128:
    # An integer has no negative zero, but JSON does.
    return _wide_int(int(number)) if len(number) < 40 and number != "-0" else decimal128(number)


def _json_number(number: str) -> float | Decimal128:
    value = text.exact_float(number)
    return decimal128(number) if value is None else value


_read_json: Final = text.json_reader(_json_number, _json_integer)


def _json(value: str) -> Any:
    if "\\u" in value:
        _check_escapes(value)
    document = _read_json(value)
    if document is None or (isinstance(document, dict) and document.keys() == {WRAPPER}):
        return {WRAPPER: document}
    return document


def _check_escapes(value: str) -> None:
    """JSON can write what neither UTF-8 nor a BSON field name can hold."""
    try:
        json.dumps(json.loads(value), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("JSON text with half a surrogate pair") from None
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    if "\\u0000" in value and _has_nul_key(_read_json(value)):
        raise ValueError("JSON object with a NUL character in a key")


def _has_nul_key(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _has_nul_key(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_nul_key, value))


def _array(element: Type) -> Convert:
    read = _FROM_ELEMENT_TEXT.get(element.kind)
    write = writer(element)

    def convert(item: Any) -> Any:
        if item is None:
            return None
        if isinstance(item, list):
            return [convert(nested) for nested in item]
        value = item if read is None else read(item)
        return value if write is None else write(value)

    return lambda value: [convert(item) for item in text.parse_array(value)]


def _bool_of_text(value: str) -> bool:
    if value in ("t", "true"):
        return True
    if value in ("f", "false"):
        return False
    raise ValueError("array element that is not a boolean")


def _bytes_of_text(value: str) -> bytes:
    if not value.startswith("\\x"):
        raise ValueError("array element that is not in hex form")
    return bytes.fromhex(value[2:])


_FROM_ELEMENT_TEXT: Final[dict[Kind, Convert]] = {
    Kind.BOOL: _bool_of_text,
    Kind.INT: int,
    Kind.FLOAT: float,
    Kind.BYTES: _bytes_of_text,
}
_WRITERS: Final[dict[Kind, Convert]] = {
    Kind.DECIMAL: decimal128,
    Kind.UUID: _uuid,
    Kind.DATE: text.parse_date,
    Kind.JSON: _json,
}


def is_date(type_: Type) -> bool:
    """Whether a timestamp of this type is stored as a BSON date."""
    return type_.precision is not None and type_.precision <= 3


def writer(type_: Type) -> Convert | None:
    """The function that turns canonical values of this type into BSON."""
    if type_.kind is Kind.INT:
        bits = type_.size or 64
        return None if bits + type_.unsigned <= 32 else _wide_int if type_.unsigned else Int64
    if type_.kind is Kind.TIMESTAMP:
        return _whole_milliseconds(text.parse_timestamp) if is_date(type_) else None
    if type_.kind is Kind.TIMESTAMPTZ:
        return _whole_milliseconds(text.parse_timestamptz) if is_date(type_) else None
    if type_.kind is Kind.ARRAY:
        return _array(type_.element or Type(Kind.TEXT))
    return _WRITERS.get(type_.kind)


def foreign(value: Any) -> str:
    """Text for a value that no apply wrote: it compares as different from every value that one did."""
    return f"{type(value).__name__}({value})"


def _expecting(kind: type | tuple[type, ...], convert: Convert | None = None) -> Convert:
    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            return foreign(value)
        return value if convert is None else convert(value)

    return read


def _read_int(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return int(value.to_decimal()) if isinstance(value, Decimal128) else foreign(value)


def _read_uuid(value: Binary) -> str:
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _read_date(write: Callable[[datetime], str]) -> Convert:
    def read(value: DatetimeMS) -> str:
        try:
            return write(text.from_microseconds(int(value) * 1000))
        except ValueError:
            return foreign(value)

    return _expecting(DatetimeMS, read)


def _plain_json(value: Any) -> Any:
    """BSON as `text.format_json` takes it."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, Mapping):
        return {key: _plain_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_json(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else foreign(value)


def _read_json_value(value: Any) -> str:
    if isinstance(value, Mapping) and list(value) == [WRAPPER]:
        value = value[WRAPPER]
    return text.format_json(_plain_json(value))


def _read_array(element: Type) -> Convert:
    read = reader(element)
    write = _TO_ELEMENT_TEXT.get(element.kind)

    def convert(item: Any) -> Any:
        if item is None:
            return None
        if isinstance(item, list) and element.kind is not Kind.JSON:
            return [convert(nested) for nested in item]
        value = read(item)
        return value if write is None or isinstance(value, str) else write(value, element)

    return _expecting(list, lambda items: text.format_array([convert(item) for item in items]))


_TO_ELEMENT_TEXT: Final[dict[Kind, Callable[[Any, Type], str]]] = {
    Kind.BOOL: lambda value, _: "t" if value else "f",
    Kind.INT: lambda value, _: str(value),
    Kind.FLOAT: lambda value, type_: text.format_float(value, type_.size),
    Kind.BYTES: lambda value, _: "\\x" + value.hex(),
}
_STRING: Final = _expecting(str)
_READERS: Final[dict[Kind, Convert]] = {
    Kind.BOOL: _expecting(bool),
    Kind.INT: _read_int,
    Kind.FLOAT: _expecting(float),
    Kind.DECIMAL: _expecting(Decimal128, plain_text),
    Kind.BYTES: _expecting(bytes, bytes),
    Kind.UUID: _expecting(Binary, _read_uuid),
    Kind.DATE: _read_date(text.format_date),
    Kind.JSON: _read_json_value,
}


def reader(type_: Type) -> Convert:
    """The function that turns what `writer` made back into the canonical value."""
    if type_.kind is Kind.TIMESTAMP and is_date(type_):
        return _read_date(text.format_timestamp)
    if type_.kind is Kind.TIMESTAMPTZ and is_date(type_):
        return _read_date(text.format_timestamptz)
    if type_.kind is Kind.ARRAY:
        return _read_array(type_.element or Type(Kind.TEXT))
    return _READERS.get(type_.kind, _STRING)
