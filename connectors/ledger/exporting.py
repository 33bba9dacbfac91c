"""Exports a range of the ledger as it stands in its tables, for `worker_sync.ledger.verify` and other verifiers.

What is wrong in the tables is not mended on the way: a place without its entry has no leaf hash in the export, rows
that belong nowhere are lines that belong nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from connectors.ledger.reader import RANGE, LedgerReader
from worker_sync.core.errors import ConfigError, WorkerSyncError
from worker_sync.ledger import export
from worker_sync.ledger.checkpoint import parse
from worker_sync.ledger.entries import Progress
from worker_sync.ledger.export import HOLE, Evidence, Manifest, Record, write_export
from worker_sync.ledger.findings import Findings
from worker_sync.ledger.note import NoteError, Verifier, split
from worker_sync.ledger.searched import StoredRow
from worker_sync.ledger.stored import RowCheck


def export_ledger(
    reader: LedgerReader,
    directory: Path,
    origin: str,
    keys: Sequence[Verifier],
    span: tuple[int, int | None] = (0, None),
    more_sizes: Sequence[int] = (),
    progress: Progress | None = None,
) -> Manifest:
    """Write the entries [first, end) of `span` with all checkpoints, in one snapshot; an end of None is the ledger's.

    `keys` are written for people to read; `more_sizes` are those of anchors, which need a proof in an export of a
    part. Raises ConfigError for a directory that is not new and a range that is not there, and what LedgerReader
    raises.
    """
    with reader.snapshot():
        notes = [stored.note for stored in reader.notes()]
        sound = [note for note in notes if is_checkpoint(note)]
        first, end = _span(reader, sound, span)
        records = _Records(reader, first, end, progress)
        evidence = Evidence(sound, keys, more_sizes)
        try:
            manifest = write_export(directory, origin, first, records, evidence, reader.hash_of, records.late)
        except LookupError as error:
            raise WorkerSyncError(f"left of {first}: {error}; next: worker-sync audit verify") from error
    for index, note in enumerate(note for note in notes if not is_checkpoint(note)):
        (directory / export.CHECKPOINTS / f"damaged-{index}.note").write_bytes(note.encode())
    return manifest


class _Records:
    """Iterates once; `late` is complete then."""

    def __init__(self, reader: LedgerReader, first: int, end: int, progress: Progress | None) -> None:
        self.late: dict[int, bytes] = {}
        self._reader = reader
        self._first = first
        self._end = end
        self._progress = progress
        self._check = RowCheck(first, end, Findings())

    def __iter__(self) -> Iterator[Record]:
        at = self._first
        while at < self._end:
            until = min((at // RANGE + 1) * RANGE, self._end)
            rows = self._reader.rows(at, until)
            yield from _records(at, rows, self._check.range(at, until, rows))
            at = until
            if self._progress:
                self._progress("entries", at - self._first, self._end - self._first)
        head = self._reader.head()
        if head is None or self._end >= head.size:
            strays = list(self._reader.strays(self._end))
            self._check.stray(strays)
            yield from (Record(None, row[2].encode()) for row in strays)
        elsewhere = self._check.elsewhere
        self.late.update((own, elsewhere[own][0].leaf) for own in self._check.holes & elsewhere.keys())


def _records(first: int, rows: Sequence[StoredRow], leaves: Sequence[bytes | None]) -> Iterator[Record]:
    """One for each leaf with the row of its number, and one without a leaf for every other row."""
    at = 0
    for number, leaf in enumerate(leaves, first):
        kept = HOLE if leaf is None else leaf
        if at == len(rows) or rows[at][0] != number:
            yield Record(kept, None)
            continue
        yield Record(kept, rows[at][2].encode())
        at += 1
        while at < len(rows) and rows[at][0] == number:
            yield Record(None, rows[at][2].encode())
            at += 1


def is_checkpoint(note: str) -> bool:
    """Whether a note, signed by whomever, states a tree."""
    try:
        parse(split(note)[0])
    except NoteError:
        return False
    return True


def size_of(reader: LedgerReader, notes: Iterable[str]) -> int:
    """How many entries the ledger has: as its head says, without a head as the largest of these checkpoints does."""
    head = reader.head()
    return head.size if head else max((parse(split(note)[0]).size for note in notes), default=0)


def _span(reader: LedgerReader, notes: Sequence[str], span: tuple[int, int | None]) -> tuple[int, int]:
    size = size_of(reader, notes)
    first, end = span[0], size if span[1] is None else span[1]
    if not 0 <= first <= end <= size:
        raise ConfigError(f"the ledger has the entries 0 to {size - 1}; name a range of these")
    return first, end
