"""What the reported figures of a shard say about its lag."""

from __future__ import annotations

import pytest

from worker_sync.core.position import Position
from worker_sync.exporter.lag import STALE_S, behind_heartbeat_ms, shard_lag_ms

NOW = 1_700_000_000_000_000
SECOND = 1_000_000


def test_the_oldest_pending_transaction_decides_while_something_is_pending() -> None:
    shard = {"waiting_ms": 3000.0, "lag_ms": 5.0, "committed_at": NOW - SECOND}
    assert shard_lag_ms(shard, 0.5, NOW) == 3000


def test_the_last_measured_lag_decides_while_nothing_is_pending() -> None:
    shard = {"waiting_ms": None, "lag_ms": 5.0, "committed_at": NOW - 60 * SECOND}
    assert shard_lag_ms(shard, 0.5, NOW) == 5.0


def test_the_lag_grows_once_the_capture_is_silent() -> None:
    shard = {"waiting_ms": None, "lag_ms": 5.0, "committed_at": NOW - 60 * SECOND}
    assert shard_lag_ms(shard, STALE_S + 1, NOW) == 60_000
    assert shard_lag_ms(shard, STALE_S + 1, NOW + SECOND) == 61_000


@pytest.mark.parametrize("age", [0.0, STALE_S + 1])
def test_what_nobody_measured_is_unknown(age: float) -> None:
    assert shard_lag_ms({"lag_ms": None, "committed_at": None, "waiting_ms": None}, age, NOW) is None


def test_a_source_clock_ahead_of_ours_makes_no_negative_lag() -> None:
    assert shard_lag_ms({"committed_at": NOW + SECOND}, STALE_S + 1, NOW) == 0


def test_a_heartbeat_that_was_not_applied_tells_stuck_from_idle() -> None:
    applied = {"position": str(Position("00A0"))}
    assert behind_heartbeat_ms(applied, "00A0", 4.0) is None
    assert behind_heartbeat_ms(applied, "00A1", 4.0) == 4000
    assert behind_heartbeat_ms({}, "00A1", 4.0) is None
