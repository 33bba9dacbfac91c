"""Entries as rows of COPY in its binary format, which spares the server the reading of numbers, times and escapes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

from worker_sync.ledger.merkle import HASH_BYTES, leaf_hash
from worker_sync.ledger.prepared import Prepared, microseconds, moment

#: Those that entries of a table, and then those of a transaction, have in common stand together.
COLUMNS: Final = (
    "number", "recorded_at",
    "kind", "source", "table_name", "operation",
    "transaction", "committed_at", "actor",
    "key", "leaf", "entry",
)  # fmt: skip

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END: Final = b"\xff\xff"

#: PostgreSQL counts microseconds from 2000 on.
_EPOCH_US: Final = 946_684_800_000_000
_START: Final = Struct(">hiqiq")
_LENGTH: Final = Struct(">i")
_TIME: Final = Struct(">iq")
_NULL: Final = _LENGTH.pack(-1)
_LEAF_LENGTH: Final = _LENGTH.pack(HASH_BYTES)


def rows(entries: Sequence[Prepared], first: int, recorded_at: int) -> tuple[bytes, list[bytes]]:
    """The rows of entries that are numbered from `first` on, recorded at so many microseconds since 1970, and their
    leaf hashes."""
    pieces: list[bytes] = []
    leaves: list[bytes] = []
    when, time = moment(recorded_at).encode(), recorded_at - _EPOCH_US
    start, length = _START.pack, _LENGTH.pack
    for number, entry in enumerate(entries, first):
        data = entry.finished(b"%d" % number, when)
        leaf = leaf_hash(data)
        leaves.append(leaf)
        found = entry.indexed
        pieces += (
            start(len(COLUMNS), 8, number, 8, time),
            _of_table(found.kind, found.source, found.table_name, found.operation),
            _of_transaction(found.transaction, found.committed_at, found.actor),
            _text(found.key),
            _LEAF_LENGTH,
            leaf,
            length(len(data)),
            data,
        )
    return b"".join(pieces), leaves


@lru_cache(maxsize=1024)
def _of_table(*texts: str | None) -> bytes:
    return b"".join(map(_text, texts))


@lru_cache(maxsize=64)
def _of_transaction(transaction: str | None, committed_at: str | None, actor: str | None) -> bytes:
    return _text(transaction) + _time(committed_at) + _text(actor)


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    data = text.encode()
    return _LENGTH.pack(len(data)) + data


def _time(committed_at: str | None) -> bytes:
    if committed_at is None:
        return _NULL
    return _TIME.pack(8, microseconds(committed_at) - _EPOCH_US)
