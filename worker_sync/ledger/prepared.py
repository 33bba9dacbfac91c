"""An entry before it has its place: all of its bytes but the number and the time of its recording."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec

from worker_sync.ledger.canonical import Json, canonical
from worker_sync.ledger.indexed import Indexed, indexed

#: These two fields, empty. No other field that may stand behind them has a name of somebody else's choice, and inside
#: of a text quotation marks are escaped: the last such bytes are the fields.
_NUMBER: Final = b'"number":""'
_RECORDED_AT: Final = b'"recorded_at":""'
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """The pieces of an entry's canonical bytes around its number and its time, and what is searched of it."""

    head: bytes
    middle: bytes
    tail: bytes
    indexed: Indexed

    def finished(self, number: bytes, recorded_at: bytes) -> bytes:
        """The canonical bytes, given the decimal number and what `moment` says of the time."""
        return b"".join((self.head, number, self.middle, recorded_at, self.tail))

    @property
    def size(self) -> int:
        """Bytes, without the number and the time."""
        return len(self.head) + len(self.middle) + len(self.tail)


def prepared(entry: dict[str, Json]) -> Prepared:
    """An entry without `number` and `recorded_at`, of fields that are texts where they sort behind `number`."""
    data = canonical({**entry, "number": "", "recorded_at": ""})
    return split(data, indexed(entry))


def split(data: bytes, found: Indexed) -> Prepared:
    """Canonical bytes of an entry whose number and time are empty, at these two."""
    number = data.rindex(_NUMBER) + len(_NUMBER) - 1
    recorded_at = data.rindex(_RECORDED_AT) + len(_RECORDED_AT) - 1
    return Prepared(data[:number], data[number:recorded_at], data[recorded_at:], found)


@lru_cache(maxsize=1024)
def moment(microseconds: int) -> str:
    """A time in microseconds since 1970 as entries have it: ``2026-01-31T12:00:00.000000Z``. Raises OverflowError for
    one before the year 1 or after 9999."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")[:-6] + "Z"


def microseconds(text: str) -> int:
    """The time that `moment` wrote."""
    since = datetime.fromisoformat(text) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_or_none(microseconds: int) -> str | None:
    """As `moment`; None for 0, which says that the time is not known."""
    return moment(microseconds) if microseconds else None
