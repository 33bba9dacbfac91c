"""Compressed parts of the log: MariaDB's events (zlib) and MySQL's whole transactions (zstd)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import zstandard

from connectors.mysql.binlog.events import HEADER, HEADER_SIZE, Event, malformed
from connectors.mysql.binlog.numbers import length_encoded

_END: Final = 0
_SIZE: Final = 1
_ALGORITHM: Final = 2
_ZSTD: Final = 0
_NONE: Final = 255
#: Bytes of a payload that are unpacked at a time.
_PORTION: Final = 1 << 20
#: The size that an event can have at all.
_LARGEST: Final = 1 << 30


def unpack_mariadb(data: bytes) -> bytes:
    """A compressed part of a MariaDB event: a byte (0x80, algorithm, bytes of the length), length, zlib data."""
    first = data[0]
    size = first & 7
    if not first & 0x80 or first & 0x70:
        raise malformed("an event compressed in an unknown way")
    length = int.from_bytes(data[1 : 1 + size], "big")
    try:
        unpacker = zlib.decompressobj()
        result = unpacker.decompress(data[1 + size :], length + 1)
    except zlib.error as error:
        raise malformed("a compressed event that can't be unpacked") from error
    if len(result) != length:
        raise malformed("a compressed event of another length than it says")
    return result


def payload_events(event: Event) -> Iterator[Event]:
    """The events in a TRANSACTION_PAYLOAD event, unpacked as they are asked for. They have no checksums, and all of
    them end where the payload ends."""
    fields, at = _payload_fields(event.body)
    algorithm = fields.get(_ALGORITHM, _ZSTD)
    data = memoryview(event.body)[at:]
    if algorithm == _ZSTD:
        portions = _unzstd(data)
    elif algorithm == _NONE:
        portions = iter([bytes(data)])
    else:
        raise malformed(f"a transaction compressed in an unknown way ({algorithm})")
    buffer = b""
    for portion in portions:
        buffer += portion
        at = 0
        while len(buffer) - at >= HEADER_SIZE:
            time, kind, server, size, _, flags = HEADER.unpack_from(buffer, at)
            if not HEADER_SIZE <= size <= _LARGEST:
                raise malformed("a compressed transaction with an event of no size")
            if len(buffer) - at < size:
                break
            yield Event(kind, time, server, flags, size, event.end, buffer[at + HEADER_SIZE : at + size])
            at += size
        buffer = buffer[at:]
    if buffer:
        raise malformed("a compressed transaction that is cut off")


def _payload_fields(body: bytes) -> tuple[dict[int, int], int]:
    """Numbered fields (number, length, value) up to the one numbered 0, and where the payload begins."""
    fields: dict[int, int] = {}
    at = 0
    while True:
        number, at = length_encoded(body, at)
        if number == _END:
            return fields, at
        length, at = length_encoded(body, at)
        fields[number], _ = length_encoded(body, at)
        at += length


def _unzstd(data: memoryview) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    try:
        while portion := reader.read(_PORTION):
            yield portion
    except zstandard.ZstdError as error:
        raise malformed("a compressed transaction that can't be unpacked") from error
