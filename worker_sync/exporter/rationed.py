"""Questions whose cost grows with what there is to count."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: An answer is kept for so many times as long as it took: the question takes at most this part of the server's time.
KEPT: Final = 20


class Rationed(Generic[T]):
    """Asks again only when the last answer has paid for itself: a cheap one at once, one of a second after 20 seconds.
    Used by one scrape at a time."""

    def __init__(self, ask: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._answers: list[T] = []
        self._until = 0.0

    def __call__(self) -> T:
        """The answer, now or of a moment ago. Raises what `ask` raises, and then asks again at the next call."""
        begun = self._clock()
        if not self._answers or begun >= self._until:
            self._answers = []
            self._answers = [self._ask()]
            ended = self._clock()
            self._until = ended + KEPT * (ended - begun)
        return self._answers[0]
