"""When batches are published again."""

from __future__ import annotations

from tests.unit.capture.builders import applied, insert, lanes, piece, pipeline
from worker_sync.capture.lane import Cut, Lane
from worker_sync.capture.window import FOLLOW_UP_S, MAX_RESEND_AFTER_S, Retransmission


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


def test_a_wiped_broker_is_refilled_in_doubling_bursts() -> None:
    lane, cuts, retransmission = full_lane(100)
    now = 2.1
    sent = retransmission.due(now)
    assert sent == cuts[:1]
    rounds = 1
    total = 1
    while lane.pending:
        applied(lane, sent[-1].upto)
        retransmission.moved(now)
        now += FOLLOW_UP_S + 0.01
        sent = retransmission.due(now)
        rounds += 1
        total += len(sent)
    assert rounds <= 8
    assert total == 100


def test_a_slow_target_gets_one_copy_per_doubled_timeout() -> None:
    _, cuts, retransmission = full_lane(100)
    copies = []
    now = 0.0
    while now < 300:
        now += 0.1
        copies += retransmission.due(now)
    assert set(map(id, copies)) == {id(cuts[0])}
    assert len(copies) <= 10
    assert MAX_RESEND_AFTER_S == 60


def test_when_the_originals_were_alive_the_copies_stop() -> None:
    lane, cuts, retransmission = full_lane(100)
    assert retransmission.due(2.1) == cuts[:1]
    applied(lane, cuts[3].upto)
    retransmission.moved(2.2)
    assert retransmission.due(2.2 + FOLLOW_UP_S + 0.1) == []
    assert retransmission.due(2.2 + 2.1) == [cuts[4]]
