"""Growth is told from noise."""

from __future__ import annotations

import random

from tests.faults.trend import Bound, trend

MEGABYTE = 1024 * 1024
BOUND = Bound(per_hour=8 * MEGABYTE, in_all=4 * MEGABYTE)


def noisy(per_second: float, seconds: int) -> list[tuple[float, float]]:
    rand = random.Random(3)
    base = 90 * MEGABYTE
    return [(at, base + per_second * at + rand.gauss(0, MEGABYTE / 4)) for at in range(seconds)]


def test_a_leak_of_ten_kilobytes_a_second_is_found() -> None:
    found = trend(noisy(10_000, 900))
    assert found.exceeds(BOUND)
    assert 0.9 < found.slope / 3600 / 10_000 < 1.1


def test_noise_is_no_growth() -> None:
    assert not trend(noisy(0, 900)).exceeds(BOUND)


def test_a_peak_is_no_growth() -> None:
    samples = noisy(0, 900)
    samples[-3:] = [(at, value + 100 * MEGABYTE) for at, value in samples[-3:]]
    assert not trend(samples).exceeds(BOUND)


def test_what_is_taken_while_warming_up_does_not_count() -> None:
    samples = [(at, min(at, 200) * MEGABYTE / 4) for at in range(1000)]
    assert not trend(samples).exceeds(BOUND)


def test_a_short_run_may_grow_by_what_the_bound_allows_in_all() -> None:
    assert not trend(noisy(100_000, 30)).exceeds(BOUND)
