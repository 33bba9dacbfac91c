"""How far another machine's clock is from this one's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Skew:
    """The other clock is `ahead_s` seconds ahead, give or take `doubt_s`: half of the time that the answer took."""

    ahead_s: float
    doubt_s: float

    def exceeds(self, limit_s: float) -> bool:
        """Certainly more than that, in either direction."""
        return abs(self.ahead_s) - self.doubt_s > limit_s

    def __str__(self) -> str:
        return f"{abs(self.ahead_s):.3f} s {'ahead of' if self.ahead_s >= 0 else 'behind'} this machine's clock"


def skew(ask: Callable[[], datetime], here: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Skew:
    """Ask another machine for its time, which was taken at some moment of the call."""
    before = here()
    there = ask()
    doubt = (here() - before) / 2
    return Skew((there - before - doubt).total_seconds(), doubt.total_seconds())
