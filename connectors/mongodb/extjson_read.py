"""Extended JSON, as `connectors.mongodb.extjson` writes it, back as the same BSON bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from struct import Struct
from typing import Any, Final

from bson.decimal128 import Decimal128

from connectors.mongodb.decimals import decimal128
from connectors.mongodb.extjson import RESERVED
from connectors.mongodb.types import MAX_INT64, MIN_INT64, WRAPPER

#: An object's fields in order; a name may come twice.
Fields = tuple[tuple[str, Any], ...]
#: A BSON type and the bytes of a value of it.
Element = tuple[int, bytes]

_INT32: Final = Struct("<i").pack
_INT64: Final = Struct("<q").pack
_DOUBLE: Final = Struct("<d").pack
_TIMESTAMP: Final = Struct("<II").pack
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC
_MILLISECOND: Final = timedelta(milliseconds=1)
_OLD_BINARY: Final = 2


def _reader(number: Callable[[str], Any]) -> Callable[[str], Any]:
    return json.JSONDecoder(object_pairs_hook=tuple, parse_float=number, parse_constant=_refuse).decode


def _refuse(_: str) -> Any:
    raise ValueError("not Extended JSON: NaN or infinity")


_read: Final = _reader(float)
_read_exact: Final = _reader(Decimal)


def document_bytes(text: str) -> bytes:
    """The document. Raises ValueError for text that is not what `document_text` writes."""
    kind, data = _element(_parsed(_read, text))
    if kind != 0x03:
        raise ValueError("not a document")
    return data


def key_bytes(text: str) -> bytes:
    """The value that a key's text stands for, as a document whose only field is `_id`.

    A number in it is of whatever type holds it: to MongoDB numbers that are equal are the same key.
    """
    return _document((("_id", _parsed(_read_exact, text)),))


def _parsed(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("not Extended JSON") from None


def _element(value: Any) -> Element:
    if isinstance(value, str):
        return 0x02, _string(value)
    if isinstance(value, tuple):
        return _object(value)
    if value is None:
        return 0x0A, b""
    if isinstance(value, bool):
        return 0x08, b"\1" if value else b"\0"
    if isinstance(value, list):
        return 0x04, _document(tuple([(str(index), item) for index, item in enumerate(value)]))
    return _number(value)


def _number(value: int | float | Decimal) -> Element:
    if isinstance(value, float):
        return 0x01, _DOUBLE(value)
    if isinstance(value, int) and MIN_INT64 <= value <= MAX_INT64:
        return (0x10, _INT32(value)) if -(1 << 31) <= value < 1 << 31 else (0x12, _INT64(value))
    exact = Decimal(value)
    near = float(exact)
    return (0x01, _DOUBLE(near)) if Decimal(near) == exact else (0x13, Decimal128(exact).bid)


def _object(fields: Fields) -> Element:
    if fields and fields[0][0] in RESERVED:
        try:
            return _FORMS[fields[0][0]](fields)
        except (KeyError, TypeError, AttributeError, IndexError):
            raise ValueError(f"not Extended JSON: {fields[0][0]}") from None
    if len(fields) == 1 and fields[0][0] == WRAPPER:
        fields = fields[0][1]
        if not isinstance(fields, tuple):
            raise ValueError(f"not Extended JSON: {WRAPPER}")
    return 0x03, _document(fields)


def _document(fields: Fields) -> bytes:
    parts = []
    for name, value in fields:
        kind, data = _element(value)
        parts.append(b"%c%b\0%b" % (kind, name.encode(), data))
    body = b"".join(parts)
    return _INT32(len(body) + 5) + body + b"\0"


def _string(text: str) -> bytes:
    data = text.encode()
    return _INT32(len(data) + 1) + data + b"\0"


def _date(fields: Fields) -> Element:
    value = fields[0][1]
    if isinstance(value, str):
        moment = datetime.fromisoformat(value.removesuffix("Z"))
        return 0x09, _INT64((moment - _EPOCH) // _MILLISECOND)
    return 0x09, _INT64(int(dict(value)["$numberLong"]))


def _binary(fields: Fields) -> Element:
    form = dict(fields[0][1])
    content, subtype = base64.b64decode(form["base64"], validate=True), int(form["subType"], 16)
    if subtype == _OLD_BINARY:
        content = _INT32(len(content)) + content
    return 0x05, _INT32(len(content)) + bytes([subtype]) + content


def _regex(fields: Fields) -> Element:
    form = dict(fields[0][1])
    return 0x0B, form["pattern"].encode() + b"\0" + form["options"].encode() + b"\0"


def _pointer(fields: Fields) -> Element:
    form = dict(fields[0][1])
    return 0x0C, _string(form["$ref"]) + bytes.fromhex(dict(form["$id"])["$oid"])


def _code(fields: Fields) -> Element:
    code = _string(fields[0][1])
    if len(fields) == 1:
        return 0x0D, code
    scope = _element(dict(fields)["$scope"])[1]
    return 0x0F, _INT32(4 + len(code) + len(scope)) + code + scope


def _timestamp(fields: Fields) -> Element:
    form = dict(fields[0][1])
    return 0x11, _TIMESTAMP(form["i"], form["t"])


_FORMS: Final[dict[str, Callable[[Fields], Element]]] = {
    "$numberInt": lambda fields: (0x10, _INT32(int(fields[0][1]))),
    "$numberLong": lambda fields: (0x12, _INT64(int(fields[0][1]))),
    "$numberDouble": lambda fields: (0x01, _DOUBLE(float(fields[0][1]))),
    "$numberDecimal": lambda fields: (0x13, decimal128(fields[0][1]).bid),
    "$oid": lambda fields: (0x07, bytes.fromhex(fields[0][1])),
    "$date": _date,
    "$binary": _binary,
    "$undefined": lambda _: (0x06, b""),
    "$regularExpression": _regex,
    "$dbPointer": _pointer,
    "$code": _code,
    "$symbol": lambda fields: (0x0E, _string(fields[0][1])),
    "$timestamp": _timestamp,
    "$minKey": lambda _: (0xFF, b""),
    "$maxKey": lambda _: (0x7F, b""),
}
