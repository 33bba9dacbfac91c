"""An `_id` as text: the key of a collection's rows.

It is the value's Extended JSON, so an ObjectId, a string that reads like one, and a document stay apart. Numbers are
the exception: MongoDB takes equal numbers of any type for the same `_id`, so a number's text is its exact value without
trailing zeros (int32 1, int64 1, double 1.0 and Decimal128 1.00 are ``1``), also inside documents.
"""

from __future__ import annotations

from decimal import Context, Decimal
from json.encoder import encode_basestring as quoted
from typing import Any, Final

import bson
from bson.raw_bson import RawBSONDocument

from connectors.mongodb.conn import RAW
from connectors.mongodb.decimals import decimal_at
from connectors.mongodb.extjson import DOUBLE, INT32, INT64, double_form, string_at, value_texts
from connectors.mongodb.extjson_read import key_bytes

#: A double has at most 767 significant digits, a Decimal128 34.
_EXACT: Final = Context(prec=800)
#: Longer numbers are written with an exponent.
_PLAIN_DIGITS: Final = 40


def _plain(value: Decimal) -> str:
    if not value:
        return "0"
    number = value.normalize(_EXACT)
    return format(number, "f") if -_PLAIN_DIGITS < number.adjusted() < _PLAIN_DIGITS else str(number)


def _double(data: bytes, at: int) -> tuple[str, int]:
    value = DOUBLE(data, at)[0]
    finite = value - value == 0
    return (_plain(Decimal(value)) if finite else double_form(value)), at + 8


def _decimal(data: bytes, at: int) -> tuple[str, int]:
    value = decimal_at(data, at).to_decimal()
    return (_plain(value) if value.is_finite() else double_form(float(value))), at + 16


def _string(data: bytes, at: int) -> tuple[str, int]:
    text, end = string_at(data, at)
    return quoted(text), end


_TEXTS: Final = value_texts(
    {
        0x01: _double,
        # A symbol equals the string of its characters.
        0x0E: _string,
        0x10: lambda data, at: (str(INT32(data, at)[0]), at + 4),
        0x12: lambda data, at: (str(INT64(data, at)[0]), at + 8),
        0x13: _decimal,
    }
)


def key_text(kind: int, data: bytes, at: int) -> str:
    """The text of the `_id` of this BSON type at this offset. Raises ValueError for what has no text."""
    if kind == 0x07:
        return f'{{"$oid": "{data[at : at + 12].hex()}"}}'
    return _TEXTS[kind](data, at)[0]


def key_of_value(value: Any) -> str:
    """The text of an `_id` that the driver has decoded."""
    data = bson.encode({"_id": value}, codec_options=RAW)
    return key_text(data[4], data, 9)


def identifier(text: str) -> Any:
    """The `_id` that a key's text stands for, as the driver takes it. Raises ValueError for what is no such text."""
    return RawBSONDocument(key_bytes(text), RAW)["_id"]
