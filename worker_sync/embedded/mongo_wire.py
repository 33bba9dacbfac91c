"""The few lines of MongoDB's wire protocol that starting a server takes; the driver belongs to its engine's folder."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Any

OP_MSG = 2013
ANSWER_SECONDS = 10.0

Document = dict[str, Any]


def command(port: int, document: Mapping[str, Any], database: str = "admin") -> Document:
    """Run one command on a server of this machine; its reply, also when that is an error."""
    body = struct.pack("<IB", 0, 0) + encode({**document, "$db": database})
    message = struct.pack("<iiii", len(body) + 16, 1, 0, OP_MSG) + body
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as link, link.makefile("rb") as replies:
        link.sendall(message)
        header = replies.read(4)
        if len(header) < 4:
            raise ConnectionError("the server closed the connection")
        (length,) = struct.unpack("<i", header)
        rest = replies.read(length - 4)
    return decode(rest[17:])


def encode(document: Mapping[str, Any]) -> bytes:
    parts = b"".join(_element(name.encode(), value) for name, value in document.items())
    return struct.pack("<i", len(parts) + 5) + parts + b"\0"


def _element(name: bytes, value: Any) -> bytes:
    match value:
        case bool():
            return b"\x08" + name + b"\0" + bytes([value])
        case int():
            return b"\x10" + name + b"\0" + struct.pack("<i", value)
        case str():
            text = value.encode()
            return b"\x02" + name + b"\0" + struct.pack("<i", len(text) + 1) + text + b"\0"
        case list():
            return b"\x04" + name + b"\0" + encode({str(index): item for index, item in enumerate(value)})
        case Mapping():
            return b"\x03" + name + b"\0" + encode(value)
        case _:
            raise TypeError(f"no form for {type(value).__name__}")


_FIXED = {0x01: "<d", 0x08: "<?", 0x09: "<q", 0x10: "<i", 0x11: "<Q", 0x12: "<q"}


def decode(data: bytes) -> Document:
    """The fields whose types a reply to our commands can have; others are an error, not a guess."""
    result: Document = {}
    at = 4
    while kind := data[at]:
        end = data.index(b"\0", at + 1)
        name = data[at + 1 : end].decode()
        at = end + 1
        if kind in _FIXED:
            size = struct.calcsize(_FIXED[kind])
            (result[name],) = struct.unpack(_FIXED[kind], data[at : at + size])
        elif kind == 0x0A:
            size, result[name] = 0, None
        elif kind == 0x07:
            size = 12
            result[name] = data[at : at + size]
        else:
            (length,) = struct.unpack("<i", data[at : at + 4])
            if kind == 0x02:
                size = length + 4
                result[name] = data[at + 4 : at + size - 1].decode()
            elif kind in {0x03, 0x04}:
                size = length
                result[name] = decode(data[at : at + size])
            elif kind == 0x05:
                size = length + 5
                result[name] = data[at + 5 : at + size]
            else:
                raise ValueError(f"field {name!r} has BSON type {kind:#x}")
        at += size
    return result
