"""Verifies the ledger where it stands: in one snapshot of its tables, with keys and anchors from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Final, TypeAlias

from connectors.ledger.reader import RANGE, LedgerReader
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.check import Check, Trust
from worker_sync.ledger.entries import Progress
from worker_sync.ledger.findings import Kind, Report
from worker_sync.ledger.growing import TILE, Growing, Grown
from worker_sync.ledger.merkle import TILE_HEIGHT, Frontier, complete_subtrees, paired
from worker_sync.ledger.noted import unnoted
from worker_sync.ledger.proofs import consistency_proof, subtree_roots
from worker_sync.ledger.searched import StoredRow
from worker_sync.ledger.statements import Tree
from worker_sync.ledger.stored import RowCheck

_Range: TypeAlias = tuple[int, int, list[StoredRow], dict[tuple[int, int], bytes], list[int]]
"""First, end, the rows between, the stored subtrees that they complete, and whose subject does not lead to them."""

#: Levels of subtrees that are stored, below that of a tree of all numbers.
_LEVELS: Final = range(TILE_HEIGHT, 63, TILE_HEIGHT)


def verify_tables(reader: LedgerReader, trust: Trust, first: int = 0, progress: Progress | None = None) -> Report:
    """Verify all entries from `first` on in one snapshot.

    With a `first` that is not 0 there has to be a checkpoint of that many entries: those before are taken from it,
    and not looked at. Memory: that of some thousand entries. Raises ConfigError where there is no such checkpoint, and
    what LedgerReader raises.
    """
    with reader.snapshot():
        return _TableCheck(reader, trust, first, progress).run()


class _TableCheck:
    def __init__(self, reader: LedgerReader, trust: Trust, first: int, progress: Progress | None) -> None:
        self._reader = reader
        self._first = first
        self._progress = progress
        self._check = Check("the ledger", trust)
        self._findings = self._check.findings

    def run(self) -> Report:
        self._read_statements()
        origin = self._check.settle_origin(None, "the ledger")
        head = self._reader.head()
        end = self._end(head)
        self._check.check_range(self._first, end, (self._first, None))
        start = self._start()
        if start is None or end < self._first:
            return self._check.report(origin, self._first, self._first, 0)
        rows, growing = self._read_entries(start, end)
        grown = growing.grown
        self._check_head(head, growing, end)
        rows.settle(self._leaf_of, self._forged(rows, grown))
        self._judge(grown, end)
        self._check_subtrees(grown, end)
        return self._check.report(origin, self._first, end, rows.intact)

    def _read_statements(self) -> None:
        for stored in self._reader.notes():
            where = f"checkpoint {stored.id}"
            statement = self._check.open(where, stored.note)
            if statement and statement.size != stored.size:
                detail = f"{where}: it is listed under {stored.size} entries, not {statement.size}"
                self._findings.add(Kind.ALTERED, detail)
        self._check.open_anchors()

    def _end(self, head: Frontier | None) -> int:
        """Where the ledger ends: where its head says, unless more entries are signed and there."""
        signed = max((s.size for s in self._check.statements if not s.anchor), default=0)
        if head is None:
            self._findings.add(Kind.ALTERED, "head: it is not there, or is none")
            return signed
        if head.size < signed and self._reader.entry(signed - 1) is not None:
            self._findings.add(
                Kind.ALTERED, f"head: it ends the ledger at {head.size} entries, of {signed} that are signed"
            )
            return signed
        return head.size

    def _start(self) -> Frontier | None:
        first = self._first
        if first == 0:
            return Frontier()
        if all(statement.size != first for statement in self._check.statements):
            raise ConfigError(f"no checkpoint of a trusted key is of {first} entries")
        try:
            return Frontier(first, subtree_roots(0, first, self._reader.hash_of))
        except LookupError as error:
            self._findings.add(Kind.MISSING, f"left of {first}: {error}")
            return None

    # -- entries and their tree

    def _read_entries(self, start: Frontier, end: int) -> tuple[RowCheck, Growing]:
        rows = RowCheck(start.size, end, self._findings)
        rows.stray(self._reader.strays(end))
        growing = Growing(start, [*(s.size for s in self._check.statements if s.size <= end), end])
        for at, until, found, stored, hidden in self._ranges(start.size, end):
            leaves = rows.range(at, until, found)
            for number in hidden:
                self._findings.add(Kind.ALTERED, "the search by subject does not find it", number)
            rows.fill(at, leaves)
            growing.append(leaves, stored, rows.doubts)
            if self._progress:
                self._progress("entries", until - start.size, end - start.size)
        return rows, growing

    def _ranges(self, first: int, end: int) -> Iterator[_Range]:
        """The rows of [first, end), range by range. While one is looked at, the server works at the next."""
        edges = [first, *range((first // RANGE + 1) * RANGE, end, RANGE), end] if first < end else []
        with ThreadPoolExecutor(1, "ledger-reader") as pool:
            ahead: Future[_Range] | None = None
            for at, until in pairwise(edges):
                following = pool.submit(self._range, at, until)
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()

    def _range(self, first: int, end: int) -> _Range:
        rows = self._reader.rows(first, end)
        return first, end, rows, self._stored(first, end), list(unnoted(rows, self._reader.noted))

    def _stored(self, first: int, end: int) -> dict[tuple[int, int], bytes]:
        """The stored subtrees that the leaves [first, end) complete."""
        found = {}
        for level in _LEVELS:
            if first >> level == end >> level:
                break
            hashes = self._reader.subtrees(level, first >> level, end >> level)
            found.update({(level, index): hash_ for index, hash_ in hashes})
        return found

    def _leaf_of(self, number: int) -> bytes | None:
        found = self._reader.entry(number)
        return found[0] if found else None

    def _forged(self, rows: RowCheck, grown: Grown) -> set[int]:
        """Places whose entries stand elsewhere, but with other bytes than the tree has: in subtrees where all other
        leaves are known."""
        forged: set[int] = set()
        for index, leaves in grown.torn.items():
            first = max(index << TILE_HEIGHT, self._first)
            before = list(leaves)
            rows.fill(first, leaves)
            stored = self._reader.subtrees(TILE_HEIGHT, index, index + 1)
            whole = [leaf for leaf in leaves if leaf is not None]
            if len(whole) == TILE and stored and _root(whole) != stored[0][1]:
                forged |= {first + at for at, leaf in enumerate(before) if leaf is None}
        return forged

    # -- what is said of the tree

    def _check_head(self, head: Frontier | None, growing: Growing, end: int) -> None:
        """The head's roots against the leaves'; they are what the tree ends with where leaves are not there."""
        if head is None or head.size != end:
            return
        growing.grown.by_stored[end] = head.root
        tree, stored = growing.tree, growing.stored_tree
        if tree is None or stored is None:
            return
        subtrees = zip(complete_subtrees(0, end), tree.roots, stored.roots, head.roots, strict=True)
        for (level, index), by_leaves, by_stored, said in subtrees:
            if said not in (by_leaves, by_stored):
                first, last = max(index << level, self._first), ((index + 1) << level) - 1
                self._findings.add(Kind.ALTERED, "head: its roots are not those of the leaf hashes", first, last)

    def _judge(self, grown: Grown, end: int) -> None:
        """Hold what is signed against the tree of the leaves, and where that is not what was signed, the stored one."""
        signed: dict[int, set[bytes]] = {}
        for statement in self._check.statements:
            signed.setdefault(statement.size, set()).add(statement.checkpoint.root)
        roots = {**grown.by_stored, **grown.by_leaves}
        for size, root in grown.by_stored.items():
            if root in signed.get(size, ()) and roots[size] not in signed[size]:
                roots[size] = root
        doubtful = {index for level, index in grown.disputed if level == TILE_HEIGHT and self._is_signed(grown, index)}
        known = [
            s for s in self._check.statements
            if not self._first <= s.size <= end
            or roots.get(s.size) == s.checkpoint.root
            or (s.size in roots and not (s.size % TILE and s.size >> TILE_HEIGHT in doubtful))
        ]  # fmt: skip
        if end not in roots:
            # Its leaves, and what is larger, can't be told; that they are missing is said.
            known = [s for s in known if s.size < end]
            roots[end] = b""
        self._check.judge(known, Tree(self._first, end, roots, self._proofs()))

    def _proofs(self) -> Mapping[int, list[bytes]]:
        proofs, hash_of = {}, self._reader.hash_of
        for size in sorted({s.size for s in self._check.statements if 0 < s.size < self._first}):
            try:
                proofs[size] = consistency_proof(size, self._first, hash_of)
            except LookupError:
                continue  # judged as a statement without a proof
        return proofs

    def _is_signed(self, grown: Grown, index: int) -> bool:
        """Whether a stored subtree is what was signed, and its leaves are not. A tree that ends within it, of leaves
        that were altered since, says nothing."""
        return self._signed_as(grown, (index + 1) << TILE_HEIGHT) == (False, True)

    def _signed_as(self, grown: Grown, end: int) -> tuple[bool, bool]:
        """Whether a tree that has the entries up to `end` was signed as the leaves have it, and as it is stored."""
        signed = {(s.size, s.checkpoint.root) for s in self._check.statements if s.size >= end}
        return not signed.isdisjoint(grown.by_leaves.items()), not signed.isdisjoint(grown.by_stored.items())

    def _check_subtrees(self, grown: Grown, end: int) -> None:
        for level, index in grown.disputed:
            self._dispute(grown, level, index)
        for level, index in grown.lost:
            self._findings.add(Kind.MISSING, f"subtree {index} at level {level}: its root is not there")
        for level, index in self._reader.strange_subtrees(end):
            self._findings.add(Kind.INSERTED, f"subtree {index} at level {level}: the tree has no place for it")

    def _dispute(self, grown: Grown, level: int, index: int) -> None:
        """A stored root that is not that of its leaves: what is signed says which of them was altered."""
        first, end = max(index << level, self._first), (index + 1) << level
        by_leaves, by_stored = self._signed_as(grown, end)
        where = f"subtree {index} at level {level}"
        if level > TILE_HEIGHT or (by_leaves and not by_stored):
            self._findings.add(Kind.ALTERED, f"{where}: its stored root is not that of its leaf hashes")
        elif by_stored and not by_leaves:
            self._findings.add(Kind.ALTERED, f"{where}: its leaf hashes are not those of the tree", first, end - 1)
        else:
            self._findings.add(Kind.ALTERED, f"{where}: its leaf hashes and its stored root differ", first, end - 1)


def _root(leaves: list[bytes]) -> bytes:
    while len(leaves) > 1:
        leaves = paired(leaves)
    return leaves[0]
