"""Waiting for a moment until the batch before is applied.

Where several processes work on one shard, a batch can overtake the one before it by milliseconds. Sent back to its
queue it would come after its successors, and make each of them early as well. Once the other process has begun,
`Sink.apply` itself waits for it, so a few tries in place are enough.

But the batch before may be lost, or still be in the queue, and then a wait keeps this process from it. So what is
waited in vain has to be earned by applying: a window full of early batches costs `CREDIT_S` once, and a queue in any
order at most `SHARE` of the time that its batches take.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from connectors.base import Outcome

#: Seconds before each further try.
PAUSES_S: Final = (0.002, 0.008, 0.03)
CREDIT_S: Final = 0.2
SHARE: Final = 0.2


class Turns:
    """How much this process may still wait. Threads may share it: what they disturb is a few milliseconds of credit."""

    def __init__(
        self, pause: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pause = pause
        self._clock = clock
        self._credit = CREDIT_S

    def take(self, attempt: Callable[[], str]) -> str:
        """Try once, and again while the outcome is EARLY and there is credit; returns the last outcome."""
        waited = 0.0
        began = self._clock()
        outcome = attempt()
        for pause in PAUSES_S:
            if outcome != Outcome.EARLY or self._credit < pause:
                break
            self._credit -= pause
            waited += pause
            self._pause(pause)
            began = self._clock()
            outcome = attempt()
        if outcome == Outcome.APPLIED:
            # What was waited was not in vain.
            self._credit = min(CREDIT_S, self._credit + waited + SHARE * (self._clock() - began))
        return outcome
