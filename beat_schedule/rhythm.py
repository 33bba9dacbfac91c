"""When an entry's times are.

Every process that knows the entry finds the same ones, so that two which act for it at once name a run alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from beat_schedule.entry import Entry
from worker_sync.core.crontab import Crontab

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Rhythm(Protocol):
    """The times of an entry, in UTC."""

    def after(self, moment: datetime) -> datetime:
        """The first time after `moment`."""

    def until(self, after: datetime, moment: datetime, limit: int) -> list[datetime]:
        """The newest `limit` times after `after` and up to `moment`, oldest first."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Multiples of `every` since 1970."""

    every: timedelta

    def after(self, moment: datetime) -> datetime:
        return _EPOCH + ((moment - _EPOCH) // self.every + 1) * self.every

    def until(self, after: datetime, moment: datetime, limit: int) -> list[datetime]:
        newest = (moment - _EPOCH) // self.every
        oldest = max((after - _EPOCH) // self.every + 1, newest - limit + 1)
        return [_EPOCH + number * self.every for number in range(oldest, newest + 1)]


def rhythm(entry: Entry) -> Rhythm:
    """The times of an entry. Raises BadCrontab or UnknownTimeZone."""
    if entry.crontab is not None:
        return Crontab.parse(entry.crontab, entry.timezone)
    assert entry.every_s is not None
    return Interval(timedelta(seconds=entry.every_s))


def describe(entry: Entry) -> str:
    """When an entry runs, in words; another text for another rhythm."""
    return f"{entry.crontab} {entry.timezone}" if entry.crontab is not None else f"every {entry.every_s:g} s"
