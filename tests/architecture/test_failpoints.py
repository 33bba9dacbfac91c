"""The places where the fault suite kills processes are there."""

from __future__ import annotations

import pytest

from tests.faults.failpoints import (
    CAPTURE,
    DECISIONS,
    FAILPOINTS,
    PARKING,
    READING_BACK,
    RECORDING,
    SPILLING,
    WORKER,
    Failpoint,
    located,
)


@pytest.mark.parametrize("point", FAILPOINTS.values(), ids=lambda point: point.name)
def test_the_place_of_a_failpoint_exists(point: Failpoint) -> None:
    _, _, place = located(point.place)
    assert callable(place)


def test_no_two_failpoints_have_one_name() -> None:
    assert len(FAILPOINTS) == len((*CAPTURE, *WORKER, *PARKING, *DECISIONS, *SPILLING, *READING_BACK, *RECORDING))
