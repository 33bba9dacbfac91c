"""How far behind a shard is, from its capture's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker_sync.core.position import Position

#: A report that is older comes from a capture that hangs or is gone; what it said last is true no more.
STALE_S: Final = 15.0


def shard_lag_ms(shard: Mapping[str, Any], report_age_s: float, now_us: int) -> float | None:
    """Milliseconds between a source commit and its arrival in the target; None while nothing is known.

    How long the oldest transaction under way had been waiting when the capture reported, if there is one, else the last
    measured lag. Once the capture is silent
    nobody knows what waits in the log, so the lag grows from the newest applied transaction on: heartbeats make that
    a moment ago for a healthy shard, also an idle one.
    """
    if report_age_s > STALE_S:
        return age_ms(shard.get("committed_at"), now_us)
    waiting: float | None = shard.get("waiting_ms")
    lag: float | None = shard.get("lag_ms")
    return lag if waiting is None else waiting


def behind_heartbeat_ms(shard: Mapping[str, Any], heartbeat: str, heartbeat_age_s: float) -> float | None:
    """The age of a heartbeat that the shard has not applied; None when it has."""
    position = shard.get("position")
    if position is None or Position.parse(position).commit >= heartbeat:
        return None
    return heartbeat_age_s * 1000


def age_ms(moment_us: int | None, now_us: int) -> float | None:
    """Milliseconds since `moment_us` (microseconds since 1970); clocks that disagree don't make it negative."""
    return None if moment_us is None else max(0.0, (now_us - moment_us) / 1000)
