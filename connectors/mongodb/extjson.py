"""BSON as MongoDB Extended JSON, straight from its bytes, so that nothing a driver has no object for is lost.

The form is Extended JSON v2 (github.com/mongodb/specifications, source/extended-json): relaxed where the type can be
told from the text, canonical where it can't, so that `connectors.mongodb.extjson_read` makes the same bytes of it:

- int32 is a number without, double one with a fraction or an exponent; ``{"$numberDouble": "NaN"}`` and infinities;
- int64 is always ``{"$numberLong": "5"}``, whatever its size, so that a field has one form;
- a date is ``{"$date": "2026-01-31T12:00:00.123Z"}``, outside 1970 to 9999 ``{"$date": {"$numberLong": ".."}}``;
- every other type is as in canonical Extended JSON.

A document that could be taken for such a form, because its first field is called like one, is ``{"@json": {..}}``, and
so is one whose only field is ``@json``. Text is laid out as PostgreSQL lays out JSON. BSON: bsonspec.org, version 1.1.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from struct import Struct
from typing import Final

from connectors.mongodb import decimals
from connectors.mongodb.types import WRAPPER

#: Makes the text of the value at an offset; returns it with the offset behind the value.
ValueText = Callable[[bytes, int], tuple[str, int]]

INT32: Final = Struct("<i").unpack_from
INT64: Final = Struct("<q").unpack_from
DOUBLE: Final = Struct("<d").unpack_from
_UNSIGNED_PAIR: Final = Struct("<II").unpack_from

#: First fields of the forms below.
RESERVED: Final = frozenset(
    {"$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$oid", "$date", "$binary", "$undefined"}
    | {"$regularExpression", "$dbPointer", "$code", "$symbol", "$timestamp", "$minKey", "$maxKey"}
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC
_YEAR_10000_MS: Final = 253_402_300_800_000
_OLD_BINARY: Final = 2
#: First characters of the names that could be mistaken.
_SUSPECT: Final = frozenset(b"$@")


@lru_cache(maxsize=8192)
def _label(name: bytes) -> str:
    return quoted(name.decode()) + ": "


def string_at(data: bytes, at: int) -> tuple[str, int]:
    """The BSON string at an offset, and the offset behind it. Raises ValueError when it is not UTF-8."""
    end = at + 4 + INT32(data, at)[0]
    return data[at + 4 : end - 1].decode(), end


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = at + 4 + INT32(data, at)[0]
    return quoted(data[at + 4 : end - 1].decode()), end


def _cstring(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return quoted(data[at:end].decode()), end + 1


def _double(data: bytes, at: int) -> tuple[str, int]:
    value = DOUBLE(data, at)[0]
    text = repr(value)
    if text[-1] in "fn":
        text = double_form(value)
    return text, at + 8


def double_form(value: float) -> str:
    """NaN or an infinity. All NaN are one value to MongoDB, and here."""
    word = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return f'{{"$numberDouble": "{word}"}}'


def _int64(data: bytes, at: int) -> tuple[str, int]:
    return f'{{"$numberLong": "{INT64(data, at)[0]}"}}', at + 8


def _int32(data: bytes, at: int) -> tuple[str, int]:
    return str(INT32(data, at)[0]), at + 4


def _decimal(data: bytes, at: int) -> tuple[str, int]:
    return f'{{"$numberDecimal": "{decimals.text_at(data, at)}"}}', at + 16


def _object_id(data: bytes, at: int) -> tuple[str, int]:
    return f'{{"$oid": "{data[at : at + 12].hex()}"}}', at + 12


def _bool(data: bytes, at: int) -> tuple[str, int]:
    return "true" if data[at] else "false", at + 1


def _date(data: bytes, at: int) -> tuple[str, int]:
    value = INT64(data, at)[0]
    if not 0 <= value < _YEAR_10000_MS:
        return f'{{"$date": {{"$numberLong": "{value}"}}}}', at + 8
    moment = _EPOCH + timedelta(milliseconds=value)
    text = moment.isoformat(timespec="milliseconds" if value % 1000 else "seconds")
    return f'{{"$date": "{text}Z"}}', at + 8


def _binary(data: bytes, at: int) -> tuple[str, int]:
    start, subtype = at + 5, data[at + 4]
    end = start + INT32(data, at)[0]
    # The old subtype repeats its length.
    content = data[start + 4 if subtype == _OLD_BINARY else start : end]
    encoded = base64.b64encode(content).decode()
    return f'{{"$binary": {{"base64": "{encoded}", "subType": "{subtype:02x}"}}}}', end


def _timestamp(data: bytes, at: int) -> tuple[str, int]:
    increment, seconds = _UNSIGNED_PAIR(data, at)
    return f'{{"$timestamp": {{"t": {seconds}, "i": {increment}}}}}', at + 8


def _regex(data: bytes, at: int) -> tuple[str, int]:
    pattern, at = _cstring(data, at)
    options, at = _cstring(data, at)
    return f'{{"$regularExpression": {{"pattern": {pattern}, "options": {options}}}}}', at


def _pointer(data: bytes, at: int) -> tuple[str, int]:
    name, at = _string(data, at)
    identifier, at = _object_id(data, at)
    return f'{{"$dbPointer": {{"$ref": {name}, "$id": {identifier}}}}}', at


def _code(data: bytes, at: int) -> tuple[str, int]:
    code, end = _string(data, at)
    return f'{{"$code": {code}}}', end


def _symbol(data: bytes, at: int) -> tuple[str, int]:
    symbol, end = _string(data, at)
    return f'{{"$symbol": {symbol}}}', end


def _scoped_code(data: bytes, at: int) -> tuple[str, int]:
    code, scope_at = _string(data, at + 4)
    scope, end = DOCUMENT(data, scope_at)
    return f'{{"$code": {code}, "$scope": {scope}}}', end


def _constant(text: str) -> ValueText:
    return lambda _, at: (text, at)


def value_texts(special: dict[int, ValueText]) -> dict[int, ValueText]:
    """The functions by BSON type, those of `special` in place of the usual ones, also inside documents."""
    texts: dict[int, ValueText] = {
        0x01: _double,
        0x02: _string,
        0x05: _binary,
        0x06: _constant('{"$undefined": true}'),
        0x07: _object_id,
        0x08: _bool,
        0x09: _date,
        0x0A: _constant("null"),
        0x0B: _regex,
        0x0C: _pointer,
        0x0D: _code,
        0x0E: _symbol,
        0x0F: _scoped_code,
        0x10: _int32,
        0x11: _timestamp,
        0x12: _int64,
        0x13: _decimal,
        0x7F: _constant('{"$maxKey": 1}'),
        0xFF: _constant('{"$minKey": 1}'),
    }
    texts |= special
    texts[0x03] = _document_of(texts)
    texts[0x04] = _array_of(texts)
    return texts


def _document_of(texts: dict[int, ValueText]) -> ValueText:
    string_is_plain, int32_is_plain = texts[0x02] is _string, texts[0x10] is _int32

    def document(data: bytes, at: int) -> tuple[str, int]:
        end = at + INT32(data, at)[0] - 1
        first = at = at + 4
        parts = []
        index = data.index
        while at < end:
            stop = index(0, at + 1)
            kind, label = data[at], _label(data[at + 1 : stop])
            at = stop + 1
            # The two most frequent types without a call.
            if kind == 0x02 and string_is_plain:
                stop = at + 4 + INT32(data, at)[0]
                parts.append(label + quoted(data[at + 4 : stop - 1].decode()))
                at = stop
            elif kind == 0x10 and int32_is_plain:
                parts.append(f"{label}{INT32(data, at)[0]}")
                at += 4
            else:
                text, at = texts[kind](data, at)
                parts.append(label + text)
        body = "{" + ", ".join(parts) + "}"
        if parts and data[first + 1] in _SUSPECT and _mistakable(data, first, len(parts)):
            body = f'{{"{WRAPPER}": {body}}}'
        return body, end + 1

    return document


def _mistakable(data: bytes, first: int, fields: int) -> bool:
    name = data[first + 1 : data.index(0, first + 1)].decode()
    return name in RESERVED or (name == WRAPPER and fields == 1)


def _array_of(texts: dict[int, ValueText]) -> ValueText:
    def array(data: bytes, at: int) -> tuple[str, int]:
        end = at + INT32(data, at)[0] - 1
        at += 4
        parts = []
        index = data.index
        while at < end:
            text, at = texts[data[at]](data, index(0, at + 1) + 1)
            parts.append(text)
        return "[" + ", ".join(parts) + "]", end + 1

    return array


_TEXTS: Final = value_texts({})
DOCUMENT: Final = _TEXTS[0x03]


def document_text(data: bytes, at: int = 0) -> str:
    """The text of the document at an offset. Raises ValueError, without values, for what has no text."""
    try:
        return DOCUMENT(data, at)[0]
    except UnicodeDecodeError:
        raise ValueError("text that is not UTF-8") from None
    except KeyError as error:
        raise ValueError(f"BSON type {error.args[0]:#04x}, which this version does not know") from None
