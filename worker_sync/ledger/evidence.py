"""An evidence pack: a directory about one period of a ledger whose manifest has the hash of every file and is signed.

docs/reference/ledger-format.md describes its files. What writes them is in `connectors.ledger.evidence`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

import msgspec

from worker_sync.core.errors import ConfigError
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.export import Damaged, number
from worker_sync.ledger.note import Signer, sign

FORMAT: Final = "worker-sync-evidence/1"
MANIFEST: Final = "manifest.json"
#: The signed note over the manifest's hash.
NOTE: Final = "manifest.note"
EXPORT: Final = "export"
VERIFICATION: Final = "verification.json"
COUNTS: Final = "counts.json"
RUNS: Final = "schedule-runs.json"
KEY_EVENTS: Final = "key-events.json"
README: Final = "README.md"

#: What no manifest lists: itself, and what is signed over it.
UNLISTED: Final = frozenset({MANIFEST, NOTE})

_TEXT: Final = re.compile(r"worker-sync-evidence/1\n([^\n]+)\nsha256 ([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class Period:
    """The entries recorded from `since` on and before `until`, aware times. Raises ConfigError where the first is not
    before the other, or UTC has no form for one."""

    since: datetime
    until: datetime

    def __post_init__(self) -> None:
        since, until = moment(self.since), moment(self.until)
        if self.since >= self.until:
            raise ConfigError(f"{since} is not before {until}: a period is from the first to the second")


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as the manifest has it: SHA-256 in hex, size in bytes as decimal text."""

    sha256: str
    size: str


class Manifest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}
):
    """What a pack is about, [since, until) in time and [first, end) in numbers, and its files by relative path.

    `made_at` is a time by the ledger's clock before anything of the ledger was read.
    """

    format: str = FORMAT
    origin: str
    since: str
    until: str
    made_at: str
    first: str
    end: str
    files: dict[str, Listed]

    @property
    def span(self) -> tuple[int, int]:
        """The numbers of the entries, [first, end)."""
        return int(self.first), int(self.end)

    def to_bytes(self) -> bytes:
        return canonical(msgspec.to_builtins(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Raises Damaged for all but the canonical bytes of a manifest."""
        try:
            manifest = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Damaged("it is no JSON of the right shape") from None
        first, end = number(manifest.first), number(manifest.end)
        if manifest.format != FORMAT or first is None or end is None or first > end:
            raise Damaged(f"it is no manifest of {FORMAT}")
        if manifest.to_bytes() != data:
            raise Damaged("it is not in its canonical form")
        return manifest


def seal(directory: Path, manifest: Manifest, signers: Iterable[Signer]) -> Manifest:
    """List the files of a directory in `manifest`, write it there, and last of all the note over it.

    Raises OSError, and NoteError for a log's name that can't stand in a note.
    """
    files = {name: listed(directory / name) for name in files_in(directory)}
    sealed = msgspec.structs.replace(manifest, files=files)
    data = sealed.to_bytes()
    (directory / MANIFEST).write_bytes(data)
    note = sign(statement(sealed.origin, sha256(data).hexdigest()), signers)
    (directory / NOTE).write_text(note, encoding="utf-8", newline="\n")
    return sealed


def statement(origin: str, digest: str) -> str:
    """The text that is signed. No checkpoint reads like it: there, the third line is base64 alone."""
    return f"{FORMAT}\n{origin}\nsha256 {digest}\n"


def read_statement(text: str) -> tuple[str, str] | None:
    """(origin, hash of the manifest in hex) that a note's text states; None for another text."""
    match = _TEXT.fullmatch(text)
    return (match[1], match[2]) if match else None


def files_in(directory: Path) -> list[str]:
    """The relative paths of everything in a directory that is no directory, sorted; links are not followed."""
    return sorted(_files(directory))


def listed(path: Path) -> Listed:
    """The size and the hash of a file. Raises OSError."""
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return Listed(digest, str(file.tell()))


def is_plain(path: Path) -> bool:
    """Whether this is a file of its own: no link, no pipe that would be waited for."""
    return path.is_file() and not path.is_symlink()


def moment(at: datetime) -> str:
    """An aware time as entries have it. Raises ConfigError for one that UTC has no form for."""
    try:
        return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:
        raise ConfigError(f"{at.isoformat()} is no time in UTC") from None


def _files(directory: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(directory):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*names, *links]:
            yield (Path(folder) / name).relative_to(directory).as_posix()


def printable(name: str) -> str:
    """A file's name as it may stand in a report: bytes that are no UTF-8 are replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
