"""Watches how much log a source keeps for us, and says in time when that comes near a limit.

The limit is ours (`retained_log.limit_bytes`) or the server's own. What is not known is None, never 0: a server that
doesn't tell its limit may have one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors.base import Source, StreamStatus
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.log import event
from worker_sync.core.sections import RetainedLog

log = logging.getLogger(__name__)

#: Growth is measured over this many seconds at most, and from so many on.
OVER_S: Final = 120.0
FROM_S: Final = 1.0
#: Shares of the limit at which a warning is given.
SHARES: Final = (0.5, 0.8, 1.0)
#: What was warned of is warned of again once it had fallen below this share of where the warning began.
AGAIN: Final = 0.9


@dataclass(frozen=True, slots=True)
class Retained:
    """What is known of a source's log. `growth`: bytes per second. `left_s`: seconds until it reaches a limit at that
    rate, or until the server may drop what we need."""

    bytes: int | None = None
    growth: float | None = None
    left_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "retained_bytes": self.bytes,
            "retained_growth": None if self.growth is None else round(self.growth, 1),
            "retained_left_s": None if self.left_s is None else round(self.left_s, 1),
        }


class LogGuard:
    """The guard of one source. It outlives sessions, so that neither a rate nor a warning begins anew with each.

    Used by one thread at a time: the housekeeper's while there is a session, else the capture's.
    """

    def __init__(self, source: str, limits: RetainedLog) -> None:
        self._source = source
        self._limits = limits
        self._sizes: deque[tuple[float, int]] = deque()
        self._warned = 0.0
        self._warned_left = False
        #: The log may not grow any more: what it holds for us is to be kept on our disk. Read by another thread.
        self.spill = False

    def look(self, source: Source, confirmed: str, now: float) -> Mapping[str, Any]:
        """Ask the source, warn of what is near, and return the report's part about it: nothing when the source does not
        answer. `now` is of a clock that never goes back. Raises Halt(log-limit) when the log is to be given up."""
        try:
            status = source.stream_status(confirmed)
        except Transient as error:
            log.info("the log of %s can't be measured: %s", self._source, error, extra=event("retained-log-unknown"))
            return {}
        found = self.take(status, now)
        return {"source": self._source, "head": status.head, **found.as_json()}

    def take(self, status: StreamStatus, now: float) -> Retained:
        """Judge what the source said; see `look`."""
        found = self._measured(status, now)
        self._warn(found)
        self._enforce(status)
        self.spill = self._limits.policy == "spill" and self._is_near(found)
        return found

    def _is_near(self, found: Retained) -> bool:
        limit = self._limits.limit_bytes
        over = limit is not None and found.bytes is not None and found.bytes >= limit
        return over or (found.left_s is not None and found.left_s < self._limits.warn_left_s)

    def _measured(self, status: StreamStatus, now: float) -> Retained:
        size = status.retained_bytes
        if size is None:
            self._sizes.clear()
            return Retained(left_s=status.left_s)
        self._sizes.append((now, size))
        while now - self._sizes[0][0] > OVER_S:
            self._sizes.popleft()
        growth = self._growth()
        return Retained(size, growth, _earliest(status.left_s, self._until_full(status, size, growth)))

    def _growth(self) -> float | None:
        (begun, first), (ended, last) = self._sizes[0], self._sizes[-1]
        return (last - first) / (ended - begun) if ended - begun >= FROM_S else None

    def _until_full(self, status: StreamStatus, size: int, growth: float | None) -> float | None:
        """Seconds until the nearer of both limits, if the log goes on growing as it does."""
        room = None if self._limits.limit_bytes is None else max(0, self._limits.limit_bytes - size)
        left = _earliest(room, status.left_bytes)
        if left is None or left == 0:
            return left
        return left / growth if growth is not None and growth > 0 else None

    def _warn(self, found: Retained) -> None:
        limit = self._limits.limit_bytes
        if limit is not None and found.bytes is not None:
            self._warn_of_size(found.bytes, limit)
        short = found.left_s is not None and found.left_s < self._limits.warn_left_s
        if short and not self._warned_left:
            log.warning(
                "%s: in about %.0f s its log reaches a limit, or the server drops what we need; see what holds up its "
                "pipelines: worker-sync status",
                self._source,
                found.left_s,
                extra=event("retained-log-short", source=self._source, **found.as_json()),
            )
        self._warned_left = short

    def _warn_of_size(self, size: int, limit: int) -> None:
        share = size / limit
        reached = max((step for step in SHARES if share >= step), default=0.0)
        if reached > self._warned:
            log.log(
                logging.ERROR if share >= 1 else logging.WARNING,
                "%s keeps %d bytes of log for us, %.0f %% of its retained_log.limit_bytes; see what holds up its "
                "pipelines: worker-sync status",
                self._source,
                size,
                100 * share,
                extra=event("retained-log", source=self._source, bytes=size, limit_bytes=limit),
            )
            self._warned = reached
        elif share < AGAIN * self._warned:
            self._warned = reached

    def _enforce(self, status: StreamStatus) -> None:
        limit, size = self._limits.limit_bytes, status.retained_bytes
        if self._limits.policy != "detach" or not status.held or limit is None or size is None or size < limit:
            return
        detail = (
            f"{self._source} kept {size} bytes of log, its retained_log.limit_bytes is {limit}; its stream is dropped"
        )
        raise Halt(State.LOG_LIMIT, detail, "worker-sync resync PIPELINE, once what held it up is gone")


def _earliest(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)
