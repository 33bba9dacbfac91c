"""Clocks of other machines, compared with this one's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker_sync.composition.preflight import clock
from worker_sync.core.clock import Skew, skew

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def asked(ahead_s: float, took_s: float) -> Skew:
    """The skew of a clock that is so far ahead and whose answer took so long."""
    here = iter([NOON, NOON + timedelta(seconds=took_s)])
    return skew(lambda: NOON + timedelta(seconds=took_s / 2 + ahead_s), lambda: next(here))


@pytest.mark.parametrize("ahead_s", [-3600.0, -0.25, 0.0, 7.5])
def test_a_skew_is_measured_against_the_middle_of_the_question(ahead_s: float) -> None:
    found = asked(ahead_s, 0.2)
    assert found.ahead_s == pytest.approx(ahead_s)
    assert found.doubt_s == pytest.approx(0.1)


def test_a_slow_answer_raises_no_alarm_by_itself() -> None:
    assert not asked(2.5, 1.2).exceeds(2)
    assert asked(2.5, 0.8).exceeds(2)
    assert asked(-2.5, 0.8).exceeds(2)


def test_a_finding_says_how_far_and_in_which_direction() -> None:
    behind = clock(lambda: datetime.now(UTC) - timedelta(minutes=5), 2.0)
    assert (behind.check, behind.ok) == ("clock", False)
    assert "300.0" in behind.detail
    assert "behind" in behind.detail
    assert "chrony" in behind.fix
    assert clock(lambda: datetime.now(UTC), 2.0).ok
