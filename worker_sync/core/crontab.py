"""Times by five fields (minute, hour, day of month, month, day of week) in a time zone.

A day must fit all of its three fields. Where clocks are put forward, a time that the day lacks is taken as if they had
not been: 02:30 comes at what is then called 03:30. Where they are put back, a time that comes twice counts once, at its
first coming, unless every hour fits: then both do, or a job for every five minutes would pause for an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice
from typing import Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
#: Days among which every date that exists is: 29 February may be eight years away, on a given weekday forty.
_HORIZON_DAYS: Final = 41 * 366


class BadCrontab(ValueError):
    """The fields say nothing that could come; the message says which and why."""


class UnknownTimeZone(ValueError):
    """No time zone of that name."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Crontab:
    """The times at which all fields fit, in `zone`."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: str = "UTC") -> Self:
        """Of a text like `30 2 * * mon-fri`. Raises BadCrontab or UnknownTimeZone."""
        parts = text.split()
        if len(parts) != len(_FIELDS):
            raise BadCrontab(f"has {len(parts)} fields; give five: {', '.join(field.name for field in _FIELDS)}")
        minutes, hours, days, months, weekdays = (
            _numbers(part, field) for part, field in zip(parts, _FIELDS, strict=True)
        )
        found = cls(
            tuple(sorted(minutes)),
            tuple(sorted(hours)),
            days,
            months,
            frozenset(number % 7 for number in weekdays),
            time_zone(zone),
        )
        if not any(_days_of(month) & days for month in months):
            raise BadCrontab("never comes: no such month has that day")
        return found

    def after(self, moment: datetime) -> datetime:
        """The first time after `moment`, in UTC."""
        return next(self._upward(moment))

    def until(self, after: datetime, moment: datetime, limit: int) -> list[datetime]:
        """The newest `limit` times after `after` and up to `moment`, oldest first, in UTC."""
        times = (at for at in self._downward(moment))
        newest = list(islice(_while_after(times, after), limit))
        return newest[::-1]

    def _upward(self, moment: datetime) -> Iterator[datetime]:
        first = self._day(moment) - timedelta(days=1)
        for day in (first + timedelta(days=number) for number in range(_HORIZON_DAYS)):
            yield from (at for at in self._times(day) if at > moment)

    def _downward(self, moment: datetime) -> Iterator[datetime]:
        first = self._day(moment) + timedelta(days=1)
        for day in (first - timedelta(days=number) for number in range(_HORIZON_DAYS)):
            yield from (at for at in reversed(self._times(day)) if at <= moment)

    def _day(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def _times(self, day: date) -> list[datetime]:
        """The times of a day of the zone's calendar, in order."""
        if day.month not in self.months or day.day not in self.days or day.isoweekday() % 7 not in self.weekdays:
            return []
        folds = (0, 1) if len(self.hours) == 24 else (0,)
        # Each once: without a second coming both folds are one moment, and a time that the day lacks meets another.
        return sorted(
            {
                datetime.combine(day, time(hour, minute, fold=fold), self.zone).astimezone(UTC)
                for hour in self.hours
                for minute in self.minutes
                for fold in folds
            }
        )


def _while_after(times: Iterator[datetime], after: datetime) -> Iterator[datetime]:
    for at in times:
        if at <= after:
            return
        yield at


@cache
def time_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name such as Europe/Berlin. Raises UnknownTimeZone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError: the name of a folder of zones, such as Europe.
        raise UnknownTimeZone(name) from None


def zone_names() -> set[str]:
    """Every name that `time_zone` knows. Reads many files: for messages, not for checks."""
    return available_timezones()


def _days_of(month: int) -> frozenset[int]:
    last = 29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31
    return frozenset(range(1, last + 1))


def _numbers(text: str, field: _Field) -> frozenset[int]:
    return frozenset(number for part in text.split(",") for number in _range(part, field))


def _range(text: str, field: _Field) -> range:
    """Of `*`, `5`, `1-5`, each with a step (`*/15`); a step alone (`5/15`) goes on to the end."""
    bounds, slash, stepping = text.partition("/")
    step = _number(stepping, field, 1, field.most) if slash else 1
    if bounds == "*":
        return range(field.least, field.most + 1, step)
    low, dash, high = bounds.partition("-")
    first = _word(low, field)
    last = _word(high, field) if dash else field.most if slash else first
    if last < first:
        raise BadCrontab(f"{field.name} {text!r} goes backwards; write two ranges")
    return range(first, last + 1, step)


def _word(text: str, field: _Field) -> int:
    if text.lower() in field.words:
        return field.words.index(text.lower()) + field.least
    return _number(text, field, field.least, field.most)


def _number(text: str, field: _Field, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadCrontab(f"{field.name} {text!r} is not understood; write *, 5, 1-5, */15 or 1,15")
    if not least <= int(text) <= most:
        raise BadCrontab(f"{field.name} {text} is outside of {least} to {most}")
    return int(text)
