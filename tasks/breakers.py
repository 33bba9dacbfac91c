"""Circuit breakers: a system that failed several times in a row is left alone for a moment, then asked once.

One breaker per external system and process. While it is open a task fails at once with `NotNow`, whose delay ends
when the breaker lets the next question through.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pybreaker
from billiard.exceptions import SoftTimeLimitExceeded

from worker_sync.core.errors import Transient
from worker_sync.core.log import event
from worker_sync.core.sections import Breaker as Limits

log = logging.getLogger(__name__)

#: What a breaker's state is in metrics.
NUMBERS: Final = {"closed": 0, "half-open": 1, "open": 2}
#: Part of the time that is left which is added at random, so that not everyone comes at once.
SPREAD: Final = 0.2
#: Seconds that a task waits which finds another one asking.
PROBING_S: Final = 0.25


class NotNow(Transient):
    """Left alone after repeated failures"""

    def __init__(self, system: str, retry_after_s: float) -> None:
        super().__init__(f"{system} is asked again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class Breaker:
    """The breaker of one system. Used by all threads of a process; a call holds no lock while it runs."""

    def __init__(self, system: str, limits: Limits) -> None:
        self.system = system
        #: How often it opened, each time again during one outage included.
        self.opened = 0
        self._limits = limits
        self._open_until = 0.0
        self._probe = threading.Lock()
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=limits.failures,
            reset_timeout=limits.first_s,
            exclude=[_says_nothing_about_the_system],
            listeners=[_Watching(self)],
            throw_new_error_on_trip=False,
        )

    @property
    def state(self) -> str:
        """`closed`, `half-open` or `open`. An open one whose time is over waits for a question: half-open."""
        state = str(self._breaker.current_state)
        return "half-open" if state == "open" and time.monotonic() >= self._open_until else state

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Around one use of the system. Raises NotNow while it is to be left alone; a Transient error that leaves it
        open says by its `retry_after_s` until when."""
        try:
            with self._calling():
                yield
        except NotNow:
            raise
        except Transient as error:
            # Its task need not wait longer than those which are turned away from now on.
            if self._breaker.current_state == "open":
                error.retry_after_s = self._pause_s()
            raise

    @contextmanager
    def _calling(self) -> Iterator[None]:
        if self._breaker.current_state == "closed":
            with self._breaker.calling():
                yield
            return
        # Of all threads one asks whether it is back.
        if not self._probe.acquire(blocking=False):
            raise NotNow(self.system, PROBING_S)
        try:
            self._await_end_of_pause()
            with self._breaker.calling():
                yield
        finally:
            self._probe.release()

    def _await_end_of_pause(self) -> None:
        # The library's own measure is the clock of the wall, which may be set back.
        if self._breaker.current_state != "open":
            return
        if time.monotonic() < self._open_until:
            raise NotNow(self.system, self._pause_s())
        self._breaker.half_open()

    def _pause_s(self) -> float:
        """Seconds until it is asked again, and a little more, so that not everyone comes at once."""
        left = max(0.0, self._open_until - time.monotonic())
        return left * (1 + SPREAD * random.random()) + 0.01

    def changed(self, before: str, state: str) -> None:
        """The breaker has another state."""
        if state == before:
            return  # a call that had begun before it opened has failed too
        if state == "open":
            self.opened += 1
            self._open_until = time.monotonic() + self._breaker.reset_timeout
            pause = self._breaker.reset_timeout
            extra = event("breaker-opened", system=self.system, pause_s=pause)
            log.warning("%s is left alone for %.1f s", self.system, pause, extra=extra)
        elif state == "half-open":
            # If it fails again, it is left alone for longer.
            self._breaker.reset_timeout = min(self._breaker.reset_timeout * 2, self._limits.longest_s)
        else:
            self._breaker.reset_timeout = self._limits.first_s
            log.info("%s answers again", self.system, extra=event("breaker-closed", system=self.system))


class _Watching(pybreaker.CircuitBreakerListener):
    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._breaker.changed(str(old_state.name), str(new_state.name))


def _says_nothing_about_the_system(error: Any) -> bool:
    return isinstance(error, NotNow) or not isinstance(error, Transient | SoftTimeLimitExceeded)


class Breakers:
    """The breakers of a process, made on first use."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}

    def of(self, system: str) -> Breaker:
        """`control`, or `database:NAME`."""
        with self._lock:
            if system not in self._breakers:
                self._breakers[system] = Breaker(system, self._limits)
            return self._breakers[system]

    def report(self) -> dict[str, dict[str, Any]]:
        """The state of each, and how often it opened."""
        with self._lock:
            return {name: {"state": one.state, "opened": one.opened} for name, one in self._breakers.items()}
