"""Text of columns in the server's character sets, read with exactly the server's own mapping to Unicode."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Final

Decode = Callable[[bytes], str]

#: The collation of bytes that are no text.
BINARY_COLLATION: Final = 63

#: Character sets that are Unicode, and Python's codecs for them.
UNICODE: Final = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "ascii": "ascii",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
}

#: Stands for a byte without a character in a table for `codecs.charmap_decode`.
_UNDEFINED: Final = "\ufffe"


def unicode_decoder(codec: str) -> Decode:
    return bytes.decode if codec == "utf-8" else lambda data: data.decode(codec)


def single_byte_decoder(characters: Sequence[str | None]) -> Decode:
    """What reads a set of one byte a character, given what the server makes of each of the 256 bytes. A byte that it
    only has a stand-in for raises UnicodeDecodeError."""
    defined = (
        character if character is not None and (character not in "?\ufffd" or code == ord("?")) else _UNDEFINED
        for code, character in enumerate(characters)
    )
    table = "".join(defined)
    return lambda data: codecs.charmap_decode(data, "strict", table)[0]
