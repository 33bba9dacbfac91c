"""The flights as what happens to their rows, in order of time, cut into transactions of varied size."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import islice
from typing import Final

from worker_sync.demo.data import Flight

#: A flight is announced so long before it leaves.
ANNOUNCED: Final = timedelta(days=1)
#: Sizes of transactions, in changes, and how often each comes: many small ones, a few large ones.
SIZES: Final = (1, 5, 25, 100, 500, 2000)
WEIGHTS: Final = (30, 25, 20, 14, 8, 3)


class What(Enum):
    ANNOUNCED = "insert"
    DEPARTED = "update"
    CANCELLED = "delete"


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a flight, and when."""

    what: What
    at: datetime
    flight: Flight


def events(flights: Iterable[Flight]) -> Iterator[Event]:
    """What happens to flights that come in order of schedule: announced a day ahead, then departed or cancelled."""
    coming: list[tuple[datetime, int, Flight]] = []
    for number, flight in enumerate(flights):
        announced = flight.scheduled - ANNOUNCED
        while coming and coming[0][0] <= announced:
            yield _outcome(*heapq.heappop(coming))
        yield Event(What.ANNOUNCED, announced, flight)
        heapq.heappush(coming, (flight.departed or flight.scheduled, number, flight))
    while coming:
        yield _outcome(*heapq.heappop(coming))


def _outcome(at: datetime, _: int, flight: Flight) -> Event:
    return Event(What.CANCELLED if flight.cancelled else What.DEPARTED, at, flight)


def transactions(stream: Iterator[Event], seed: int, largest: int) -> Iterator[list[Event]]:
    """The stream cut into transactions of at most `largest` changes; the same seed cuts the same way."""
    chance = random.Random(seed)
    while transaction := list(islice(stream, min(largest, *chance.choices(SIZES, WEIGHTS)))):
        yield transaction
