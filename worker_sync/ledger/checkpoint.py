"""Checkpoints (c2sp.org/tlog-checkpoint): a tree's origin, size and root, signed as a note.

The format has no place for a time; ours stands in an extension line, ``time 2026-01-31T12:00:00.000000Z``. The
signer's clock says it and nothing proves it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from worker_sync.ledger.merkle import HASH_BYTES
from worker_sync.ledger.note import MalformedNote, Note, Signer, Verifier, open_note, sign, strict_base64

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_MAX_SIZE: Final = (1 << 63) - 1
_TIME: Final = "time "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is signed: a tree of `size` leaves with this root, of the log that `origin` names."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The note's text. Raises MalformedNote for what can't be read back."""
        lines = [self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions]
        text = "".join(f"{line}\n" for line in lines)
        if parse(text) != self:
            raise MalformedNote("the origin or an extension line can't stand in a checkpoint")
        return text

    @property
    def time(self) -> str | None:
        """When it was signed, by the signer's clock; None where it doesn't say."""
        return next((line.removeprefix(_TIME) for line in self.extensions if line.startswith(_TIME)), None)


def checkpoint(origin: str, size: int, root: bytes, at: datetime | None = None) -> Checkpoint:
    """The checkpoint of a tree, with the aware time `at`."""
    if at is None:
        return Checkpoint(origin, size, root)
    moment = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Checkpoint(origin, size, root, (f"{_TIME}{moment}",))


def parse(text: str) -> Checkpoint:
    """Reads a note's text. Raises MalformedNote."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise MalformedNote("a checkpoint has an origin, a size, a root and no empty line")
    origin, size, encoded, *extensions = lines
    root = strict_base64(encoded)
    if not _SIZE.fullmatch(size) or int(size) > _MAX_SIZE:
        raise MalformedNote("the size of a checkpoint is a decimal number")
    if root is None or len(root) != HASH_BYTES:
        raise MalformedNote("the root of a checkpoint is a SHA-256 in base64")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def sign_checkpoint(tree: Checkpoint, signers: Iterable[Signer]) -> str:
    """The signed note; two signers co-sign where one key takes over from the other. Raises NoteError."""
    return sign(tree.text, signers)


def open_checkpoint(note: str, verifiers: Iterable[Verifier]) -> tuple[Checkpoint, Note]:
    """The checkpoint in `note`, and who signed it. Raises NoteError as `open_note` does."""
    opened = open_note(note, verifiers)
    return parse(opened.text), opened
