"""The rows of a ledger's tables against themselves and each other: what `EntryCheck` is for the lines of an export.

A row has its number, its leaf hash and its entry's bytes, so each row can lie in more ways than a line: what stands at
a number may be another entry, its leaf may be that of other bytes, and what is searched of it may be made up. Rows give
leaves to the tree where they are those of their place; where none is, there is a hole. Whether a leaf is that of the
tree is decided by what is signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from worker_sync.ledger.entries import GAP_FOUND, GAP_KIND
from worker_sync.ledger.export import number as to_number
from worker_sync.ledger.findings import Findings, Kind
from worker_sync.ledger.merkle import leaf_hash
from worker_sync.ledger.searched import Said, StoredRow, differing, said

#: More rows that stand elsewhere, and more holes, are only counted.
_REMEMBERED: Final = 100_000
UNEQUAL: Final = "its bytes and its leaf hash don't belong together"


class _Numbered(msgspec.Struct):
    number: str


_decode_number: Final = msgspec.json.Decoder(_Numbered).decode


class Elsewhere(NamedTuple):
    """An entry that stands at another number than its own."""

    at: int
    leaf: bytes


class RowCheck:
    """Looks at rows range by range. `intact` counts rows of their place with the bytes of their leaf."""

    def __init__(self, first: int, end: int, findings: Findings) -> None:
        self.findings = findings
        self.intact = 0
        #: By the number of its own, what stands elsewhere.
        self.elsewhere: dict[int, list[Elsewhere]] = {}
        #: Other leaves that may be the tree's: of the entry's bytes where they differ, or of a second row.
        self.doubts: dict[int, list[bytes]] = {}
        self.holes: set[int] = set()
        self._strange: dict[int, tuple[int, bytes]] = {}
        self._first = first
        self._end = end

    def range(self, first: int, end: int, rows: Sequence[StoredRow]) -> list[bytes | None]:
        """The leaves of the places [first, end), given the rows of these numbers in order; None for a hole."""
        leaves: list[bytes | None] = [None] * (end - first)
        for row in rows if len({row[0] for row in rows}) == len(rows) else self._without_doubles(rows):
            leaves[row[0] - first] = self._row(row)
        for hole in (first + at for at, leaf in enumerate(leaves) if leaf is None):
            self._hole(hole)
        return leaves

    def stray(self, rows: Iterable[StoredRow]) -> None:
        """Rows of numbers that the tree has no place for."""
        for number, leaf, entry, *_ in rows:
            hash_, own = leaf_hash(entry.encode()), _own(entry)
            if hash_ == leaf and own is not None and self._first <= own < self._end:
                self._remember(own, Elsewhere(number, leaf))
            else:
                self.findings.add(Kind.INSERTED, "the tree has no place for it", number)

    def fill(self, first: int, leaves: list[bytes | None]) -> None:
        """Put leaves of entries that are known to stand elsewhere into the holes of their places."""
        for at in [at for at, leaf in enumerate(leaves) if leaf is None]:
            found = self.elsewhere.get(first + at)
            if found:
                leaves[at] = found[0].leaf

    def settle(self, leaf_of: Callable[[int], bytes | None], forged: set[int]) -> None:
        """Say what became of holes and of what stands elsewhere, once all rows were read. `leaf_of` finds the leaf of
        a place, `forged` are places where what stands elsewhere is not what the tree has."""
        self._settle_strange(leaf_of)
        for own, found in sorted(self.elsewhere.items()):
            for index, there in enumerate(found):
                self._settle_elsewhere(own, there, leaf_of, forged, first=index == 0)
        for hole in sorted(self.holes):
            self.findings.add(Kind.MISSING, "the entry is not there", hole)

    def _row(self, row: StoredRow) -> bytes | None:
        """The leaf that a row gives to its place."""
        number: int = row[0]
        leaf: bytes = row[1]
        body: str = row[2]
        hash_, entry = leaf_hash(body.encode()), said(body)
        if hash_ == leaf and entry is not None and entry.number == str(number):
            self._known(row, entry)
            return leaf
        own = _own(body)
        if hash_ == leaf and own == number:
            self.intact += 1
            self.findings.add(Kind.ALTERED, "it is no entry", number)
            return leaf
        if hash_ == leaf and own is None:
            self.findings.add(Kind.MOVED, "the tree has it here, its own number is none", number)
            return leaf
        if hash_ == leaf and own is not None:
            self._remember(own, Elsewhere(number, leaf))
            return None
        self.doubts.setdefault(number, []).append(hash_)
        if own is not None and own != number and len(self._strange) < _REMEMBERED:
            self._strange[number] = own, hash_
        else:
            self.findings.add(Kind.ALTERED, UNEQUAL, number)
        return leaf

    def _known(self, row: StoredRow, entry: Said) -> None:
        self.intact += 1
        if entry.kind == GAP_KIND:
            self.findings.add(Kind.GAP, GAP_FOUND, row[0])
        if names := differing(row, entry):
            detail = f"what is searched is not what the entry says: {', '.join(names)}"
            self.findings.add(Kind.ALTERED, detail, row[0])

    def _without_doubles(self, rows: Sequence[StoredRow]) -> list[StoredRow]:
        """One row of each number: the first that says of itself what is so. The others have no place."""
        kept = []
        for number, group in groupby(rows, key=itemgetter(0)):
            best, *others = sorted(group, key=lambda row: not _is_sound(row))
            kept.append(best)
            for other in others:
                self.doubts.setdefault(number, []).append(other[1])
                self.findings.add(Kind.INSERTED, "another row has its number", number)
        return kept

    def _hole(self, number: int) -> None:
        if len(self.holes) < _REMEMBERED:
            self.holes.add(number)
        else:
            self.findings.add(Kind.MISSING, "the entry is not there", number)

    def _remember(self, own: int, there: Elsewhere) -> None:
        if len(self.elsewhere) < _REMEMBERED:
            self.elsewhere.setdefault(own, []).append(there)
        else:
            self.findings.add(Kind.INSERTED, "the tree has no place for it", there.at)

    def _settle_strange(self, leaf_of: Callable[[int], bytes | None]) -> None:
        """Rows with a leaf of other bytes, whose bytes name another place: the bytes may be those of that place."""
        for number, (own, hash_) in self._strange.items():
            if not self._first <= own < self._end or leaf_of(own) != hash_:
                self.findings.add(Kind.ALTERED, UNEQUAL, number)
            elif own in self._strange:
                self.findings.add(Kind.MOVED, f"the entry stands at {number}", own)
            else:
                self.findings.add(Kind.MISSING, "the entry is not there", number)
                self.findings.add(Kind.INSERTED, f"the entry is there again, at {number}", own)

    def _settle_elsewhere(
        self, own: int, there: Elsewhere, leaf_of: Callable[[int], bytes | None], forged: set[int], *, first: bool
    ) -> None:
        if own in self.holes and first:
            self.holes.discard(own)
            if own in forged:
                self.findings.add(Kind.ALTERED, f"what stands at {there.at} in its name is not what the tree has", own)
            else:
                self.findings.add(Kind.MOVED, f"the entry stands at {there.at}", own)
        elif self._first <= own < self._end and leaf_of(own) == there.leaf:
            self.findings.add(Kind.INSERTED, f"the entry is there again, at {there.at}", own)
        elif there.at in self.holes:
            self.holes.discard(there.at)
            self.findings.add(Kind.ALTERED, "its bytes are not those that the tree has", there.at)
        else:
            self.findings.add(Kind.INSERTED, "the tree has no place for it", there.at)


def _is_sound(row: StoredRow) -> bool:
    entry = said(row[2])
    is_own = entry is not None and to_number(entry.number) == row[0] and leaf_hash(row[2].encode()) == row[1]
    return is_own and entry is not None and not differing(row, entry)


def _own(entry: str) -> int | None:
    """The number that an entry of any shape says it has."""
    try:
        own = _decode_number(entry).number
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    return to_number(own)
