"""How far the demo is, as both displays show it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from worker_sync.demo.measure import Lag, Meters, percentile

#: Seconds over which rates are taken.
RECENTLY_S: Final = 2.0
#: From when on the speed so far says something about the rest.
LEAST_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class TargetProgress:
    """One target: changes that arrived, their rate, and the lag of the newest ones in milliseconds."""

    pipeline: str
    arrived: int
    rate: float
    lag_ms: float | None
    batches: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of the traffic. `eta_s` is None while nobody can say."""

    seconds: float
    total: int
    produced: int
    rate: float
    targets: list[TargetProgress]
    window_bytes: int | None
    window_batches: int | None
    eta_s: float | None


@dataclass(slots=True)
class _Track:
    points: deque[tuple[float, int]] = field(default_factory=deque)

    def rate(self, now: float, value: int) -> float:
        self.points.append((now, value))
        while len(self.points) > 2 and self.points[0][0] < now - RECENTLY_S:
            self.points.popleft()
        (_then, before), span = self.points[0], now - self.points[0][0]
        return (value - before) / span if span > 0 else 0.0


class Tracker:
    """Looks at the meters now and then; keeps every lag for the summary."""

    def __init__(self, meters: Meters, total: int) -> None:
        self._meters = meters
        self._total = total
        self._started = time.monotonic()
        self._tracks = {name: _Track() for name in ("source", *(meter.pipeline for meter in meters.all))}
        self._last_lag: dict[str, float | None] = {}
        self.lags: dict[str, list[Lag]] = {meter.pipeline: [] for meter in meters.all}

    def look(self, report: Mapping[str, Any] | None, share: float) -> Progress:
        """The progress now; `report` is the capture's own, `share` how much of the allowed time has passed."""
        now = time.monotonic()
        produced = self._meters.produced
        rate = self._tracks["source"].rate(now, produced)
        targets = [self._target(meter, now) for meter in self._meters.all]
        slowest = min(target.rate for target in targets)
        # With a limit of time the whole is what comes at this speed.
        total = min(self._total, int(produced / share)) if share > LEAST_SHARE else self._total
        left = total - self._meters.arrived
        window = (report or {}).get("window", {})
        return Progress(
            seconds=now - self._started,
            total=max(total, produced),
            produced=produced,
            rate=rate,
            targets=targets,
            window_bytes=window.get("bytes"),
            window_batches=window.get("batches"),
            eta_s=left / slowest if slowest > 0 else None,
        )

    def _target(self, meter: Any, now: float) -> TargetProgress:
        lags = meter.take_lags()
        self.lags[meter.pipeline] += lags
        if lags:
            self._last_lag[meter.pipeline] = percentile(lags, 0.5)
        rate = self._tracks[meter.pipeline].rate(now, meter.arrived)
        return TargetProgress(meter.pipeline, meter.arrived, rate, self._last_lag.get(meter.pipeline), meter.batches)
