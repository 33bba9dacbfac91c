"""What is searched of an entry, in its row, against the entry itself.

`indexed` says what has to stand there. Nearly always that is what stands in the entry, so this is tried first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from worker_sync.ledger.indexed import LONGEST, indexed
from worker_sync.ledger.prepared import moment

StoredRow: TypeAlias = tuple[Any, ...]
"""number, leaf, entry, recorded_at, kind, source, table, operation, key, transaction, committed_at, actor; times as
PostgreSQL sends them: microseconds since 2000, 8 bytes."""

_SINCE_2000_US: Final = 946_684_800_000_000
_COLUMNS: Final = ("recorded_at", "kind", "source", "table_name", "operation", "key", "transaction", "committed_at",
                   "actor")  # fmt: skip
#: Characters; a text of so many is never cut.
_SHORT: Final = LONGEST // 4


class _Transaction(msgspec.Struct):
    position: str | None = None
    id: str | None = None


class Said(msgspec.Struct):
    """Fields of an entry of the usual shape."""

    number: str
    kind: str
    recorded_at: str
    source: str | None = None
    table: str | None = None
    operation: str | None = None
    key: dict[str, Any] | None = None
    transaction: _Transaction | None = None
    committed_at: str | None = None
    actor: str | None = None


_decode: Final = msgspec.json.Decoder().decode
_decode_said: Final = msgspec.json.Decoder(Said).decode
_encode: Final = msgspec.json.Encoder().encode


def said(entry: str) -> Said | None:
    """The fields of an entry; None for one of another shape."""
    try:
        return _decode_said(entry)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def differing(row: StoredRow, entry: Said) -> list[str]:
    """The columns of a row that don't say what the entry in it says."""
    if _is_plain(row, entry):
        return []
    try:
        found = indexed(_decode(row[2]))
    except (ValueError, TypeError):
        return list(_COLUMNS)
    there = (_moment(row[3]), *row[4:10], _moment(row[10]), row[11])
    ours = (
        entry.recorded_at, found.kind, found.source, found.table_name, found.operation, found.key,
        found.transaction, found.committed_at, found.actor,
    )  # fmt: skip
    return [name for name, one, other in zip(_COLUMNS, ours, there, strict=True) if one != other]


def _is_plain(row: StoredRow, entry: Said) -> bool:
    """Whether the texts are short and equal. PostgreSQL has no NUL in a text, so no equal text has one."""
    key, transaction, actor = entry.key, entry.transaction, entry.actor
    return (
        entry.kind == row[4]
        and entry.source == row[5]
        and entry.table == row[6]
        and entry.operation == row[7]
        and actor == row[11]
        and entry.recorded_at == _moment(row[3])
        and entry.committed_at == _moment(row[10])
        and len(entry.source or "") <= _SHORT
        and len(entry.table or "") <= _SHORT
        and len(actor or "") <= _SHORT
        and (row[9] is None if transaction is None else _is_of(row[9], transaction))
        and (row[8] is None if key is None else _is_key(row[8], key))
    )


def _is_of(text: str | None, transaction: _Transaction) -> bool:
    return (transaction.id or transaction.position) == text and len(text or "") <= _SHORT


def _is_key(text: str | None, key: dict[str, Any]) -> bool:
    """A key of one column, or of some whose names no two orders can be of."""
    if (
        text is None
        or len(text) > _SHORT
        or (len(key) > 1 and not (list(key) == sorted(key) and "".join(key).isascii()))
    ):
        return False
    return _encode(list(key.values())).decode() == text


@lru_cache(maxsize=4096)
def _moment(sent: bytes | None) -> str | None:
    """A time as entries have it; a time that they can't have as something else."""
    if sent is None:
        return None
    try:
        return moment(int.from_bytes(sent, "big", signed=True) + _SINCE_2000_US)
    except OverflowError:
        return "beyond all calendars"
