"""A tree that grows from leaves with holes, beside the subtrees that are stored of it.

There are two ways to say what the tree is: by its leaves, and by the stored roots of subtrees of 256 leaves, where a
hole in a subtree is no obstacle. Both are kept up as long as they can be; what is signed decides between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from worker_sync.ledger.merkle import TILE_HEIGHT, Frontier, Subtree, paired

#: Leaves of a subtree that is stored.
TILE: Final = 1 << TILE_HEIGHT
#: Subtrees with holes whose leaves are kept in memory until the end.
_KEPT: Final = 1000

Leaves: TypeAlias = Sequence[bytes | None]
Stored: TypeAlias = Mapping[tuple[int, int], bytes]
"""Subtrees by level and index."""
Doubts: TypeAlias = Mapping[int, list[bytes]]
"""Other leaves that may be the tree's, by number."""


@dataclass(slots=True)
class Grown:
    """What came of it. `by_leaves` and `by_stored` are roots by size, as far as they are known; `disputed` the subtrees
    whose stored root is not that of the leaves; `lost` those at levels 8, 16, ... that are not stored; `torn` leaves of
    subtrees with holes, by index; `corrected` leaves that the stored subtree proves to be other than what was read."""

    by_leaves: dict[int, bytes] = field(default_factory=dict)
    by_stored: dict[int, bytes] = field(default_factory=dict)
    disputed: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    torn: dict[int, list[bytes | None]] = field(default_factory=dict)
    corrected: set[int] = field(default_factory=set)


