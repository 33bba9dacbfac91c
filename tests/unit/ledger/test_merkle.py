"""The tree is that of RFC 6962, however it is grown."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ledger.trees import LEAF_DATA, ROOTS, naive_root, plain_leaf, some_leaves
from worker_sync.ledger.merkle import EMPTY_ROOT, Frontier, Subtree, complete_subtrees, leaf_hash, node_hash
from worker_sync.ledger.tiles import hashes_from

LEAVES = some_leaves(2000)


def test_the_published_hashes_of_rfc_6962() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert plain_leaf(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    node = "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    assert node_hash(b"N123", b"N456").hex() == node


def test_the_leaf_of_an_entry_is_over_its_digest() -> None:
    assert leaf_hash(b"{}") == plain_leaf(sha256(b"{}").digest())


def test_the_published_roots_of_growing_trees() -> None:
    frontier = Frontier()
    for data, root in zip(LEAF_DATA, ROOTS, strict=True):
        frontier.append([plain_leaf(data)])
        assert frontier.root == root


def test_the_root_is_that_of_the_definition_for_every_size() -> None:
    frontier = Frontier()
    assert frontier.root == EMPTY_ROOT
    for size in range(1, 301):
        assert frontier.append(LEAVES[size - 1 : size]) == (
            [Subtree(8, 0, naive_root(LEAVES[:256]))] if size == 256 else []
        )
        assert (frontier.size, frontier.root) == (size, naive_root(LEAVES[:size]))


@settings(deadline=None)
@given(st.lists(st.integers(0, 700), max_size=6))
def test_batches_of_any_size_grow_the_same_tree(batches: list[int]) -> None:
    frontier, completed, size = Frontier(), [], 0
    for batch in batches:
        batch = min(batch, len(LEAVES) - size)
        completed += frontier.append(LEAVES[size : size + batch])
        size += batch
        frontier = Frontier.from_bytes(frontier.to_bytes())
    assert (frontier.size, frontier.root) == (size, naive_root(LEAVES[:size]))
    whole = range(0, size - 255, 256)
    assert completed == [Subtree(8, at >> 8, naive_root(LEAVES[at : at + 256])) for at in whole]


def test_levels_above_complete_too() -> None:
    leaf, size = LEAVES[0], (1 << 16) + 3
    root = leaf
    for _ in range(16):
        root = node_hash(root, root)
    frontier = Frontier()
    completed = frontier.append([leaf] * 70) + frontier.append([leaf] * (size - 70))
    assert [(node.level, node.index) for node in completed] == [*((8, index) for index in range(256)), (16, 0)]
    assert completed[-1].hash == frontier.roots[0] == root


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_range_is_covered_by_complete_subtrees_without_a_gap(first: int, length: int) -> None:
    covered = first
    for level, index in complete_subtrees(first, first + length):
        assert index << level == covered
        covered = (index + 1) << level
    assert covered == first + length
    assert len(list(complete_subtrees(first, first + length))) <= 2 * max(1, length.bit_length())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", None),
        ((1).to_bytes(8, "big"), "1 leaves has other roots"),
        ((1).to_bytes(8, "big") + bytes(31), "other roots"),
        ((1).to_bytes(8, "big") + bytes(64), "other roots"),
        ((3).to_bytes(8, "big") + bytes(64), None),
    ],
)
def test_bytes_that_are_no_frontier_are_refused(data: bytes, error: str | None) -> None:
    if error is None:
        assert len(Frontier.from_bytes(data).roots) == len(data) // 32
        return
    with pytest.raises(ValueError, match=error):
        Frontier.from_bytes(data)


def test_a_leaf_of_another_length_is_refused_and_changes_nothing() -> None:
    frontier = Frontier()
    frontier.append(LEAVES[:5])
    with pytest.raises(ValueError, match="32 bytes"):
        frontier.append([LEAVES[0], b"short"])
    assert (frontier.size, frontier.root) == (5, naive_root(LEAVES[:5]))


def test_a_hash_that_is_not_stored_is_an_error() -> None:
    row = {0: LEAVES[:5]}
    hash_of = hashes_from(lambda level, first, end: row[level][first:end])
    assert hash_of(2, 0) == naive_root(LEAVES[:4])
    with pytest.raises(LookupError, match="of 2 hashes at level 0 from 4 on, 1 are stored"):
        hash_of(1, 2)
