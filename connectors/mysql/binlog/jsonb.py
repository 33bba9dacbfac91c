"""MySQL's binary JSON, read as the text that the server prints of it.

Format: `sql-common/json_binary.h`. A document becomes a tree of dicts (in stored order), lists, and scalars as the
text of their JSON, so that numbers keep every digit.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from decimal import Decimal
from typing import Any, Final

from connectors.mysql.binlog.decimals import decimal_reader
from connectors.mysql.binlog.events import malformed
from connectors.mysql.binlog.table_map import DATE, DATETIME, NEWDECIMAL, TIME, TIMESTAMP
from connectors.mysql.binlog.temporal import packed_text

#: dict[str, Node], list[Node], or the text of a scalar.
Node = Any

_LITERALS: Final = {0: "null", 1: "true", 2: "false"}
_LITERAL: Final = 4
_INTEGERS: Final = {5: "<h", 6: "<H", 7: "<i", 8: "<I", 9: "<q", 10: "<Q"}
_DOUBLE: Final = 11
_STRING: Final = 12
_OPAQUE: Final = 15
_TEMPORAL: Final = {DATE: "date", TIME: "time", DATETIME: "datetime", TIMESTAMP: "datetime"}
#: Numbers from here on are printed with an exponent, as are those below 1e-14.
_LARGEST_PLAIN: Final = 15
_ESCAPES: Final = str.maketrans(
    {chr(code): f"\\u{code:04x}" for code in range(32)}
    | {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)


def json_text(data: bytes) -> str:
    """The document as the server prints it. Raises Halt for what is no document."""
    return render(json_tree(data))


def json_tree(data: bytes) -> Node:
    """The document as a tree."""
    if not data:
        return "null"
    try:
        return _value(data[0], data, 1)
    except (IndexError, struct.error, ValueError, KeyError) as error:
        raise malformed("a JSON document that can't be read") from error


def render(node: Node) -> str:
    """The text of a tree."""
    if isinstance(node, str):
        return node
    if isinstance(node, list):
        return "[" + ", ".join(map(render, node)) + "]"
    return "{" + ", ".join(f"{quoted(key)}: {render(value)}" for key, value in node.items()) + "}"


def quoted(text: str) -> str:
    """A JSON string, escaped as the server does."""
    return f'"{text.translate(_ESCAPES)}"'


def _value(kind: int, data: bytes, at: int) -> Node:
    if kind in (0, 1, 2, 3):
        return _container(data[at:], is_object=kind < 2, width=4 if kind & 1 else 2)
    if kind in _INTEGERS:
        return str(struct.unpack_from(_INTEGERS[kind], data, at)[0])
    if kind == _STRING:
        length, at = _length(data, at)
        return quoted(data[at : at + length].decode("utf-8"))
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind == _DOUBLE:
        return _double(struct.unpack_from("<d", data, at)[0])
    if kind == _OPAQUE:
        return _opaque(data, at)
    raise malformed(f"a JSON value of type {kind}")


def _container(data: bytes, *, is_object: bool, width: int) -> Node:
    """An object or array whose offsets count from its own start and take `width` bytes."""
    integer = "<H" if width == 2 else "<I"
    count = struct.unpack_from(integer, data, 0)[0]
    keys = [_key(data, 2 * width + number * (width + 2), integer) for number in range(count)] if is_object else []
    at = 2 * width + (count * (width + 2) if is_object else 0)
    values = [_entry(data, at + number * (width + 1), width, integer) for number in range(count)]
    return dict(zip(keys, values, strict=True)) if is_object else values


def _key(data: bytes, at: int, integer: str) -> str:
    start = struct.unpack_from(integer, data, at)[0]
    length = struct.unpack_from("<H", data, at + struct.calcsize(integer))[0]
    return data[start : start + length].decode("utf-8")


def _entry(data: bytes, at: int, width: int, integer: str) -> Node:
    kind = data[at]
    # Literals and integers that fit take the place of the offset.
    inline = kind == _LITERAL or kind in (5, 6) or (width == 4 and kind in (7, 8))
    return _value(kind, data, at + 1 if inline else struct.unpack_from(integer, data, at + 1)[0])


def _length(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        result |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return result, at


def _double(value: float) -> str:
    """The shortest digits, laid out as the server's my_gcvt does."""
    if not value:
        return "-0.0" if str(value).startswith("-") else "0.0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    point = len(digits) + exponent
    text = "".join(map(str, digits))
    if -_LARGEST_PLAIN < point <= _LARGEST_PLAIN:
        plain = format(Decimal((0, digits, exponent)), "f")
        text = plain if "." in plain else plain + ".0"
    else:
        text = f"{text[0]}{'.' + text[1:] if len(text) > 1 else ''}e{point - 1}"
    return "-" + text if sign else text


def _opaque(data: bytes, at: int) -> str:
    kind = data[at]
    length, at = _length(data, at + 1)
    value = data[at : at + length]
    if kind == NEWDECIMAL:
        return decimal_reader(value[0], value[1])(value[2:])
    if kind in _TEMPORAL:
        return quoted(packed_text(_TEMPORAL[kind], int.from_bytes(value, "little", signed=True)))
    return f'"base64:type{kind}:{b64encode(value).decode()}"'
