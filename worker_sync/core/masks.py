"""Masking: what becomes of a column's values, and of its type, before they leave the capture.

A hash is over the value's text, so that equal values of columns of different tables, types and engines stay equal:
a text as it is (UTF-8), bytes as they are, numbers in the plain notation of their canonical value.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, Final

import msgspec

from worker_sync.core.schema import Column, Kind, Type
from worker_sync.core.table_rules import Mask
from worker_sync.core.text import format_float

#: Makes the masked value of a value that is neither NULL nor UNCHANGED.
Masking = Callable[[Any], Any]

_HASHED: Final = Type(Kind.TEXT, size=64)
_HIDDEN: Final = "*"


def obstacle(mask: Mask, column: Column) -> str | None:
    """Why the column can't be masked this way; None when it can."""
    if mask.method == "null" and not column.nullable:
        return f"{column.name!r} is NOT NULL and can't be masked by NULL; use redact or hash"
    if mask.method == "partial" and column.type.kind is not Kind.TEXT:
        return f"{column.name!r} is {column.type.kind}; partial is for text, use redact or hash"
    return None


def masked_column(mask: Mask, column: Column) -> Column:
    """The column as it is behind the mask."""
    return msgspec.structs.replace(column, type=_masked_type(mask, column.type))


def _masked_type(mask: Mask, type_: Type) -> Type:
    if mask.method == "hash":
        return _HASHED
    if mask.method == "redact":
        assert mask.text is not None
        fits = type_.kind is Kind.TEXT and (type_.size is None or len(mask.text) <= type_.size)
        return type_ if fits else Type(Kind.TEXT)
    return type_


def masking(mask: Mask) -> Masking:
    """What masks a value."""
    match mask.method:
        case "hash":
            assert mask.secret is not None
            return _hashing(mask.secret.get_secret_value().encode())
        case "partial":
            return _partial(mask.first or 0, mask.last or 0)
        case "redact":
            text = mask.text
            return lambda _: text
        case "null":
            return lambda _: None


def _hashing(secret: bytes) -> Masking:
    return lambda value: hmac.digest(secret, _bytes_of(value), "sha256").hex()


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, str):
        # A lone surrogate can't be encoded, and must not become an error that shows it.
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, float):
        return format_float(value).encode()
    return str(value).encode()


def _partial(first: int, last: int) -> Masking:
    """A value that has no more characters than are to stay would show as a whole: it is hidden as a whole."""

    def mask(value: str) -> str:
        hidden = len(value) - first - last
        if hidden <= 0:
            return _HIDDEN * len(value)
        return value[:first] + _HIDDEN * hidden + value[len(value) - last :]

    return mask
