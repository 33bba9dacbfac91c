"""What of an entry can be searched: texts that a ledger's database keeps beside the entry's bytes.

`indexed` says from the entry alone what they have to be, so that verification can tell when they were altered.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec

from worker_sync.core.parking import key_text
from worker_sync.ledger.canonical import Json, utf16

#: Bytes of UTF-8. A database's index takes no long texts (PostgreSQL: 2,704 bytes for all of one row's), and an entry
#: must not fail for that: a longer text is cut, and its digest stands behind.
LONGEST: Final = 500
_DIGEST: Final = " sha256:"
#: A text of so many characters is never too long.
_SURELY_SHORT: Final = LONGEST // 4


class Indexed(msgspec.Struct, frozen=True, gc=False):
    """The searchable texts of an entry, None for what its kind doesn't have. `key` is that of `key_column`, `operation`
    is a change's, `transaction` the source's number of the transaction or else its position, `committed_at` is as the
    entry has it."""

    kind: str
    source: str | None = None
    table_name: str | None = None
    operation: str | None = None
    key: str | None = None
    transaction: str | None = None
    committed_at: str | None = None
    actor: str | None = None


def indexed(entry: Mapping[str, Json]) -> Indexed:
    """What has to stand beside the entry that was parsed from its bytes. Raises ValueError for what is no entry."""
    kind, key, transaction = entry.get("kind"), entry.get("key"), entry.get("transaction")
    if not isinstance(kind, str):
        raise ValueError("an entry has a kind")
    if not isinstance(key, dict | None) or not isinstance(transaction, dict | None):
        raise ValueError("an entry's key and transaction are objects")
    return Indexed(
        kind,
        searchable(_text(entry, "source")),
        searchable(_text(entry, "table")),
        searchable(_text(entry, "operation")),
        None if key is None else key_column(key),
        None if transaction is None else searchable(_text(transaction, "id") or _text(transaction, "position")),
        _text(entry, "committed_at"),
        searchable(_text(entry, "actor")),
    )


def key_column(key: Mapping[str, Json]) -> str:
    """How a row's key, values by column as they stand in an entry (numbers are texts), is searched: a JSON array of the
    values in the order of the columns' names. Raises ValueError for a lone surrogate."""
    parts = tuple([key[name] for name in sorted(key, key=utf16)])
    return shortened(key_text(parts))


def searchable(text: str | None) -> str | None:
    """A text as PostgreSQL holds it in an index: NUL, which it has no form for, as JSON escapes it."""
    if text is None:
        return None
    return shortened(text.replace("\0", "\\u0000") if "\0" in text else text)


def shortened(text: str) -> str:
    """The text, or its beginning and its digest."""
    if len(text) <= _SURELY_SHORT:
        return text
    data = text.encode()
    if len(data) <= LONGEST:
        return text
    digest = f"{_DIGEST}{sha256(data).hexdigest()}"
    return data[: LONGEST - len(digest)].decode(errors="ignore") + digest


def _text(entry: Mapping[str, Json], name: str) -> str | None:
    text = entry.get(name)
    if not isinstance(text, str | None):
        raise ValueError(f"an entry's {name} is a text")
    return text
