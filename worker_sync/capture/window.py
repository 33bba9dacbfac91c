"""The bounded window of batches that are cut but not known to be applied, and when to send them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker_sync.capture.lane import Cut, Lane

#: Waiting time before another re-send doubles up to this many seconds.
MAX_RESEND_AFTER_S: Final = 60.0
#: After a re-sent batch was applied, the next one should follow within this many seconds if it is still queued.
FOLLOW_UP_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """How much may be cut and not applied, over all lanes of a source."""

    size: int
    batches: int


def usage(lanes: list[Lane]) -> tuple[int, int]:
    """Bytes and batches in the window."""
    return sum(len(cut.data) for lane in lanes for cut in lane.pending), sum(len(lane.pending) for lane in lanes)


class Retransmission:
    """Decides which batches of one lane to publish again, as TCP does: on a timeout only the first missing one.

    The broker may have lost everything, or may only be slow; more copies would make a slow system slower. If the
    watermark then stops right behind the copy, its successor is lost too and twice as many follow, so a wiped broker
    is refilled in a logarithmic number of steps. If the watermark passes beyond the copies, the originals were
    alive and nothing more is sent.
    """

    def __init__(self, lane: Lane, after_s: float) -> None:
        self._lane = lane
        self._base = after_s
        self._timeout = after_s
        self._burst = 1
        self._moved_at = 0.0
        #: The last batch that was sent again, while its effect is awaited.
        self._probe: Cut | None = None

    def moved(self, now: float) -> None:
        """The watermark moved, or the lane began to wait."""
        self._moved_at = now
        self._timeout = self._base
        if self._probe is not None and self._lane.mark.position > self._probe.upto:
            self._probe, self._burst = None, 1

    def due(self, now: float) -> list[Cut]:
        """The batches to publish again now, oldest first."""
        pending = self._lane.pending
        if not pending:
            self._moved_at, self._probe, self._burst = now, None, 1
            return []
        stuck_behind_copy = self._probe is not None and self._lane.mark.position == self._probe.upto
        patience = FOLLOW_UP_S if stuck_behind_copy else self._timeout
        if now - self._moved_at < patience:
            return []
        if stuck_behind_copy:
            self._burst *= 2
        else:
            self._timeout = min(self._timeout * 2, MAX_RESEND_AFTER_S)
        self._moved_at = now
        again = [pending[index] for index in range(min(self._burst, len(pending)))]
        self._probe = again[-1]
        return again
