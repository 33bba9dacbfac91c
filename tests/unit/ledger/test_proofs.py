"""Proofs are those of RFC 6962, and what RFC 9162 verifies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ledger.trees import (
    LEAF_DATA,
    ROOTS,
    Stored,
    naive_path,
    naive_root,
    naive_subproof,
    plain_leaf,
    some_leaves,
)
from worker_sync.ledger.merkle import node_hash
from worker_sync.ledger.proofs import (
    consistency_proof,
    inclusion_proof,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = some_leaves(3000)
STORED = Stored(LEAVES)
PUBLISHED = Stored([plain_leaf(data) for data in LEAF_DATA])
OTHER = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")

# github.com/transparency-dev/merkle, proof/verify_test.go: leaf (from 0), size, proof.
INCLUSION = [
    (0, 1, ""),
    (
        0,
        8,
        (
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
        ),
    ),
    (
        5,
        8,
        (
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
        ),
    ),
    (2, 3, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    (
        1,
        5,
        (
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
        ),
    ),
]
# The same file: old size, new size, proof.
CONSISTENCY = [
    (1, 1, ""),
    (
        1,
        8,
        (
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
        ),
    ),
    (
        6,
        8,
        (
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
        ),
    ),
    (
        2,
        5,
        (
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
        ),
    ),
    (
        6,
        7,
        (
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
        ),
    ),
]


def corrupted(proof: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The ways in which the published tests spoil a proof."""
    for at, hash_ in enumerate(proof):
        yield [*proof[:at], bytes([hash_[0] ^ 8]) + hash_[1:], *proof[at + 1 :]]
    for more in (b"", OTHER):
        yield [more, *proof]
        yield [*proof, more]
    if proof:
        yield [*proof[:-1]]
        yield [proof[0], *proof]
        yield [proof[0], OTHER, *proof[1:]]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, proof: str) -> None:
    hashes, root, leaf = in_hashes(proof), ROOTS[size - 1], plain_leaf(LEAF_DATA[index])
    assert inclusion_proof(index, size, PUBLISHED.hash_of) == hashes
    assert verify_inclusion(index, size, leaf, hashes, root)
    assert not [bad for bad in corrupted(hashes) if verify_inclusion(index, size, leaf, bad, root)]
    for wrong_index, wrong_size in ((index - 1, size), (index + 1, size), (index ^ 2, size), (index, size // 2)):
        assert not verify_inclusion(wrong_index, wrong_size, leaf, hashes, root)
    assert not verify_inclusion(index, size * 2, leaf, hashes, root)
    assert not verify_inclusion(index, size, OTHER, hashes, root)
    assert not verify_inclusion(index, size, leaf, hashes, OTHER)


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_published_consistency_proofs(old: int, new: int, proof: str) -> None:
    hashes, old_root, new_root = in_hashes(proof), ROOTS[old - 1], ROOTS[new - 1]
    assert consistency_proof(old, new, PUBLISHED.hash_of) == hashes
    assert verify_consistency(old, new, old_root, new_root, hashes)
    assert not [bad for bad in corrupted(hashes) if verify_consistency(old, new, old_root, new_root, bad)]
    assert not verify_consistency(old, new, OTHER, new_root, hashes)
    assert not verify_consistency(old, new, old_root, OTHER, hashes)
    if old < new:
        for wrong_old, wrong_new in ((old + 1, new), (old ^ 2, new), (old, new * 2), (old, new // 2)):
            assert not verify_consistency(wrong_old, wrong_new, old_root, new_root, hashes)
        assert not verify_consistency(old, new, new_root, old_root, hashes)


@pytest.mark.parametrize(
    ("old", "new", "old_root", "new_root", "proof", "good"),
    [
        (0, 0, OTHER, ROOTS[0], [], True),
        (0, 1, OTHER, ROOTS[0], [], True),
        (1, 1, ROOTS[0], ROOTS[0], [], True),
        (1, 1, OTHER, ROOTS[0], [], False),
        (1, 0, OTHER, ROOTS[0], [], False),
        (2, 1, OTHER, ROOTS[0], [], False),
        (-1, 1, OTHER, ROOTS[0], [], False),
        (1, 2, OTHER, ROOTS[0], [], False),
        (3, 4, ROOTS[2], ROOTS[3], [], False),
        (0, 1, ROOTS[0], ROOTS[0], [OTHER], False),
        (1, 1, ROOTS[0], ROOTS[0], [OTHER], False),
    ],
)
def test_consistency_of_trivial_sizes(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: list[bytes], good: bool
) -> None:
    assert verify_consistency(old, new, old_root, new_root, proof) is good


def test_every_proof_of_small_trees_is_that_of_the_definition() -> None:
    for size in range(1, 40):
        leaves = LEAVES[:size]
        root = naive_root(leaves)
        assert tree_root(size, STORED.hash_of) == root
        for index in range(size):
            proof = inclusion_proof(index, size, STORED.hash_of)
            assert proof == naive_path(index, leaves)
            assert verify_inclusion(index, size, LEAVES[index], proof, root)
        for old in range(1, size + 1):
            proof = consistency_proof(old, size, STORED.hash_of)
            assert proof == naive_subproof(old, leaves)
            assert verify_consistency(old, size, naive_root(LEAVES[:old]), root, proof)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.data())
def test_proofs_of_any_tree(size: int, data: st.DataObject) -> None:
    part, root = data.draw(st.integers(0, size - 1)), naive_root(LEAVES[:size])
    included, extends = inclusion_proof(part, size, STORED.hash_of), consistency_proof(part, size, STORED.hash_of)
    assert included == naive_path(part, LEAVES[:size])
    assert verify_inclusion(part, size, LEAVES[part], included, root)
    assert verify_consistency(part, size, naive_root(LEAVES[:part]), root, extends)
    other = data.draw(st.integers(0, size - 1))
    assert verify_inclusion(other, size, LEAVES[part], included, root) is (other == part)


@pytest.mark.parametrize("size", [300, 1023, 2047, 2048, 3000])
def test_a_proof_asks_for_few_hashes(size: int) -> None:
    for make in (inclusion_proof, consistency_proof):
        for part in (1, size // 2, size - 1):
            STORED.calls = 0
            make(part, size, STORED.hash_of)
            assert STORED.calls <= 2 * size.bit_length()


@pytest.mark.parametrize(("part", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_what_is_not_in_the_tree_has_no_proof(part: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        inclusion_proof(part, size, STORED.hash_of)
    assert not verify_inclusion(part, size, LEAVES[0], [], LEAVES[0])
    with pytest.raises(ValueError, match="can't begin with"):
        consistency_proof(size + 1, size, STORED.hash_of)


def in_hashes(proof: str) -> list[bytes]:
    return [bytes.fromhex(proof[at : at + 64]) for at in range(0, len(proof), 64)]


def test_bytes_can_not_wander_between_two_hashes() -> None:
    left, right = LEAVES[:2]
    root = naive_root(LEAVES[:2])
    assert verify_inclusion(0, 2, left, [right], root)
    assert not verify_inclusion(0, 2, left + right[:1], [right[1:]], root)
    assert not verify_inclusion(0, 2, left[:-1], [left[-1:] + right], root)


def test_a_proof_does_not_reach_above_the_root() -> None:
    """The roots of larger trees, claimed for smaller sizes, with proofs that have one hash more."""
    assert not verify_inclusion(0, 1, LEAVES[1], [LEAVES[0]], naive_root(LEAVES[:2]))
    above = [node_hash(OTHER, naive_root(LEAVES[:size])) for size in (3, 4)]
    proof = consistency_proof(3, 4, STORED.hash_of)
    assert not verify_consistency(3, 4, above[0], above[1], [*proof, OTHER])
