"""What a replay brings, and which letters are settled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import Mark
from tests.contract.naive import apply_naively, transactions
from tests.contract.sink_target import at, delete, insert, notes, update
from worker_sync.capture.overlay import ChunkRows
from worker_sync.capture.reconcile import settled
from worker_sync.capture.replay import _Unknown, lay_over
from worker_sync.core.change import Change
from worker_sync.core.parking import HeldKey
from worker_sync.core.position import Position
from worker_sync.core.values import UNCHANGED, Key, Row
from worker_sync.store.dead_letters import Place

TABLE = notes()


@given(transactions(), st.integers(0, 8), st.sets(st.integers(1, 5), min_size=1))
def test_a_row_that_is_read_and_laid_over_is_the_row_as_it_is_by_then(
    script: list[list[Change]], read_after: int, asked: set[int]
) -> None:
    rows: dict[Key, Row] = {}
    for changes in script[:read_after]:
        apply_naively(rows, changes)
    brought: ChunkRows = {(key,): rows.get((key,)) for key in asked}
    try:
        for changes in script[read_after:]:
            apply_naively(rows, changes)
            for change in changes:
                lay_over(brought, change, TABLE, TABLE)
    except _Unknown:
        return
    assert brought == {(key,): rows.get((key,)) for key in asked}


def test_a_row_that_moves_in_from_a_key_that_was_not_read_is_read_again() -> None:
    brought: ChunkRows = {(1,): None}
    with pytest.raises(_Unknown):
        lay_over(brought, update((1, "t", UNCHANGED), (2,)), TABLE, TABLE)


def test_a_row_that_appears_or_vanishes_after_the_read_is_brought_along() -> None:
    brought: ChunkRows = {(1,): None, (2,): (2, "b", None)}
    lay_over(brought, insert((1, "a", None)), TABLE, TABLE)
    lay_over(brought, delete((2,)), TABLE, TABLE)
    lay_over(brought, insert((3, "not asked for", None)), TABLE, TABLE)
    assert brought == {(1,): (1, "a", None), (2,): None}


def _place(number: int, commit: int, key: str = "[1]", shard: int | None = 0, chunk: int = 0) -> Place:
    position = Position(at(commit).commit, 1, chunk)
    return Place(number, shard, "public.t", key, str(position))


def _mark(commit: int, *parked: HeldKey) -> Mark:
    return Mark(1, at(commit), "i", parked=frozenset(parked))


def test_letters_of_keys_that_are_not_held_are_settled_up_to_the_watermark() -> None:
    # A letter beyond it may be of an apply that is about to hold its key.
    places = [_place(1, 5), _place(2, 6), _place(3, 5, "[2]")]
    found = settled({0: _mark(5, ("public.t", (2,)))}, places)
    assert [place.id for place in found] == [1]


def test_a_key_that_any_shard_holds_is_held() -> None:
    marks = {0: _mark(9), 1: _mark(9, ("public.t", (1,)))}
    assert list(settled(marks, [_place(1, 5, shard=0)])) == []


def test_a_letter_of_a_shard_that_is_no_more_waits_for_all_that_are() -> None:
    letter = _place(1, 5, shard=7)
    assert list(settled({0: _mark(9), 1: _mark(4)}, [letter])) == []
    assert list(settled({0: _mark(9), 1: _mark(5)}, [letter])) == [letter]
