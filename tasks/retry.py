"""When a task is tried again, and for how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Policy:
    """Up to `attempts` further tries within `budget_s` seconds of the first; before each one up to `base_s` seconds,
    growing by `factor` up to `cap_s`.

    With `jitter` the wait is a random part of that (full jitter), so that many tasks don't come back at once.
    """

    attempts: int
    base_s: float
    cap_s: float
    budget_s: float
    factor: float = 2.0
    jitter: bool = True

    def delay_s(self, retries: int, rand: Callable[[], float] = random.random, elapsed_s: float = 0.0) -> float | None:
        """Seconds until the next try after so many retries, `elapsed_s` after the first; None when there is none."""
        if retries >= self.attempts:
            return None
        # The exponent is bounded: a float can't hold what a large one makes.
        limit = min(self.cap_s, self.base_s * self.factor ** min(retries, 64))
        return self.within(limit * rand() if self.jitter else limit, elapsed_s)

    def within(self, delay_s: float, elapsed_s: float) -> float | None:
        """`delay_s`, cut so that the last try falls on the end of the budget; None behind it."""
        left = self.budget_s - elapsed_s
        return min(delay_s, left) if left > 0 else None


#: The task is not tried again here; whoever sent it sends another.
NEVER: Final = Policy(0, 0, 0, 0)
#: About a minute for a system that restarts. After that the batch is dropped: its capture sends it again for as long
#: as the watermark stands still, so messages don't pile up behind a target that is down for long.
TRANSIENT: Final = Policy(8, 0.5, 20.0, 300.0)
#: Six seconds for the batch before it, which another worker is applying or which is still in the queue. Few tries: a
#: window full of batches whose predecessor is lost would keep the workers from those that are sent again.
EARLY: Final = Policy(9, 0.05, 1.0, 300.0, jitter=False)
#: Requests of people: ten minutes at most.
REQUEST: Final = Policy(12, 1.0, 60.0, 600.0)
#: Daily and hourly work: an hour, for a system that is down for long.
SCHEDULED: Final = Policy(20, 5.0, 300.0, 3600.0)
#: Work that failed for good and can't be parked, because the control store is away: until it is back.
PARKING: Final = Policy(1 << 31, 1.0, 30.0, float("inf"))
