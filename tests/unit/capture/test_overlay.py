"""A snapshot chunk meets the changes that its snapshot did not see."""

from __future__ import annotations

from tests.unit.capture.builders import ITEMS, ITEMS_ID, info, insert
from worker_sync.capture.overlay import ChunkRows, Overlay, lay_over
from worker_sync.core.change import Change, Op
from worker_sync.core.values import UNCHANGED


def update(key: int, name: object, body: object, old: int | None = None) -> Change:
    return Change(1, Op.UPDATE, ITEMS_ID, None if old is None else (old,), None, (key, name, body))


def rows() -> ChunkRows:
    return {(1,): (1, "one", "big1"), (2,): (2, "two", "big2")}


def test_a_partial_update_fills_its_unchanged_column_from_the_chunk() -> None:
    chunk = rows()
    lay_over(chunk, update(1, "uno", UNCHANGED), ITEMS)
    assert chunk[(1,)] == (1, "uno", "big1")


def test_a_deleted_row_leaves_the_chunk_and_does_not_come_back_with_an_insert() -> None:
    chunk = rows()
    lay_over(chunk, Change(1, Op.DELETE, ITEMS_ID, (1,), None, None), ITEMS)
    lay_over(chunk, insert(2, 1), ITEMS)
    assert (1,) not in chunk


def test_a_row_that_moved_takes_its_large_column_along() -> None:
    chunk = rows()
    lay_over(chunk, update(9, "one", UNCHANGED, old=1), ITEMS)
    assert chunk == {(9,): (9, "one", "big1"), (2,): (2, "two", "big2")}


def test_rows_of_other_chunks_stay_out() -> None:
    chunk = rows()
    lay_over(chunk, update(5, "five", "big5"), ITEMS)
    assert chunk == rows()


def test_a_truncate_empties_the_chunk() -> None:
    chunk = rows()
    lay_over(chunk, Change(1, Op.TRUNCATE, ITEMS_ID, None, None, None), ITEMS)
    assert chunk == {}


def test_a_deletion_candidate_that_was_inserted_meanwhile_stays() -> None:
    chunk: ChunkRows = {(1,): None, (2,): None}
    lay_over(chunk, insert(1, 1), ITEMS)
    assert chunk == {(2,): None}


def test_changes_that_a_snapshot_saw_are_forgotten_and_others_kept() -> None:
    overlay = Overlay()
    overlay.observe(info(1), update(1, "seen", "x"), ITEMS)
    overlay.observe(info(2), update(2, "unseen", "y"), ITEMS)
    overlay.forget(lambda transaction: transaction.xid == "1")
    chunk = rows()
    overlay.lay_over(chunk, ITEMS)
    assert chunk == {(1,): (1, "one", "big1"), (2,): (2, "unseen", "y")}
    assert [transaction.xid for transaction in overlay.transactions()] == ["2"]
