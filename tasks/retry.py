"""When a task is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Policy:
    """Up to `attempts` further tries; before each one up to `base_s` seconds, growing by `factor` up to `cap_s`.

    With `jitter` the wait is a random part of that (full jitter), so that many tasks don't come back at once.
    """

    attempts: int
    base_s: float
    cap_s: float
    factor: float = 2.0
    jitter: bool = True

    def delay_s(self, retries: int, rand: Callable[[], float] = random.random) -> float | None:
        """Seconds until the next try after so many retries; None when there is none."""
        if retries >= self.attempts:
            return None
        limit = min(self.cap_s, self.base_s * self.factor**retries)
        return limit * rand() if self.jitter else limit


#: The task is not tried again here; whoever sent it sends another.
NEVER: Final = Policy(0, 0, 0)
#: About a minute for a system that restarts. After that the batch is dropped: its capture sends it again for as long
#: as the watermark stands still, so messages don't pile up behind a target that is down for long.
TRANSIENT: Final = Policy(8, 0.5, 20.0)
#: Six seconds for the batch before it, which another worker is applying or which is still in the queue. Few tries: a
#: window full of batches whose predecessor is lost would keep the workers from those that are sent again.
EARLY: Final = Policy(9, 0.05, 1.0, jitter=False)
#: Requests of people: several minutes.
REQUEST: Final = Policy(12, 1.0, 60.0)
