"""How transactions become batches: chain, boundaries, shards and barriers."""

from __future__ import annotations

from tests.unit.capture.builders import ITEMS_ID, applied, commit, info, insert, lanes, piece, pipeline
from worker_sync.capture.lane import Cut
from worker_sync.capture.pipeline import UNDER_WAY, shard_of
from worker_sync.core.change import Change, Op
from worker_sync.core.codec import decode
from worker_sync.core.position import WHOLE, Position


def test_batches_form_a_chain_without_gaps_and_end_at_transaction_boundaries() -> None:
    published: list[Cut] = []
    pipe = pipeline(lanes(published), changes=3)
    for number in range(0x20, 0x28):
        pipe.take(piece(number, [insert(1, number), insert(2, number + 100)]), 0.0, marker=False)
    pipe.flush()
    assert [cut.upto for cut in published] == [Position(commit(n)) for n in (0x21, 0x23, 0x25, 0x27)]
    assert [cut.after for cut in published[1:]] == [cut.upto for cut in published[:-1]]
    batches = [decode(cut.data) for cut in published]
    assert not any(batch.split for batch in batches)
    assert [len(batch.changes) for batch in batches] == [4, 4, 4, 4]


def test_a_transaction_larger_than_a_batch_is_split_and_says_so() -> None:
    published: list[Cut] = []
    pipe = pipeline(lanes(published), changes=3)
    pipe.take(piece(0x20, [insert(1, 1)]), 0.0, marker=False)
    pipe.take(piece(0x30, [insert(n, n) for n in (1, 2, 3)], last=False), 0.0, marker=False)
    pipe.take(piece(0x30, [insert(n, n) for n in (4, 5, 6)], last=False), 0.0, marker=False)
    pipe.take(piece(0x30, [], last=True), 0.0, marker=False)
    pipe.flush()
    assert [(cut.upto.commit, cut.upto.ordinal) for cut in published] == [
        (commit(0x20), WHOLE),
        (commit(0x30), 3),
        (commit(0x30), 6),
        (commit(0x30), WHOLE),
    ]
    assert [decode(cut.data).split for cut in published] == [False, True, True, False]


def test_what_the_watermark_covers_is_not_sent_again_after_a_restart() -> None:
    published: list[Cut] = []
    [lane] = lanes(published)
    applied(lane, Position(commit(0x30), 2))
    lane.tail = lane.mark.position
    pipe = pipeline([lane], changes=100)
    pipe.take(piece(0x20, [insert(1, 1)]), 0.0, marker=False)
    pipe.take(piece(0x30, [insert(n, n) for n in (1, 2, 3)]), 0.0, marker=False)
    pipe.take(piece(0x40, [insert(1, 9)]), 0.0, marker=False)
    pipe.flush()
    [cut] = published
    assert cut.after == Position(commit(0x30), 2)
    assert [(c.ordinal, c.after) for c in decode(cut.data).changes] == [(3, (3, "n", "b")), (1, (9, "n", "b"))]


def test_only_whole_transactions_may_be_confirmed() -> None:
    published: list[Cut] = []
    [lane] = lanes(published)
    pipe = pipeline([lane], changes=2)
    pipe.take(piece(0x20, [insert(1, 1)]), 0.0, marker=False)
    pipe.take(piece(0x30, [insert(1, 1), insert(2, 2)], last=False), 0.0, marker=False)
    assert lane.safe_commit(commit(0x20)) == commit(0x10)
    applied(lane, published[0].upto)
    assert lane.safe_commit(commit(0x20)) == commit(0x20)
    applied(lane, published[1].upto)
    pipe.take(piece(0x30, [insert(3, 3)]), 0.0, marker=False)
    assert lane.safe_commit(commit(0x30)) == commit(0x20)
    pipe.flush()
    applied(lane, published[2].upto)
    assert lane.safe_commit(commit(0x35)) == commit(0x35)


def test_a_marker_moves_every_lane_though_nothing_is_for_it() -> None:
    published: list[Cut] = []
    pipe = pipeline(lanes(published, 3))
    pipe.take(piece(0x20, []), 0.0, marker=True)
    pipe.flush()
    assert [cut.upto for cut in published] == [Position(commit(0x20))] * 3


