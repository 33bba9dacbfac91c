"""The traffic: flights are announced, depart or are cancelled, in order of time, from a thread of its own."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, Self

from worker_sync.demo.data import Flight
from worker_sync.demo.events import events, transactions
from worker_sync.demo.measure import Meters
from worker_sync.demo.source import apply_transaction, connect, touch_airport

#: Without a given rate the traffic pauses while a change has been under way to the slowest target for so many seconds:
#: as fast as the pipelines take it, and lag still means something.
HOLD_S: Final = 1.0
#: With a given rate, transactions hold at most the changes of so many seconds.
PACE_S: Final = 0.05
LARGEST: Final = 2000
SEED: Final = 2013


class Replay(threading.Thread):
    """Replays flights until they are all done or `stop` is set; then `failure` holds what went wrong, if anything.

    After `seconds` no more flights are announced, and those that were come to their end.
    """

    def __init__(
        self, url: str, flights: Iterable[Flight], meters: Meters, rate: float | None, seconds: float | None
    ) -> None:
        super().__init__(name="replay", daemon=True)
        self.flights = 0
        self.transactions = 0
        self.failure: Exception | None = None
        self.started = math.inf
        self._url = url
        self._given = flights
        self._limit = math.inf if seconds is None else seconds
        self._meters = meters
        self._rate = rate
        self._stop_event = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_event.set()
        if self.is_alive():
            self.join(timeout=30)

    def run(self) -> None:
        try:
            self._replay()
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self.failure = error

    def _replay(self) -> None:
        largest = LARGEST if self._rate is None else max(1, min(LARGEST, int(self._rate * PACE_S)))
        started = self.started = time.monotonic()
        with connect(self._url) as connection:
            for transaction in transactions(events(self._announced()), SEED, largest):
                self._hold_back(started)
                if self._stop_event.is_set():
                    break
                apply_transaction(connection, transaction)
                self._meters.committed(len(transaction))
                self.transactions += 1

    def _announced(self) -> Iterator[Flight]:
        for flight in self._given:
            if time.monotonic() - self.started > self._limit:
                return
            self.flights += 1
            yield flight

    @property
    def share(self) -> float:
        """How much of the allowed time has passed; 0 without a limit."""
        return max(0.0, min(1.0, (time.monotonic() - self.started) / self._limit))

    def _hold_back(self, started: float) -> None:
        if self._rate is None:
            self._meters.wait_until_younger(HOLD_S, self._stop_event)
        else:
            self._stop_event.wait(max(0.0, started + self._meters.produced / self._rate - time.monotonic()))


def single_changes(url: str, meters: Meters, count: int, stop: threading.Event) -> None:
    """Commit single-row changes one after the other, each once the one before it has arrived everywhere."""
    chance = random.Random(SEED)
    with connect(url) as connection:
        for _ in range(count):
            if stop.wait(chance.uniform(0.005, 0.03)):
                return
            touch_airport(connection)
            meters.committed(1)
            meters.wait_until_arrived(stop)
