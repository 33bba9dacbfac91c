"""When batches are published again."""

from __future__ import annotations

from tests.unit.capture.builders import applied, insert, lanes, piece, pipeline
from worker_sync.capture.lane import Cut, Lane
from worker_sync.capture.window import MAX_RESEND_AFTER_S, Retransmission


def full_lane(batches: int) -> tuple[Lane, list[Cut], Retransmission]:
    published: list[Cut] = []
    [lane] = lanes(published)
    pipe = pipeline([lane], changes=1)
    retransmission = Retransmission(lane, 2.0)
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
