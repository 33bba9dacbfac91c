"""Where the fields of a BSON document are, found without decoding their values. Format: bsonspec.org, version 1.1."""

from __future__ import annotations

from struct import Struct
from typing import Final

#: A field's BSON type, and the offset of its value.
Place = tuple[int, int]

_INT32: Final = Struct("<i").unpack_from
_FIXED: Final = {
    **dict.fromkeys((0x06, 0x0A, 0x7F, 0xFF), 0),
    **dict.fromkeys((0x01, 0x09, 0x11, 0x12), 8),
    0x07: 12,
    0x08: 1,
    0x10: 4,
    0x13: 16,
}
#: Bytes that the length in front of a value does not count.
_MEASURED: Final = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 0}
_REGEX: Final = 0x0B
_DOCUMENT: Final = 0x03


def fields(data: bytes, at: int = 0) -> dict[bytes, Place]:
    """The fields of the document at an offset, by name. Raises ValueError for a type that is not BSON's."""
    end = at + _INT32(data, at)[0] - 1
    at += 4
    found: dict[bytes, Place] = {}
    index, fixed = data.index, _FIXED.get
    while at < end:
        kind = data[at]
        stop = index(0, at + 1)
        name = data[at + 1 : stop]
        at = stop + 1
        found[name] = (kind, at)
        if kind == _DOCUMENT:
            at += _INT32(data, at)[0]
            continue
        size = fixed(kind)
        at += _size(kind, data, at) if size is None else size
    return found


def _size(kind: int, data: bytes, at: int) -> int:
    uncounted = _MEASURED.get(kind)
    if uncounted is not None:
        return int(_INT32(data, at)[0]) + uncounted
    if kind == _REGEX:
        return data.index(0, data.index(0, at) + 1) + 1 - at
    raise ValueError(f"BSON type {kind:#04x}, which this version does not know")


def documents(data: bytes, at: int) -> list[int]:
    """The offsets of the documents in the array at an offset."""
    end = at + _INT32(data, at)[0] - 1
    at += 4
    found = []
    while at < end:
        at = data.index(0, at + 1) + 1
        found.append(at)
        at += _INT32(data, at)[0]
    return found


def document(data: bytes, at: int) -> bytes:
    """The bytes of the document at an offset."""
    return data[at : at + _INT32(data, at)[0]]
