"""Anchors that are directories: a share of another machine, a drive that is written once."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from connectors.base import Finding
from connectors.ledger.anchors import Anchor, folder_of, is_name, least_name
from worker_sync.core.errors import Transient


class DirectoryAnchor(Anchor):
    """A file for each checkpoint, in a folder for each log."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path

    def names(self, origin: str, first: int = 0) -> list[str]:
        if not self._path.is_dir():
            # Making it would hide a share that is not mounted.
            raise Transient(f"the anchor {self.place} is no directory")
        try:
            found = (path.name for path in self._folder(origin).glob("*.note"))
            return sorted(name for name in found if is_name(name) and name > least_name(first))
        except OSError as error:
            raise self._failed(error) from error

    def read(self, origin: str, name: str) -> list[str]:
        try:
            return [(self._folder(origin) / name).read_bytes().decode(errors="surrogateescape")]
        except OSError as error:
            raise self._failed(error) from error

    def put(self, origin: str, name: str, note: str) -> list[str]:
        folder = self._folder(origin)
        try:
            folder.mkdir(exist_ok=True)
            if _linked(folder / name, note.encode()):
                return [note]
        except OSError as error:
            raise self._failed(error) from error
        return self.read(origin, name)

    def findings(self, origin: str) -> list[Finding]:
        there = self._path.is_dir()
        able = there and os.access(self._path, os.W_OK | os.X_OK)
        said = "is a directory to write to" if able else "can't be written to" if there else "is no directory"
        fix = f"mount it, or make it: mkdir {self.place}" if not there else f"let this user write to {self.place}"
        return [Finding("anchor", able, f"{self.place} {said}", fix)]

    def _folder(self, origin: str) -> Path:
        return self._path / folder_of(origin)

    def _failed(self, error: OSError) -> Transient:
        return Transient(f"the anchor {self.place} failed: {error.strerror or error}")


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
