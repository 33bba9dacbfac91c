"""The guard of a source's log: rate, time left, warnings, and letting go."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from connectors.base import StreamStatus
from worker_sync.capture.retention import LogGuard, Retained
from worker_sync.core.errors import Halt, State
from worker_sync.core.sections import RetainedLog

MB = 1024 * 1024


def status(size: int | None, *, held: bool = True, **left: Any) -> StreamStatus:
    return StreamStatus(True, "", "", "", size, held=held, **left)


def guard(**limits: Any) -> LogGuard:
    return LogGuard("shop", RetainedLog.model_validate(limits))


def test_the_rate_is_that_of_the_last_two_minutes() -> None:
    watched = guard()
    assert watched.take(status(100), 0).growth is None
    assert watched.take(status(300), 2).growth == 100
    assert watched.take(status(10_300), 200).growth is None
    assert watched.take(status(10_300 + 50), 205).growth == 10
    assert watched.take(status(10_300 - 20), 210).growth == -2


def test_the_time_left_is_that_until_the_nearest_limit() -> None:
    watched = guard(limit_bytes=10 * MB)
    watched.take(status(0), 0)
    assert watched.take(status(MB), 10).left_s == 90
    assert watched.take(status(2 * MB, left_bytes=MB), 20).left_s == 10
    assert watched.take(status(3 * MB, left_bytes=MB, left_s=7.0), 30).left_s == 7
    assert watched.take(status(11 * MB), 40).left_s == 0


def test_what_is_not_known_is_absent() -> None:
    watched = guard()
    assert watched.take(status(None), 0) == Retained()
    assert watched.take(status(None, left_s=40.0), 5) == Retained(left_s=40.0)
    watched.take(status(5), 10)
    # Without any limit, and with one that a shrinking log never comes to.
    assert watched.take(status(50), 15).left_s is None
    assert watched.take(status(5, left_bytes=100), 20).left_s is None


def test_a_size_that_is_unknown_for_a_moment_makes_no_rate() -> None:
    watched = guard()
    watched.take(status(5), 0)
    watched.take(status(None), 5)
    assert watched.take(status(5000), 10).growth is None


def test_each_share_of_the_limit_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    watched = guard(limit_bytes=100 * MB, warn_left_s=0)
    for at, size in enumerate([10, 49, 51, 55, 81, 85, 100, 120, 95, 101, 40, 60]):
        watched.take(status(size * MB), at)
    shares = [record.fields["bytes"] // MB for record in caplog.records]  # type: ignore[attr-defined]
    assert shares == [51, 81, 100, 60]
    assert [record.levelno for record in caplog.records] == [30, 30, 40, 30]
    assert {record.action for record in caplog.records} == {"retained-log"}  # type: ignore[attr-defined]


def test_a_short_time_is_warned_of_once_until_there_is_more(caplog: pytest.LogCaptureFixture) -> None:
    watched = guard(warn_left_s=60)
    for left in (61.0, 59.0, 50.0, 70.0, 10.0):
        watched.take(status(None, held=False, left_s=left), 0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "50" not in caplog.text
    assert "about 59 s" in caplog.text


def test_detach_lets_go_at_the_limit_and_hold_never() -> None:
    for policy in ("hold", "detach"):
        guard(limit_bytes=MB, policy=policy).take(status(MB - 1), 0)
    guard(limit_bytes=MB).take(status(5 * MB), 0)
    with pytest.raises(Halt) as caught:
        guard(limit_bytes=MB, policy="detach").take(status(MB), 0)
    assert caught.value.state is State.LOG_LIMIT
    assert "worker-sync resync p" in caught.value.about("p").recovery


def test_a_server_that_keeps_no_log_for_us_is_not_detached_from() -> None:
    guard(limit_bytes=MB, policy="detach").take(status(5 * MB, held=False), 0)
