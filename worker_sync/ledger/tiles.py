"""Hashes of every level from those that are stored: the leaves, and the subtrees that `Frontier.append` reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from worker_sync.ledger.merkle import TILE_HEIGHT, paired
from worker_sync.ledger.proofs import HashOf

ReadHashes: TypeAlias = Callable[[int, int, int], Sequence[bytes]]
"""(level, first, end) to the hashes [first, end) of a stored level: 0 for the leaves, 8, 16, ... for subtrees."""


def hashes_from(read: ReadHashes) -> HashOf:
    """A `hash_of` for proofs that reads at most 128 stored hashes, of one tile, a call.

    Raises LookupError where a hash isn't stored.
    """

    def hash_of(level: int, index: int) -> bytes:
        height = level % TILE_HEIGHT
        first, count = index << height, 1 << height
        hashes = read(level - height, first, first + count)
        if len(hashes) != count:
            raise LookupError(f"of {count} hashes at level {level - height} from {first} on, {len(hashes)} are stored")
        for _ in range(height):
            hashes = paired(hashes)
        return hashes[0]

    return hash_of
