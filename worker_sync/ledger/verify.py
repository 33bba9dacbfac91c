"""Verifies an export with public keys and anchors alone: no database, nothing of the export trusted.

First the leaf hashes against what trusted keys signed, then the entries against the leaf hashes.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from worker_sync.core.errors import ConfigError
from worker_sync.ledger import export
from worker_sync.ledger.checkpoint import open_checkpoint
from worker_sync.ledger.entries import Bytes, EntryCheck, Progress
from worker_sync.ledger.export import Damaged, Manifest
from worker_sync.ledger.findings import Finding, Findings, Kind, Report, Signed, exit_code
from worker_sync.ledger.merkle import HASH_BYTES, Frontier, split_hashes
from worker_sync.ledger.note import NoteError, Verifier
from worker_sync.ledger.statements import Statement, Tree, judge

_T = TypeVar("_T")

#: Leaves read at once.
_CHUNK: Final = 1 << 13


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier brings along.

    `anchors` are signed notes from another place than the export. `origin` is the log's name; without it, that of the
    newest checkpoint counts.
    """

    keys: Sequence[Verifier]
    anchors: Sequence[str] = ()
    origin: str | None = None


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
        self._trust = trust
        self._expect = expect
        self._progress = progress
        self._findings = Findings()
        self._statements: list[Statement] = []
        self._agreeing: list[Signed] = []
        self._manifest = Manifest("", 0, 0)
        self._intact = 0

    def run(self) -> None:
        self._read_statements()
        self._read_keys()
        manifest = self._read(export.MANIFEST, Manifest.from_bytes)
        if manifest is None:
            return
        self._manifest = manifest
        self._check_origins()
        self._check_range()
        with _mapped(self._directory / export.LEAVES) as leaves:
            self._check_leaves(leaves)
            self._check_entries(leaves)

    def report(self) -> Report:
        manifest, found = self._manifest, self._findings
        return Report(
            origin=manifest.origin,
            first=manifest.first,
            end=manifest.end,
            intact=self._intact,
            checkpoints=self._agreeing,
            findings=sorted(found.found, key=_by_place),
            counts=found.counts,
            exit_code=exit_code(found.counts),
        )

    def _read_statements(self) -> None:
        for path in sorted((self._directory / export.CHECKPOINTS).glob("*")):
            # What is no text becomes lone surrogates, which no note has.
            note = path.read_bytes().decode(errors="surrogateescape")
            self._open(f"{export.CHECKPOINTS}/{path.name}", note, anchor=False)
        for index, note in enumerate(self._trust.anchors, 1):
            self._open(f"anchor {index}", note, anchor=True)

    def _open(self, where: str, note: str, *, anchor: bool) -> None:
        try:
            checkpoint, opened = open_checkpoint(note, self._trust.keys)
        except NoteError as error:
            self._findings.add(Kind.UNSIGNED, f"{where}: {error}")
            return
        signers = tuple(f"{signature.name}+{signature.key_id.hex()}" for signature in opened.verified)
        self._statements.append(Statement(where, checkpoint, signers, anchor))

    def _read_keys(self) -> None:
        """They are there for people to read. A damaged one would mislead them."""
        self._read(export.KEYS, _parse_keys)

    def _check_origins(self) -> None:
        """Statements about another log say nothing about this one."""
        newest = max((s for s in self._statements if not s.anchor), key=lambda s: s.size, default=None)
        origin = self._trust.origin or (newest.checkpoint.origin if newest else self._manifest.origin)
        if self._manifest.origin != origin:
            self._findings.add(Kind.ALTERED, f"{export.MANIFEST}: it names another log than {origin}")
        for statement in self._statements:
            if statement.checkpoint.origin != origin:
                self._findings.add(Kind.FORKED, f"{statement.where}: it is of another log than {origin}")
        self._statements = [s for s in self._statements if s.checkpoint.origin == origin]

    def _check_range(self) -> None:
        manifest, (first, end) = self._manifest, self._expect
        newest = max((statement.size for statement in self._statements), default=0)
        wanted = newest if end is None else end
        if first < min(manifest.first, wanted):
            self._findings.add(Kind.MISSING, "left of the export", first, min(manifest.first, wanted) - 1)
        if wanted > max(manifest.end, first):
            self._findings.add(Kind.MISSING, "right of the export", max(manifest.end, first), wanted - 1)
        if not self._statements:
            self._findings.add(Kind.UNSIGNED, "no checkpoint of a trusted key")
        if max(newest, manifest.first) < manifest.end:
            detail = "no checkpoint of a trusted key covers the entry"
            self._findings.add(Kind.UNSIGNED, detail, max(newest, manifest.first), manifest.end - 1)

    def _check_leaves(self, leaves: Bytes) -> None:
        manifest = self._manifest
        there = manifest.first + len(leaves) // HASH_BYTES
        if there < manifest.end:
            self._findings.add(Kind.MISSING, f"{export.LEAVES}: the leaf hash is not there", there, manifest.end - 1)
        elif len(leaves) != (manifest.end - manifest.first) * HASH_BYTES:
            self._findings.add(Kind.INSERTED, f"{export.LEAVES}: it holds more than the range")
        frontier = self._read(export.LEFT, lambda data: _left(data, manifest.first))
        proofs = self._read(export.PROOFS, export.read_proofs)
        if frontier is None:
            return
        statements = self._statements
        if there < manifest.end:
            # Without its leaves nothing can be said about larger trees; that they are missing is said already.
            statements = [statement for statement in statements if statement.size <= there]
        sizes = {statement.size for statement in statements}
        roots = self._roots(leaves, frontier, min(there, manifest.end), sizes)
        tree = Tree(manifest.first, manifest.end, roots, proofs or {})
        self._agreeing = judge(statements, tree, self._findings)

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

    def _check_entries(self, leaves: Bytes) -> None:
        manifest = self._manifest
        check = EntryCheck(manifest.first, leaves, manifest.end, self._progress)
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


def _by_place(finding: Finding) -> tuple[bool, int]:
    """Those about no entry in particular come first."""
    return finding.first is not None, finding.first or 0
