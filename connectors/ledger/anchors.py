"""Anchors: directories in a second place, to which each checkpoint goes as a file that is never overwritten.

A tree that was rewritten, and signed with the right key, contradicts what stands there. So they are to be where those
who can write the ledger can't: another machine's share, a bucket that keeps versions, a drive that is written once.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from worker_sync.core.errors import Permanent, Transient
from worker_sync.ledger.checkpoint import Checkpoint, parse
from worker_sync.ledger.note import NoteError, split

_NAME: Final = re.compile(r"[0-9]{20}-[0-9a-f]{8}\.note")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")


class LedgerForked(Permanent):
    """The ledger contradicts what was signed"""

    exit_code = 14


def folder_of(anchor: Path, origin: str) -> Path:
    """Where the checkpoints of a log stand in an anchor's directory."""
    return anchor / _NOT_IN_NAMES.sub("-", origin).strip("-.")


def name_of(note: str) -> str:
    """The file name of a checkpoint: the size of its tree, and the id of the key that signed it first. Raises
    NoteError for what is none."""
    text, signatures = split(note)
    return f"{parse(text).size:020}-{signatures[0].key_id.hex()}.note"


def names(anchor: Path, origin: str) -> list[str]:
    """The files of a log's checkpoints, the smallest tree first. Raises Transient for an anchor that can't be read."""
    if not anchor.is_dir():
        # Making it would hide a share that is not mounted.
        raise Transient(f"the anchor {anchor} is no directory")
    try:
        return sorted(path.name for path in folder_of(anchor, origin).glob("*.note") if _NAME.fullmatch(path.name))
    except OSError as error:
        raise _failed(anchor, error) from error


def notes(anchor: Path, origin: str) -> list[str]:
    """All checkpoints of a log in an anchor, the smallest tree first. Raises Transient."""
    return [_read(anchor, folder_of(anchor, origin) / name) for name in names(anchor, origin)]


def newest(anchor: Path, origin: str) -> tuple[Path, str] | None:
    """The checkpoint of the largest tree. Raises Transient."""
    found = names(anchor, origin)
    if not found:
        return None
    path = folder_of(anchor, origin) / found[-1]
    return path, _read(anchor, path)


def missing(anchor: Path, origin: str, newest_first: Iterable[str]) -> list[str]:
    """The checkpoints that an anchor lacks, the smallest tree first: those that were made since the last one that it
    has. Raises Transient."""
    there, lacking = set(names(anchor, origin)), list[str]()
    for note in newest_first:
        with suppress(NoteError):  # what is no checkpoint is for `audit verify` to find
            if name_of(note) in there:
                break
            lacking.append(note)
    return lacking[::-1]


def write(anchor: Path, origin: str, note: str) -> None:
    """Add a checkpoint. One that is there and signs the same tree is left as it is. Raises Transient where it can't be
    written, LedgerForked where a file of its name signs another tree."""
    folder = folder_of(anchor, origin)
    path = folder / name_of(note)
    try:
        folder.mkdir(exist_ok=True)
        if not _linked(path, note.encode()) and _tree(path.read_text(encoding="utf-8", errors="replace")) != _tree(
            note
        ):
            raise LedgerForked(f"{path} is there and signs another tree; next: worker-sync audit verify")
    except OSError as error:
        raise _failed(anchor, error) from error


def _linked(path: Path, data: bytes) -> bool:
    """Put a whole file into place, or nothing; False where there is one. A link, unlike a rename, overwrites none."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _tree(note: str) -> Checkpoint | None:
    """What a note signs, whenever that was; None for what is no checkpoint."""
    try:
        found = parse(split(note)[0])
    except NoteError:
        return None
    return Checkpoint(found.origin, found.size, found.root)


def _read(anchor: Path, path: Path) -> str:
    try:
        # What is no text becomes lone surrogates, which no note has.
        return path.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise _failed(anchor, error) from error


def _failed(anchor: Path, error: OSError) -> Transient:
    return Transient(f"the anchor {anchor} failed: {error.strerror or error}")