class Growing:
    """Grows both views from one frontier over `stops`, the sizes whose roots are wanted."""

    def __init__(self, start: Frontier, stops: Iterable[int]) -> None:
        self.grown = Grown()
        self._stops = sorted(stop for stop in set(stops) if stop >= start.size)
        self._size = start.size
        self._leaves: Frontier | None = start
        #: None as long as it is the same tree as that of the leaves.
        self._stored: Frontier | None = None
        self._parted = False
        self._stop_here()

    @property
    def tree(self) -> Frontier | None:
        """The tree of the leaves; None where it can't be told."""
        return self._leaves

    @property
    def stored_tree(self) -> Frontier | None:
        """The tree of the stored subtrees and the leaves behind them; None where it can't be told."""
        return self._stored if self._parted else self._leaves

    def append(self, leaves: Leaves, stored: Stored, doubts: Doubts) -> None:
        """The next leaves, up to the end of a subtree or of the tree. `stored` are subtrees by level and index that
        they complete, `doubts` other leaves that may be the tree's by number."""
        whole = [leaf for leaf in leaves if leaf is not None]
        if len(whole) == len(leaves) and not self._parted and self._leaves is not None and self._quick(whole, stored):
            return
        at = 0
        while at < len(leaves):
            count = TILE - (self._size % TILE)
            self._tile(list(leaves[at : at + count]), stored, doubts)
            at += count

    def _quick(self, leaves: list[bytes], stored: Stored) -> bool:
        """Grow by what agrees with the stored subtrees; False, and nothing done, where it doesn't."""
        assert self._leaves is not None
        tree, roots = Frontier(self._size, self._leaves.roots), dict[int, bytes]()
        end, at = self._size + len(leaves), 0
        for stop in [*(stop for stop in self._stops if stop < end), end]:
            completed = tree.append(leaves[at : stop - self._size])
            at = stop - self._size
            if any(stored.get((node.level, node.index)) != node.hash for node in completed):
                return False
            roots[stop] = tree.root
        self._leaves, self._size = tree, end
        for stop in self._due():
            self.grown.by_leaves[stop] = self.grown.by_stored[stop] = roots[stop]
        return True

    def _tile(self, leaves: list[bytes | None], stored: Stored, doubts: Doubts) -> None:
        if not self._parted:
            self._parted = True
            self._stored = self._leaves
        first, whole = self._size, (self._size + len(leaves)) % TILE == 0
        index = first >> TILE_HEIGHT
        kept = stored.get((TILE_HEIGHT, index)) if whole else None
        if whole and kept is not None:
            self._correct(leaves, kept, doubts)
        self._within(leaves)
        own = self._own(leaves) if whole else None
        if None in leaves and len(self.grown.torn) < _KEPT:
            self.grown.torn[index] = leaves
        if own is not None and kept is not None and own != kept:
            self.grown.disputed.append((TILE_HEIGHT, index))
        if whole and kept is None:
            self.grown.lost.append((TILE_HEIGHT, index))
        self._leaves = self._grow(self._leaves, leaves, own or kept, stored)
        self._stored = self._grow(self._stored, leaves, kept or own, None)
        self._size = first + len(leaves)
        self._stop_here()

    def _own(self, leaves: Sequence[bytes | None]) -> bytes | None:
        """The root of the subtree that these leaves complete; None with holes."""
        hashes = [leaf for leaf in leaves if leaf is not None]
        if len(hashes) != len(leaves):
            return None
        if len(hashes) < TILE:
            # The first subtree of a range that begins within it: what is left of it stands in the frontier.
            if self._leaves is None:
                return None
            completed = Frontier(self._leaves.size, self._leaves.roots).append(hashes)
            return next(node.hash for node in completed if node.level == TILE_HEIGHT)
        for _ in range(TILE_HEIGHT):
            hashes = paired(hashes)
        return hashes[0]

    def _grow(
        self,
        tree: Frontier | None,
        leaves: Sequence[bytes | None],
        root: bytes | None,
        stored: Stored | None,
    ) -> Frontier | None:
        """`tree` with one more subtree, or with single leaves behind the last one; None where they aren't known."""
        if tree is None:
            return None
        if root is not None:
            upper, completed = _with_subtree(tree, root)
            if stored is not None:
                self._compare_upper(completed, stored)
            return upper
        hashes = [leaf for leaf in leaves if leaf is not None]
        if len(hashes) != len(leaves):
            return None
        grown = Frontier(tree.size, tree.roots)
        grown.append(hashes)
        return grown

    def _compare_upper(self, completed: Iterable[Subtree], stored: Stored) -> None:
        for node in completed:
            kept = stored.get((node.level, node.index))
            if kept is None:
                self.grown.lost.append((node.level, node.index))
            elif kept != node.hash:
                self.grown.disputed.append((node.level, node.index))

    def _correct(self, leaves: list[bytes | None], kept: bytes, doubts: Doubts) -> None:
        """Where the leaves don't give the stored root, but do with other ones that were doubtful, take those."""
        places = [at for at in range(len(leaves)) if self._size + at in doubts]
        if not places or self._own(leaves) in (kept, None):
            return
        every = list(leaves)
        for at in places:
            every[at] = doubts[self._size + at][0]
        singles = [_replaced(leaves, at, other) for at in places for other in doubts[self._size + at]]
        for candidate in [every, *singles]:
            if self._own(candidate) == kept:
                changed = {self._size + at for at in places if candidate[at] != leaves[at]}
                self.grown.corrected |= changed
                leaves[:] = candidate
                return

    def _within(self, leaves: Sequence[bytes | None]) -> None:
        """Roots at stops inside of a subtree."""
        for stop in [stop for stop in self._stops if stop < self._size + len(leaves)]:
            before = [leaf for leaf in leaves[: stop - self._size] if leaf is not None]
            if len(before) == stop - self._size:
                for tree, roots in self._views():
                    if tree is not None:
                        grown = Frontier(tree.size, tree.roots)
                        grown.append(before)
                        roots[stop] = grown.root
            self._stops.remove(stop)

    def _views(self) -> list[tuple[Frontier | None, dict[int, bytes]]]:
        return [(self._leaves, self.grown.by_leaves), (self.stored_tree, self.grown.by_stored)]

    def _due(self) -> list[int]:
        due = [stop for stop in self._stops if stop <= self._size]
        self._stops = self._stops[len(due) :]
        return due

    def _stop_here(self) -> None:
        for stop in self._due():
            for tree, roots in self._views():
                if tree is not None:
                    roots[stop] = tree.root


def _with_subtree(tree: Frontier, root: bytes) -> tuple[Frontier, list[Subtree]]:
    """A tree with the subtree that it is about to complete, or to begin, and subtrees above that are complete with it.

    A tree of whole subtrees is a tree whose leaves are these.
    """
    count = tree.size >> TILE_HEIGHT
    upper = Frontier(count, tree.roots[: count.bit_count()])
    above = [Subtree(node.level + TILE_HEIGHT, node.index, node.hash) for node in upper.append([root])]
    return Frontier(upper.size << TILE_HEIGHT, upper.roots), above


def _replaced(leaves: Sequence[bytes | None], at: int, leaf: bytes) -> list[bytes | None]:
    return [*leaves[:at], leaf, *leaves[at + 1 :]]
