"""The entries of an export against its leaf hashes, line by line, in the memory of one entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from worker_sync.ledger.export import number
from worker_sync.ledger.findings import Findings, Kind
from worker_sync.ledger.merkle import HASH_BYTES, leaf_hash

Progress: TypeAlias = Callable[[str, int, int], None]
"""(what is being read, leaves or entries done, of how many)."""

PROGRESS_EVERY: Final = 1 << 14
#: The kind of an entry that says that changes may not have been recorded.
GAP_KIND: Final = "gap"
GAP_FOUND: Final = "changes may not have been recorded: audit log --kind gap says which and why"
NO_LEAF: Final = "the entry's leaf hash is not there"


class _Head(msgspec.Struct):
    number: str
    kind: Any = None


class Bytes(Protocol):
    """bytes, or a mapped file."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...


_head: Final = msgspec.json.Decoder(_Head).decode


class EntryCheck:
    """Compares lines with the leaves of the entries [first, end).

    A line is recognised by its leaf hash; its own number says where it belongs. What matches neither its place nor
    its number is taken for the entry that is due there, altered; if that one comes after all, for an inserted one.
    Entries in `holes` have no leaf hash to be compared with: that is said elsewhere, and none of them is due.
    """

    def __init__(self, first: int, leaves: Bytes, end: int, progress: Progress, holes: Sequence[int] = ()) -> None:
        self._holes = frozenset(holes)
        self.findings = Findings()
        self.intact = 0
        self._first = first
        self._end = min(end, first + len(leaves) // HASH_BYTES)
        self._said = end
        self._leaves = leaves
        self._progress = progress

    def run(self, lines: Iterable[bytes]) -> Findings:
        """What is found in `lines`, which end in newlines."""
        due, end, leaves, total = self._first, self._end, self._leaves, self._end - self._first
        holes = self._holes
        for count, line in enumerate(lines):
            while due in holes:
                due += 1
            body = line.removesuffix(b"\n")
            leaf = leaf_hash(body)
            at = (due - self._first) * HASH_BYTES
            if due < end and leaf == leaves[at : at + HASH_BYTES]:
                self._known(body, due)
                due += 1
            else:
                due = self._strange(body, leaf, due)
            if not count % PROGRESS_EVERY:
                self._progress("entries", due - self._first, total)
        self._missing(due, end)
        self._progress("entries", total, total)
        return self.findings

    def _known(self, body: bytes, index: int) -> None:
        """An entry with the hash of leaf `index`."""
        head = _read_head(body)
        if head is None or head.number != str(index):
            says = "none" if head is None else head.number
            self.findings.add(Kind.MOVED, f"the tree has it here, its own number is {says}", index)
            return
        self.intact += 1
        if head.kind == GAP_KIND:
            self.findings.add(Kind.GAP, GAP_FOUND, index)

    def _strange(self, body: bytes, leaf: bytes, due: int) -> int:
        """A line that is not the entry which is due; what is due next."""
        head = _read_head(body)
        own = number(head.number) if head else None
        if own in self._holes:
            return due
        if own is not None and self._first <= own < self._end and leaf == self._leaf(own):
            return self._elsewhere(body, own, due)
        if due < self._end:
            self.findings.add(Kind.ALTERED, "its bytes are not those that the tree has", due)
            return due + 1
        if own is None or not self._end <= own < self._said:
            # Not one whose leaf hash is missing, which is said already.
            self.findings.add(Kind.INSERTED, "a line behind the last entry", own)
        return due

    def _elsewhere(self, body: bytes, own: int, due: int) -> int:
        if own > due:
            self._missing(due, own)
            self._known(body, own)
            return own + 1
        if self.findings.take(Kind.MISSING, own):
            self._known(body, own)
            self.findings.add(Kind.MOVED, "the entry stands behind later ones", own)
        elif self.findings.take(Kind.ALTERED, own):
            self._known(body, own)
            self.findings.add(Kind.INSERTED, "another line stands before the entry", own)
        else:
            self.findings.add(Kind.INSERTED, "the entry is there again", own)
        return due

    def _missing(self, first: int, end: int) -> None:
        """None of [first, end) is there; of those in holes it is said already."""
        for hole in sorted(hole for hole in self._holes if first <= hole < end):
            if first < hole:
                self.findings.add(Kind.MISSING, "the entry is not there", first, hole - 1)
            first = hole + 1
        if first < end:
            self.findings.add(Kind.MISSING, "the entry is not there", first, end - 1)

    def _leaf(self, entry: int) -> bytes:
        at = (entry - self._first) * HASH_BYTES
        return self._leaves[at : at + HASH_BYTES]


def _read_head(body: bytes) -> _Head | None:
    try:
        return _head(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
