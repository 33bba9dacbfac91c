"""Counts what arrived at a target, and how long it took: by looking at the target alone."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from connectors.base import Sink
from worker_sync.core.errors import Transient

log = logging.getLogger(__name__)

#: Seconds between two looks at a target: under load, and while single changes are timed. A lag that is measured is
#: too high by up to one of these, never too low.
BUSY_S: Final = 0.01
PRECISE_S: Final = 0.001
#: Seconds until a waiting thread looks whether it was asked to stop.
LOOK_AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Committed:
    """A source transaction: the number of changes up to its end, its own, and when it was committed (monotonic)."""

    upto: int
    changes: int
    at: float


@dataclass(frozen=True, slots=True)
class Lag:
    """How long the changes of one transaction took, in milliseconds."""

    ms: float
    changes: int


class Meter(threading.Thread):
    """Watches one pipeline's mark in its target, over a connection of its own.

    The mark counts the changes that were applied, in the transaction that applied them; a source transaction has
    arrived once the count has passed it. `base` is the count before the traffic began.
    """

    def __init__(self, pipeline: str, sink: Sink, moved: threading.Condition) -> None:
        super().__init__(name=f"meter-{pipeline}", daemon=True)
        self.pipeline = pipeline
        self.arrived = 0
        self.batches = 0
        #: When the newest change was seen (monotonic).
        self.arrived_at = 0.0
        self.lags: list[Lag] = []
        self._sink = sink
        self._moved = moved
        self._underway: deque[Committed] = deque()
        self._base, self._base_batches = self._counts()
        self._pause = BUSY_S
        self._stop_event = threading.Event()

    def committed(self, transaction: Committed) -> None:
        """A transaction was committed in the source."""
        self._underway.append(transaction)

    def precise(self) -> None:
        """From now on single changes are timed."""
        self._pause = PRECISE_S

    @property
    def oldest(self) -> float:
        """When the oldest change that is under way was committed; infinity without one."""
        try:
            return self._underway[0].at
        except IndexError:
            return math.inf

    def take_lags(self) -> list[Lag]:
        """The lags measured since the last call."""
        found, self.lags = self.lags, []
        return found

    def stop(self) -> None:
        self._stop_event.set()
        if self.is_alive():
            self.join(timeout=10)

    def run(self) -> None:
        while not self._stop_event.wait(self._pause):
            try:
                self._look()
            except Transient as error:
                log.warning("%s: %s", self.pipeline, error)

    def _look(self) -> None:
        changes, batches = self._counts()
        now = time.monotonic()
        arrived = changes - self._base
        self.batches = batches - self._base_batches
        if arrived == self.arrived:
            return
        while self._underway and self._underway[0].upto <= arrived:
            transaction = self._underway.popleft()
            self.lags.append(Lag((now - transaction.at) * 1000, transaction.changes))
        with self._moved:
            self.arrived, self.arrived_at = arrived, now
            self._moved.notify_all()

    def _counts(self) -> tuple[int, int]:
        marks = self._sink.marks(self.pipeline).values()
        return sum(mark.changes for mark in marks), sum(mark.batches for mark in marks)


class Meters:
    """The meters of all pipelines; `moved` is notified when something arrived anywhere."""

    def __init__(self, sinks: Mapping[str, Callable[[], Sink]]) -> None:
        self.moved = threading.Condition()
        self.all = [Meter(pipeline, open_sink(), self.moved) for pipeline, open_sink in sinks.items()]
        self.produced = 0

    def __enter__(self) -> Self:
        for meter in self.all:
            meter.start()
        return self

    def __exit__(self, *_: object) -> None:
        for meter in self.all:
            meter.stop()

    def committed(self, changes: int) -> None:
        """A transaction of so many changes was committed just now."""
        self.produced += changes
        transaction = Committed(self.produced, changes, time.monotonic())
        for meter in self.all:
            meter.committed(transaction)

    @property
    def arrived(self) -> int:
        """How many changes have arrived everywhere."""
        return min(meter.arrived for meter in self.all)

    @property
    def last_arrival(self) -> float:
        """When the newest change was seen at the slowest target (monotonic)."""
        return max(meter.arrived_at for meter in self.all)

    def wait_until_arrived(self, stop: threading.Event) -> None:
        """Return once nothing is under way, or `stop` is set."""
        with self.moved:
            while self.produced > self.arrived and not stop.is_set():
                self.moved.wait(LOOK_AGAIN_S)

    def wait_until_younger(self, seconds: float, stop: threading.Event) -> None:
        """Return once no change has been under way for longer than that, or `stop` is set."""
        with self.moved:
            while self._oldest() < time.monotonic() - seconds and not stop.is_set():
                self.moved.wait(LOOK_AGAIN_S)

    def _oldest(self) -> float:
        return min(meter.oldest for meter in self.all)


def percentile(lags: Sequence[Lag], share: float) -> float | None:
    """The lag that `share` (0 to 1) of all changes didn't exceed; None without any."""
    ordered = sorted(lags, key=lambda lag: lag.ms)
    wanted = share * sum(lag.changes for lag in ordered)
    seen = 0
    for lag in ordered:
        seen += lag.changes
        if seen >= wanted:
            return lag.ms
    return None
