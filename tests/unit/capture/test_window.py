"""When batches are published again."""

from __future__ import annotations

import pytest

from tests.unit.capture.builders import applied, insert, lanes, piece, pipeline
from worker_sync.capture.lane import Cut, Lane
from worker_sync.capture.window import MAX_RESEND_AFTER_S, Retransmission


def full_lane(batches: int, *, looked_at: bool = True) -> tuple[Lane, list[Cut], Retransmission]:
    """A lane with that many pending batches; `looked_at`: also before there was the first."""
    published: list[Cut] = []
    [lane] = lanes(published)
    pipe = pipeline([lane], changes=1)
    retransmission = Retransmission(lane, 2.0)
    if looked_at:
        retransmission.due(0.0)
    for number in range(batches):
        pipe.take(piece(0x20 + number, [insert(1, number)]), 0.0, marker=False)
    return lane, published, retransmission


def test_nothing_is_sent_again_while_the_watermark_moves() -> None:
    lane, cuts, retransmission = full_lane(5)
    now = 0.0
    for cut in cuts:
        now += 1.9
        assert retransmission.due(now) == []
        applied(lane, cut.upto)
        retransmission.moved(now)
    assert retransmission.due(now + 100) == []


def test_a_wiped_broker_is_refilled_once_the_first_copy_has_arrived() -> None:
    lane, cuts, retransmission = full_lane(100)
    assert retransmission.due(2.1) == cuts[:1]
    applied(lane, cuts[0].upto)
    retransmission.moved(2.2)
    assert retransmission.due(2.2) == cuts[1:]
    assert retransmission.due(2.3) == []


@pytest.mark.parametrize("looks", [True, False])
def test_a_batch_lost_after_a_capture_began_is_soon_sent_again_however_long_the_machine_runs(looks: bool) -> None:
    lane, cuts, retransmission = full_lane(5, looked_at=False)
    uptime = 1_000_000.0
    if looks:
        assert retransmission.due(uptime) == []
    applied(lane, cuts[0].upto)
    retransmission.moved(uptime + 0.1)
    assert sent_within(retransmission, uptime + 0.1, 2.2) == [cuts[1]]


def test_a_batch_lost_after_an_outage_is_sent_again_within_a_minute() -> None:
    lane, cuts, retransmission = full_lane(5)
    applied(lane, cuts[0].upto)
    retransmission.moved(36_000.0)
    assert sent_within(retransmission, 36_000.0, 60.0)[0] is cuts[1]


def sent_within(retransmission: Retransmission, now: float, seconds: float) -> list[Cut]:
    """What is sent again in that time, looked at ten times a second."""
    return [cut for tenth in range(int(seconds * 10)) for cut in retransmission.due(now + tenth / 10)]


def test_a_target_that_hangs_gets_one_copy_per_doubled_timeout() -> None:
    _, cuts, retransmission = full_lane(100)
    copies = []
    now = 0.0
    while now < 300:
        now += 0.1
        copies += retransmission.due(now)
    assert set(map(id, copies)) == {id(cuts[0])}
    assert len(copies) <= 300 / MAX_RESEND_AFTER_S + 4


def test_a_target_that_is_slow_but_steady_gets_few_copies() -> None:
    lane, cuts, retransmission = full_lane(100)
    copies: list[Cut] = []
    now = 0.0
    for cut in cuts:
        for _ in range(60):  # six seconds for each batch, three times the timeout
            now += 0.1
            copies += retransmission.due(now)
        applied(lane, cut.upto)
        retransmission.moved(now)
    assert len(copies) < 3 * len(cuts)


def test_holes_in_any_pattern_are_filled_after_one_timeout_each() -> None:
    lane, cuts, retransmission = full_lane(100)
    alive = set(range(0, 100, 7))
    now, rounds = 0.0, 0
    while lane.pending:
        now += 2.1
        rounds += 1
        arrived = {id(cut) for cut in retransmission.due(now)}
        for turn in range(2):
            while lane.pending and (id(lane.pending[0]) in arrived or cuts.index(lane.pending[0]) in alive):
                applied(lane, lane.pending[0].upto)
                retransmission.moved(now)
            arrived = {id(cut) for cut in retransmission.due(now)} if turn == 0 else arrived
    assert rounds == 1
