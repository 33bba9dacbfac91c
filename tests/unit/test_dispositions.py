"""What becomes of an error, and when a task is tried again."""

from __future__ import annotations

import pytest

from tasks.base import Disposition, Early, disposition, halt_of
from tasks.retry import EARLY, NEVER, TRANSIENT
from worker_sync.core.errors import (
    ConfigError,
    Fenced,
    Halt,
    Permanent,
    Shutdown,
    State,
    TargetRejected,
    Transient,
    UndecodableBatch,
    Unreachable,
    Unrepresentable,
)
from worker_sync.store import NotInitialized


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Shutdown(), Disposition.REQUEUE),
        (Fenced(), Disposition.DROP),
        (Transient(), Disposition.RETRY),
        (Unreachable(), Disposition.RETRY),
        (Early(), Disposition.RETRY),
        (NotInitialized(), Disposition.RETRY),
        (Permanent(), Disposition.HALT),
        (Halt(State.SCHEMA_MISMATCH, "x", "y"), Disposition.HALT),
        (ConfigError(), Disposition.HALT),
        (KeyError("x"), Disposition.HALT),
    ],
)
def test_every_error_has_a_disposition(error: Exception, expected: Disposition) -> None:
    assert disposition(error) is expected


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UndecodableBatch(), State.UNDECODABLE_BATCH),
        (Unrepresentable(), State.UNREPRESENTABLE_VALUE),
        (TargetRejected(), State.TARGET_REJECTED),
        (ConfigError(), State.PREFLIGHT_FAILED),
        (KeyError("x"), State.UNEXPECTED_ERROR),
        (Halt(State.SCHEMA_MISMATCH, "x", "y"), State.SCHEMA_MISMATCH),
    ],
)
def test_every_halt_has_a_name_and_a_recovery_command(error: Exception, state: State) -> None:
    halt = halt_of(error, "shop-to-reporting")
    assert halt.state is state
    assert "worker-sync resume shop-to-reporting" in halt.recovery


def test_an_early_batch_comes_back_soon_for_some_seconds_only() -> None:
    waits = [EARLY.delay_s(retries) for retries in range(21)]
    assert waits[0] == 0.05
    assert waits[-1] is None
    assert max(wait for wait in waits if wait is not None) == 1.0
    assert 5 < sum(wait for wait in waits if wait is not None) < 10


def test_a_transient_failure_waits_a_random_part_of_a_growing_time() -> None:
    assert [TRANSIENT.delay_s(retries, lambda: 1.0) for retries in range(9)] == [
        0.5,
        1.0,
        2.0,
        4.0,
        8.0,
        16.0,
        20.0,
        20.0,
        None,
    ]
    assert TRANSIENT.delay_s(3, lambda: 0.0) == 0.0
    assert NEVER.delay_s(0) is None
