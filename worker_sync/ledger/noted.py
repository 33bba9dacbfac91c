"""Which entries are found by whose data they hold, against the entries themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from worker_sync.ledger.personal import sealed_for
from worker_sync.ledger.searched import StoredRow

#: Subject, generation and number of an entry.
Noted: TypeAlias = tuple[str, int, int]

#: Inside of a text quotation marks are escaped, so no text of a row has these bytes.
_SEALED: Final = '"encrypted":"'
_decode: Final = msgspec.json.Decoder(dict).decode


def unnoted(rows: Sequence[StoredRow], noted: Callable[[Sequence[Noted]], set[Noted]]) -> list[int]:
    """The numbers of rows with sealed values of a subject whose search does not find them; `noted` says which of some
    there are. Rows without sealed values cost a look."""
    expected = {
        (subject, int(generation), row[0])
        for row in rows
        if _SEALED in row[2]
        for subject, generation in _sealed(row[2])
        if generation.isascii() and generation.isdecimal() and len(generation) < 10
    }
    if not expected:
        return []
    return sorted({number for *_, number in expected - noted(sorted(expected))})


def _sealed(entry: str) -> set[tuple[str, str]]:
    """Of what is no entry, nothing: that it is none is said elsewhere."""
    try:
        found = set(sealed_for(_decode(entry)))
    except (msgspec.MsgspecError, TypeError, RecursionError, UnicodeError):
        return set()
    return {pair for pair in found if all(isinstance(text, str) for text in pair)}
