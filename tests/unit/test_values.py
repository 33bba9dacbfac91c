"""UNCHANGED is a value of its own."""

from __future__ import annotations

import copy
import pickle

import pytest

from worker_sync.core.values import UNCHANGED, Unchanged, is_complete, merge


def test_there_is_one_unchanged_however_it_is_made() -> None:
    assert Unchanged() is UNCHANGED
    assert copy.deepcopy(UNCHANGED) is UNCHANGED
    assert pickle.loads(pickle.dumps(UNCHANGED)) is UNCHANGED  # noqa: S301 - made one token before


def test_unchanged_is_neither_null_nor_true_nor_false() -> None:
    assert UNCHANGED is not None
    with pytest.raises(TypeError, match="is UNCHANGED"):
        bool(UNCHANGED)
    assert repr(UNCHANGED) == "UNCHANGED"


def test_merge_takes_only_unchanged_columns_from_the_older_row() -> None:
    assert merge((1, "old", "kept", None), (2, None, UNCHANGED, UNCHANGED)) == (2, None, "kept", None)
    assert merge((1, UNCHANGED), (1, UNCHANGED)) == (1, UNCHANGED)


def test_rows_of_different_width_never_merge() -> None:
    with pytest.raises(ValueError, match="shorter"):
        merge((1, 2), (1,))


def test_a_row_with_nulls_is_complete_and_one_with_unchanged_is_not() -> None:
    assert is_complete((None, 0, ""))
    assert not is_complete((None, UNCHANGED))
