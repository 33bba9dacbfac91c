"""Positions order as the log does and survive being written as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_sync.core.position import BEGINNING, WHOLE, Position

commits = st.text(st.sampled_from("0123456789abcdef/:-, "), max_size=20)
positions = st.builds(Position, commits, st.integers(0, WHOLE), st.integers(0, 1000))


@given(positions)
def test_text_reads_back_as_the_same_position(position: Position) -> None:
    assert Position.parse(str(position)) == position


@given(positions, positions)
def test_order_is_commit_then_ordinal_then_chunk(left: Position, right: Position) -> None:
    as_tuples = (left.commit, left.ordinal, left.chunk) < (right.commit, right.ordinal, right.chunk)
    assert (left < right) == as_tuples


@given(positions)
def test_nothing_is_before_the_beginning(position: Position) -> None:
    assert position >= BEGINNING


def test_the_end_of_a_transaction_is_after_each_of_its_changes_and_before_its_chunks() -> None:
    inside, end, chunk, following = (
        Position("0a", 5),
        Position("0a"),
        Position("0a", WHOLE, 1),
        Position("0b", 1),
    )
    assert inside < end < chunk < following
    assert str(end) == "0a/end/0"


@pytest.mark.parametrize("text", ["", "0a", "0a/1", "0a/x/0", "0a/1/x", "0a/end/", "/1"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"position|invalid literal"):
        Position.parse(text)
