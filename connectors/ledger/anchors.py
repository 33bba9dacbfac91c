"""Anchors: second places to which each checkpoint goes, and where none is ever overwritten.

A tree that was rewritten, and signed with the right key, contradicts what stands there. So they are to be where those
who can write the ledger can't: another machine's share, a bucket whose objects are locked.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from connectors.base import Finding
from worker_sync.core.errors import Permanent
from worker_sync.ledger.checkpoint import Checkpoint, parse
from worker_sync.ledger.note import NoteError, split

#: How many entries back the newest checkpoint is looked for at first, and how much farther each further time.
_STEP: Final = 1024
_FARTHER: Final = 16

_NAME: Final = re.compile(r"[0-9]{20}-[0-9a-f]{8}\.note")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")


class LedgerForked(Permanent):
    """The ledger contradicts what was signed"""

    exit_code = 14


class Anchor(ABC):
    """Keeps checkpoints of logs, each under its name. All methods raise Transient when the place fails."""

    #: What messages call it: a path or a URL without secrets.
    place: str

    @abstractmethod
    def names(self, origin: str, first: int = 0) -> list[str]:
        """The names of a log's checkpoints of at least `first` entries, the smallest tree first."""

    @abstractmethod
    def read(self, origin: str, name: str) -> list[str]:
        """Every text that was ever kept under a name, as far as the place knows; the oldest first. What is no text has
        lone surrogates, which no note has."""

    @abstractmethod
    def put(self, origin: str, name: str, note: str) -> list[str]:
        """Keep a note under a name, unless there is one; whole or not at all, and for good when this returns. Returns
        what `read` does by then."""

    @abstractmethod
    def findings(self, origin: str) -> list[Finding]:
        """What must hold before it can be relied on."""

    def notes(self, origin: str) -> list[str]:
        """All checkpoints of a log, the smallest tree first, with what else was kept under their names."""
        return [note for name in self.names(origin) for note in self.read(origin, name)]

    def close(self) -> None:
        """Give back what it holds."""
        return  # a directory holds nothing

    def where(self, origin: str, name: str) -> str:
        """What messages call a note."""
        return f"{self.place}/{folder_of(origin)}/{name}"


def folder_of(origin: str) -> str:
    """What a log is called in an anchor."""
    return _NOT_IN_NAMES.sub("-", origin).strip("-.")


def is_name(name: str) -> bool:
    """Whether a checkpoint can have this name."""
    return bool(_NAME.fullmatch(name))


def name_of(note: str) -> str:
    """The name of a checkpoint: the size of its tree, and the id of the key that signed it first. Raises NoteError for
    what is none."""
    text, signatures = split(note)
    return f"{parse(text).size:020}-{signatures[0].key_id.hex()}.note"


def least_name(size: int) -> str:
    """What the names of all checkpoints of at least `size` entries are behind."""
    return f"{size:020}"


def newest(anchor: Anchor, origin: str, size: int) -> list[tuple[str, str]]:
    """The checkpoint of the largest tree, and where it is; more than one text where one was kept after the other, and
    nothing for an anchor that is empty. The ledger has about `size` entries. Raises Transient."""
    _, found = _recent(anchor, origin, size)
    return [(anchor.where(origin, name), note) for name in found[-1:] for note in anchor.read(origin, name)]


def missing(anchor: Anchor, origin: str, size: int, newest_first: Iterable[str]) -> list[str]:
    """The checkpoints that an anchor lacks, the smallest tree first: those that were made since the last one that it
    has. Raises Transient."""
    first, found = _recent(anchor, origin, size)
    there, lacking = set(found), list[str]()
    for note in newest_first:
        with suppress(NoteError):  # what is no checkpoint is for `audit verify` to find
            name = name_of(note)
            if name < least_name(first):
                first, there = 0, set(anchor.names(origin))
            if name in there:
                break
            lacking.append(note)
    return lacking[::-1]


def write(anchor: Anchor, origin: str, note: str) -> None:
    """Add a checkpoint. One that is there and signs the same tree is left as it is. Raises Transient where it can't be
    written, LedgerForked where its name is that of another tree."""
    name = name_of(note)
    if any(_tree(there) != _tree(note) for there in anchor.put(origin, name, note)):
        where = anchor.where(origin, name)
        raise LedgerForked(f"{where} is there and signs another tree; next: worker-sync audit verify")


def _recent(anchor: Anchor, origin: str, size: int) -> tuple[int, list[str]]:
    """A size, and the names of all checkpoints of at least that many entries, among them the newest. So that a year of
    checkpoints is not listed every minute."""
    step = _STEP
    while True:
        first = max(0, size - step)
        found = anchor.names(origin, first)
        if found or not first:
            return first, found
        step *= _FARTHER


def _tree(note: str) -> Checkpoint | None:
    """What a note signs, whenever that was; None for what is no checkpoint."""
    try:
        found = parse(split(note)[0])
    except NoteError:
        return None
    return Checkpoint(found.origin, found.size, found.root)
