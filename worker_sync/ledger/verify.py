"""Verifies an export with public keys and anchors alone: no database, nothing of the export trusted.

First the leaf hashes against what trusted keys signed, then the entries against the leaf hashes.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from worker_sync.core.errors import ConfigError
from worker_sync.ledger import export
from worker_sync.ledger.check import Check, Trust
from worker_sync.ledger.entries import NO_LEAF, Bytes, EntryCheck, Progress
from worker_sync.ledger.export import HOLE, Damaged, Manifest
from worker_sync.ledger.findings import Kind, Report
from worker_sync.ledger.merkle import HASH_BYTES, Frontier, split_hashes
from worker_sync.ledger.note import NoteError, Verifier
from worker_sync.ledger.statements import Tree

__all__ = ["Trust", "verify"]

_T = TypeVar("_T")

#: Leaves read at once.
_CHUNK: Final = 1 << 13


def verify(
    directory: Path,
    trust: Trust,
    expect: tuple[int, int | None] = (0, None),
    progress: Progress | None = None,
) -> Report:
    """Verify an export.

    `expect` are the entries that it has to have, [first, end); an end of None stands for the newest checkpoint. So an
    export of a part is incomplete until the part is named. Reads the files once, in the memory of one entry; a report
    holds what is wrong. Raises ConfigError for what is no directory, OSError for a file that can't be read.
    """
    if not directory.is_dir():
        raise ConfigError(f"there is no export {directory}")
    check = _Check(directory, trust, expect, progress or _unseen)
    check.run()
    return check.report()


class _Check:
    def __init__(self, directory: Path, trust: Trust, expect: tuple[int, int | None], progress: Progress) -> None:
        self._directory = directory
        self._expect = expect
        self._progress = progress
        self._check = Check("the export", trust)
        self._findings = self._check.findings
        self._manifest = Manifest("", 0, 0)
        self._intact = 0

    def run(self) -> None:
        self._read_statements()
        self._read_keys()
        manifest = self._read(export.MANIFEST, Manifest.from_bytes)
        if manifest is None:
            return
        self._manifest = manifest
        self._check.settle_origin(manifest.origin, export.MANIFEST)
        self._check.check_range(manifest.first, manifest.end, self._expect)
        with _mapped(self._directory / export.LEAVES) as leaves:
            holes = _holes(leaves, manifest.first)
            self._check_leaves(leaves, holes)
            self._check_entries(leaves, holes)

    def report(self) -> Report:
        manifest = self._manifest
        return self._check.report(manifest.origin, manifest.first, manifest.end, self._intact)

    def _read_statements(self) -> None:
        for path in sorted((self._directory / export.CHECKPOINTS).glob("*")):
            # What is no text becomes lone surrogates, which no note has.
            note = path.read_bytes().decode(errors="surrogateescape")
            self._check.open(f"{export.CHECKPOINTS}/{path.name}", note)
        self._check.open_anchors()

    def _read_keys(self) -> None:
        """They are there for people to read. A damaged one would mislead them."""
        self._read(export.KEYS, _parse_keys)

    def _check_leaves(self, leaves: Bytes, holes: Sequence[int]) -> None:
        manifest = self._manifest
        there = manifest.first + len(leaves) // HASH_BYTES
        for hole in holes:
            self._findings.add(Kind.MISSING, NO_LEAF, hole)
        if there < manifest.end:
            self._findings.add(Kind.MISSING, f"{export.LEAVES}: the leaf hash is not there", there, manifest.end - 1)
        elif len(leaves) != (manifest.end - manifest.first) * HASH_BYTES:
            self._findings.add(Kind.INSERTED, f"{export.LEAVES}: it holds more than the range")
        frontier = self._read(export.LEFT, lambda data: _left(data, manifest.first))
        proofs = self._read(export.PROOFS, export.read_proofs)
        if frontier is None:
            return
        statements = self._check.statements
        there = min(there, *holes) if holes else there
        if there < manifest.end:
            # Without its leaves nothing can be said about larger trees; that they are missing is said already.
            statements = [statement for statement in statements if statement.size <= there]
        sizes = {statement.size for statement in statements}
        roots = self._roots(leaves, frontier, min(there, manifest.end), sizes)
        tree = Tree(manifest.first, manifest.end, roots, proofs or {})
        self._check.judge(statements, tree)

    def _roots(self, leaves: Bytes, frontier: Frontier, end: int, sizes: Iterable[int]) -> dict[int, bytes]:
        first = frontier.size
        roots = {first: frontier.root}
        for stop in sorted({size for size in sizes if first < size <= end} | {end}):
            while frontier.size < stop:
                at = frontier.size - first
                until = min(at + _CHUNK, stop - first)
                frontier.append(split_hashes(leaves[at * HASH_BYTES : until * HASH_BYTES]))
                self._progress("leaves", until, end - first)
            roots[stop] = frontier.root
        return roots

    def _check_entries(self, leaves: Bytes, holes: Sequence[int]) -> None:
        manifest = self._manifest
        check = EntryCheck(manifest.first, leaves, manifest.end, self._progress, holes)
        try:
            with (self._directory / export.ENTRIES).open("rb") as lines:
                self._findings.extend(check.run(lines))
        except FileNotFoundError:
            self._findings.add(Kind.MISSING, f"{export.ENTRIES}: the file is not there")
        self._intact = check.intact

    def _read(self, name: str, parse: Callable[[bytes], _T]) -> _T | None:
        """A small file of the export; None, and a finding, where it isn't there or is damaged."""
        try:
            return parse((self._directory / name).read_bytes())
        except FileNotFoundError:
            self._findings.add(Kind.MISSING, f"{name}: the file is not there")
        except Damaged as error:
            self._findings.add(Kind.ALTERED, f"{name}: {error}")
        return None


@contextmanager
def _mapped(path: Path) -> Iterator[Bytes]:
    """A file's bytes without reading them into memory; no bytes where there is no file."""
    if not path.exists() or path.stat().st_size == 0:
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def _holes(leaves: Bytes, first: int) -> list[int]:
    """The entries whose leaf hashes the exporter did not find."""
    found: list[int] = []
    for at in range(0, len(leaves), _CHUNK * HASH_BYTES):
        chunk = leaves[at : at + _CHUNK * HASH_BYTES]
        if HOLE in chunk:
            hashes = enumerate(split_hashes(chunk), first + at // HASH_BYTES)
            found += [number for number, leaf in hashes if leaf == HOLE]
    return found


def _unseen(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def _left(data: bytes, first: int) -> Frontier:
    try:
        return Frontier(first, split_hashes(data))
    except ValueError as error:
        raise Damaged(str(error)) from None


def _parse_keys(data: bytes) -> list[Verifier]:
    try:
        return [Verifier.parse(line) for line in data.decode().removesuffix("\n").split("\n")]
    except (NoteError, UnicodeDecodeError):
        raise Damaged("a line is no verifier key") from None
