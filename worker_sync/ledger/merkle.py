"""The Merkle tree of RFC 6962: hashes, and a frontier that grows by appending.

A leaf's data is the SHA-256 of an entry's canonical bytes, as tlog tiles limit an entry to 65,535 bytes. The hash at
(level, index) is the root of the complete subtree over the leaves [index << level, (index + 1) << level).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
#: Levels between stored hashes: C2SP tlog-tiles has 256 hashes in a tile.
TILE_HEIGHT: Final = 8

_SIZE_BYTES: Final = 8


def leaf_hash(canonical_bytes: bytes) -> bytes:
    """The leaf of an entry with these canonical bytes."""
    return sha256(b"\0" + sha256(canonical_bytes).digest()).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Subtree:
    """The root of a complete subtree, at a level that is a multiple of TILE_HEIGHT.

    Hash n of tile (L, N) is the one at level 8 * L with index 256 * N + n; level 0 are the leaves themselves. So a
    subtree at level 8 * (L + 1) says that tile L with its index is complete, too.
    """

    level: int
    index: int
    hash: bytes


def complete_subtrees(first: int, end: int) -> Iterator[tuple[int, int]]:
    """(level, index) of the fewest complete subtrees that cover the leaves [first, end), from left to right."""
    while first < end:
        level = (end - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        yield level, first >> level
        first += 1 << level


def fold(roots: Sequence[bytes]) -> bytes:
    """The root over complete subtrees of falling size, given from left to right."""
    if not roots:
        return EMPTY_ROOT
    root = roots[-1]
    for left in reversed(roots[:-1]):
        root = node_hash(left, root)
    return root


class Frontier:
    """The right edge of a tree: its size and the roots of its complete subtrees, largest first. One hash a leaf."""

    __slots__ = ("_roots", "size")

    def __init__(self, size: int = 0, roots: Iterable[bytes] = ()) -> None:
        self.size = size
        self._roots = list(roots)
        if size < 0 or len(self._roots) != size.bit_count() or any(len(root) != HASH_BYTES for root in self._roots):
            raise ValueError(f"a tree of {size} leaves has other roots")

    @property
    def roots(self) -> tuple[bytes, ...]:
        return tuple(self._roots)

    @property
    def root(self) -> bytes:
        """The tree's root hash."""
        return fold(self._roots)

    def append(self, leaf_hashes: Iterable[bytes]) -> list[Subtree]:
        """Add leaves at the right; the subtrees at levels 8, 16, ... that became complete, lowest level first."""
        nodes = list(leaf_hashes)
        if any(len(node) != HASH_BYTES for node in nodes):
            raise ValueError(f"a leaf hash has {HASH_BYTES} bytes")
        before, self.size = self.size, self.size + len(nodes)
        left_over: list[bytes] = []
        completed: list[Subtree] = []
        level = 0
        while nodes:
            if before >> level & 1:
                nodes.insert(0, self._roots.pop())
            if len(nodes) & 1:
                left_over.append(nodes.pop())
            nodes = paired(nodes)
            level += 1
            if level % TILE_HEIGHT == 0:
                start = before >> level
                completed += [Subtree(level, index, node) for index, node in enumerate(nodes, start)]
        self._roots += reversed(left_over)
        return completed

    def to_bytes(self) -> bytes:
        """The size, 8 bytes big-endian, and the roots."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self._roots)

    @classmethod
    def from_bytes(cls, data: bytes) -> Frontier:
        """Raises ValueError for bytes that are no frontier."""
        return cls(int.from_bytes(data[:_SIZE_BYTES], "big"), split_hashes(data[_SIZE_BYTES:]))


def split_hashes(data: bytes) -> list[bytes]:
    """The hashes that stand one behind the other in `data`; a torn one stands last."""
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def paired(nodes: Sequence[bytes]) -> list[bytes]:
    """The row above `nodes`, an even number of them."""
    pairs = iter(nodes)
    return [sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
