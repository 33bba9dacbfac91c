"""Integers as the binlog packs them."""

from __future__ import annotations

from connectors.mysql.binlog.events import malformed


def length_encoded(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer at `at`, and the place behind it."""
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if size is None or at + 1 + size > len(data):
        raise malformed("a length that is none")
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def variable_length(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned integer of MySQL's serialization library: as many more bytes as the first has low ones."""
    first = data[at]
    extra = (~first & (first + 1)).bit_length() - 1
    end = at + 1 + extra
    if end > len(data):
        raise malformed("a number that is cut off")
    if extra == 8:
        return int.from_bytes(data[at + 1 : end], "little"), end
    return int.from_bytes(data[at:end], "little") >> (extra + 1), end
