"""The bounded window of batches that are cut but not known to be applied, and when to send them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker_sync.capture.lane import Cut, Lane

#: Waiting time before another copy of the first missing batch doubles up to this many seconds.
MAX_RESEND_AFTER_S: Final = 15.0
#: A watermark stands still once it has not moved for so many times the usual pause between two moves.
PAUSES: Final = 4.0
#: A longer pause was an outage and says nothing of how long the next one may be.
LONGEST_PAUSE_S: Final = 15.0
#: How much the newest pause counts in the usual one.
NEWEST: Final = 0.2


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """How much may be cut and not applied, over all lanes of a source."""

    size: int
    batches: int


def usage(lanes: Sequence[Lane]) -> tuple[int, int]:
    """Bytes and batches in the window."""
    return sum(len(cut.data) for lane in lanes for cut in lane.pending), sum(len(lane.pending) for lane in lanes)


class Retransmission:
    """Decides which batches of one lane to publish again, and when.

    The broker may have lost everything, or the target may only be slow; from here both look alike: a watermark that
    stands still. Then the first missing batch alone is sent again, ever more rarely, for copies make a slow system
    slower. Once the watermark has moved again, what follows may be lost as well, or have been dropped after waiting
    for its turn in vain, in any pattern of holes: the whole window follows once, in order.
    """

    def __init__(self, lane: Lane, after_s: float) -> None:
        self._lane = lane
        self._base = after_s
        self._timeout = after_s
        #: When the watermark moved last, or had nowhere to go; None before the first look.
        self._moved_at: float | None = None
        self._sent_at = 0.0
        #: The usual number of seconds between two moves of the watermark.
        self._pause = 0.0
        self._stood_still = False
        self._refill = False

    def moved(self, now: float) -> None:
        """The watermark moved."""
        if self._moved_at is not None:
            self._pause += NEWEST * (min(now - self._moved_at, LONGEST_PAUSE_S) - self._pause)
        self._moved_at = now
        self._timeout = self._base
        self._refill = self._refill or self._stood_still
        self._stood_still = False

    def due(self, now: float) -> list[Cut]:
        """The batches to publish again now, oldest first."""
        pending = self._lane.pending
        if not pending or self._moved_at is None:
            self._moved_at = now
            self._stood_still = self._refill = False
            return []
        if self._refill:
            self._refill = False
            return list(pending)
        if now - max(self._moved_at, self._sent_at) < max(self._timeout, PAUSES * self._pause):
            return []
        self._timeout = min(self._timeout * 2, MAX_RESEND_AFTER_S)
        self._sent_at = now
        self._stood_still = True
        return [pending[0]]