def test_a_key_keeps_its_lane() -> None:
    published: list[Cut] = []
    pipe = pipeline(lanes(published, 4), changes=1000)
    pipe.take(piece(0x20, [insert(n, n % 10) for n in range(1, 101)]), 0.0, marker=False)
    pipe.flush()
    for cut in published:
        assert {shard_of((c.after[0],), 4) for c in decode(cut.data).changes if c.after} == {cut.lane.shard}


def test_a_truncate_waits_for_all_lanes_and_all_lanes_wait_for_it() -> None:
    published: list[Cut] = []
    made = lanes(published, 2)
    pipe = pipeline(made, changes=1000)
    truncate = Change(3, Op.TRUNCATE, ITEMS_ID, None, None, None)
    keys = [next(k for k in range(100) if shard_of((k,), 2) == shard) for shard in (0, 1)]
    before = [insert(n, key) for n, key in enumerate(keys, 1)]
    after = [insert(n, key) for n, key in enumerate(keys, 4)]
    pipe.take(piece(0x20, [*before, truncate, *after]), 0.0, marker=False)
    assert pipe.blocked
    assert len(published) == 2
    applied(made[0], made[0].tail)
    pipe.proceed()
    assert len(published) == 2
    applied(made[1], made[1].tail)
    pipe.proceed()
    assert [decode(cut.data).changes[0].op for cut in published[2:]] == [Op.TRUNCATE]
    assert pipe.blocked
    applied(made[0], made[0].tail)
    pipe.proceed()
    assert not pipe.blocked
    pipe.flush()
    assert len(published) == 5
    assert {cut.upto for cut in published[3:]} == {Position(commit(0x20))}


def test_a_change_leaves_at_once_when_nothing_is_under_way_and_lingers_otherwise() -> None:
    published: list[Cut] = []
    pipe = pipeline(lanes(published), changes=1000, linger_s=0.01)
    pipe.take(piece(0x20, [insert(1, 1)]), 5.0, marker=False)
    assert pipe.cut_due(5.0) is None
    assert len(published) == 1
    pipe.take(piece(0x21, [insert(1, 2)]), 5.0, marker=False)
    wait = pipe.cut_due(5.004)
    assert wait is not None
    assert 0.005 < wait < 0.007
    assert pipe.cut_due(5.02) is None
    assert len(published) == 2


def test_with_enough_batches_under_way_the_open_one_waits_until_one_has_arrived() -> None:
    published: list[Cut] = []
    [lane] = lanes(published)
    pipe = pipeline([lane], changes=1000, linger_s=0.01, max_linger_s=1.0)
    for number in range(UNDER_WAY + 1):
        pipe.take(piece(0x20 + number, [insert(1, number)]), number, marker=False)
        pipe.cut_due(number + 0.02)
    assert len(published) == UNDER_WAY

    applied(lane, published[0].upto)
    pipe.cut_due(UNDER_WAY + 0.02)

    assert len(published) == UNDER_WAY + 1


def test_no_batch_waits_longer_than_the_longest_linger() -> None:
    published: list[Cut] = []
    pipe = pipeline(lanes(published), changes=1000, linger_s=0.01, max_linger_s=1.0)
    for number in range(UNDER_WAY + 1):
        pipe.take(piece(0x20 + number, [insert(1, number)]), number, marker=False)
        pipe.cut_due(number + 0.02)

    pipe.cut_due(UNDER_WAY + 1.0)

    assert len(published) == UNDER_WAY + 1


def test_an_empty_split_end_closes_the_position() -> None:
    published: list[Cut] = []
    [lane] = lanes(published)
    pipe = pipeline([lane], changes=1)
    pipe.take(piece(0x20, [insert(1, 1)], last=False), 0.0, marker=False)
    pipe.take(piece(0x20, []), 0.0, marker=False)
    pipe.flush()
    assert lane.tail == Position(info(0x20).commit)
