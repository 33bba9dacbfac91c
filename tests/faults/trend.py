"""Whether a figure that was sampled over time grows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

#: More pairs of samples than this tell nothing more.
MOST_SAMPLES: Final = 200
WARM_UP: Final = 0.3


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure may grow by so much an hour, or by so much over the whole of a run that is too short to tell."""

    per_hour: float
    in_all: float


@dataclass(frozen=True, slots=True)
class Trend:
    """The growth of one figure after the warm-up: `slope` an hour, and by how much that is more at the end."""

    first: float
    last: float
    highest: float
    slope: float
    growth: float

    def exceeds(self, bound: Bound) -> bool:
        return self.slope > bound.per_hour and self.growth > bound.in_all


def trend(samples: Sequence[tuple[float, float]], warm_up: float = WARM_UP) -> Trend:
    """The trend of (seconds, value) samples: the median of the slopes of all pairs (Theil and Sen), which no single
    peak or dip moves. `warm_up` is the share of samples at the beginning that are left out."""
    kept = list(samples[int(len(samples) * warm_up) :])
    kept = kept[:: max(1, len(kept) // MOST_SAMPLES)]
    pairs = [(later[1] - sooner[1]) / (later[0] - sooner[0]) for sooner, later in combinations(kept, 2)]
    slope = statistics.median(pairs) if pairs else 0.0
    values = [value for _, value in kept]
    return Trend(values[0], values[-1], max(values), slope * 3600, slope * (kept[-1][0] - kept[0][0]))
