"""Proofs of inclusion and consistency: made as RFC 6962 defines them, verified by the algorithms of RFC 9162."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from worker_sync.ledger.merkle import HASH_BYTES, complete_subtrees, fold, node_hash

HashOf: TypeAlias = Callable[[int, int], bytes]
"""(level, index) to the hash of that complete subtree; see `worker_sync.ledger.merkle`."""


def subtree_roots(first: int, end: int, hash_of: HashOf) -> list[bytes]:
    """The roots of the fewest complete subtrees over the leaves [first, end), from left to right."""
    return [hash_of(level, index) for level, index in complete_subtrees(first, end)]


def tree_root(size: int, hash_of: HashOf) -> bytes:
    """The root of the tree of the first `size` leaves."""
    return fold(subtree_roots(0, size, hash_of))


def inclusion_proof(index: int, size: int, hash_of: HashOf) -> list[bytes]:
    """That leaf `index` is in the tree of `size` leaves (RFC 6962, 2.1.1). Raises ValueError where it isn't."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    proof: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = _split(first, end)
        if index < middle:
            proof.append(_hash(middle, end, hash_of))
            end = middle
        else:
            proof.append(_hash(first, middle, hash_of))
            first = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, hash_of: HashOf) -> list[bytes]:
    """That the tree of `new` leaves begins with that of `old` (RFC 6962, 2.1.2). Raises ValueError for old > new."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves can't begin with {old}")
    proof: list[bytes] = []
    if old in (0, new):
        return proof
    first, end = 0, new
    while end != old:
        middle = _split(first, end)
        if old <= middle:
            proof.append(_hash(middle, end, hash_of))
            end = middle
        else:
            proof.append(_hash(first, middle, hash_of))
            first = middle
    if first:
        proof.append(_hash(first, end, hash_of))
    return proof[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162, 2.1.3.2: whether `proof` shows `leaf` at `index` of the tree of `size` leaves with `root`."""
    if not 0 <= index < size or not _are_hashes(leaf, *proof):
        return False
    node, last, reached = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            reached = node_hash(sibling, reached)
            node, last = _above_right_edge(node, last)
        else:
            reached = node_hash(reached, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and reached == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162, 2.1.4.2: whether `proof` shows that the tree of `new` leaves begins with that of `old`."""
    if not 0 <= old <= new or not _are_hashes(*proof):
        return False
    if old in (0, new):
        return not proof and (old == 0 or old_root == new_root)
    if not proof:
        return False
    hashes = [*proof] if old & (old - 1) else [old_root, *proof]
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_reached = new_reached = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old_reached = node_hash(sibling, old_reached)
            new_reached = node_hash(sibling, new_reached)
            node, last = _above_right_edge(node, last)
        else:
            new_reached = node_hash(new_reached, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old_reached == old_root and new_reached == new_root


def _are_hashes(*hashes: bytes) -> bool:
    return all(len(hash_) == HASH_BYTES for hash_ in hashes)


def _above_right_edge(node: int, last: int) -> tuple[int, int]:
    """Skip the levels on which `node` has no sibling, being the last of its row."""
    while not node & 1 and node:
        node, last = node >> 1, last >> 1
    return node, last


def _split(first: int, end: int) -> int:
    """Where RFC 6962 divides the leaves [first, end): behind the largest power of two below their number."""
    return first + (1 << (end - first - 1).bit_length() - 1)


def _hash(first: int, end: int, hash_of: HashOf) -> bytes:
    return fold(subtree_roots(first, end, hash_of))
