"""The offline export of a range of the ledger: a directory that is verified with public keys alone.

docs/reference/ledger-format.md describes its files.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from worker_sync.core.errors import ConfigError
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.checkpoint import parse
from worker_sync.ledger.merkle import HASH_BYTES
from worker_sync.ledger.note import Verifier, split, strict_base64
from worker_sync.ledger.proofs import HashOf, consistency_proof, subtree_roots

FORMAT: Final = "worker-sync-ledger-export/1"
MANIFEST: Final = "manifest.json"
ENTRIES: Final = "entries.jsonl"
LEAVES: Final = "leaves.bin"
LEFT: Final = "left.bin"
PROOFS: Final = "proofs.json"
CHECKPOINTS: Final = "checkpoints"
KEYS: Final = "keys"

#: Stands in `leaves.bin` for a leaf hash that the exporter did not find.
HOLE: Final = bytes(HASH_BYTES)

_T = TypeVar("_T", dict[str, str], dict[str, list[str]])

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Damaged(ValueError):
    """A file of an export can't be read."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which entries of which log an export has: [first, end). Nothing of it is trusted."""

    origin: str
    first: int
    end: int

    def to_bytes(self) -> bytes:
        return canonical({"format": FORMAT, "origin": self.origin, "first": str(self.first), "end": str(self.end)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Raises Damaged for all but the canonical bytes of a manifest."""
        fields = _canonical_text(data, dict[str, str])
        first, end = number(fields.get("first", "")), number(fields.get("end", ""))
        if first is None or end is None or first > end:
            raise Damaged("it names no range")
        manifest = cls(fields.get("origin", ""), first, end)
        if manifest.to_bytes() != data:
            raise Damaged(f"it is no manifest of {FORMAT}")
        return manifest


class Record(msgspec.Struct, frozen=True):
    """One entry of an export: its leaf hash as the tree has it (HOLE where it is lost), and its canonical bytes if they
    are still there. Without a leaf, a line that is there and has no place of its own."""

    leaf: bytes | None
    entry: bytes | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows that a range is part of signed trees: notes, public keys, and sizes to prove for anchors."""

    checkpoints: Sequence[str]
    keys: Sequence[Verifier]
    more_sizes: Sequence[int] = ()


def write_export(
    directory: Path,
    origin: str,
    first: int,
    records: Iterable[Record],
    evidence: Evidence,
    hash_of: HashOf,
    late: Mapping[int, bytes] = MappingProxyType({}),
) -> Manifest:
    """Write the entries from `first` on into a new directory; the manifest comes last, so its presence says complete.

    The leaf hashes are written as they are given, never computed from the entries: what differs is for the verifier
    to see. `late` is looked at when all records were read: leaf hashes by number for places that hold HOLE, of entries
    that stand elsewhere. `hash_of` is asked about all leaves left of `first` and between the end and the largest size
    to prove; a proof for which it raises LookupError is left out.
    Raises ConfigError for a directory that is not new, OSError, ValueError for what is no leaf hash or no
    checkpoint, and what `hash_of` raises.
    """
    try:
        (directory / CHECKPOINTS).mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"the export {directory} exists; name a new directory") from None
    end = first + _write_records(directory, first, records, late)
    notes = [(parse(split(note)[0]).size, note) for note in evidence.checkpoints]
    for index, (size, note) in enumerate(notes):
        (directory / CHECKPOINTS / f"{size:020}-{index}.note").write_text(note, encoding="utf-8", newline="\n")
    (directory / LEFT).write_bytes(b"".join(subtree_roots(0, first, hash_of)))
    sizes = {size for size, _ in notes}.union(evidence.more_sizes)
    (directory / PROOFS).write_bytes(canonical(_proofs(sizes, first, end, hash_of)))
    keys = "".join(f"{key}\n" for key in evidence.keys)
    (directory / KEYS).write_text(keys, encoding="utf-8", newline="\n")
    manifest = Manifest(origin, first, end)
    (directory / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


def read_proofs(data: bytes) -> dict[int, list[bytes]]:
    """The consistency proofs of an export by the size of the other tree. Raises Damaged."""
    proofs = {}
    for name, encoded in _canonical_text(data, dict[str, list[str]]).items():
        hashes = [hash_ for text in encoded if (hash_ := strict_base64(text)) is not None and len(hash_) == HASH_BYTES]
        size = number(name)
        if size is None or len(hashes) != len(encoded):
            raise Damaged("it holds something other than hashes by size")
        proofs[size] = hashes
    return proofs


def number(text: str) -> int | None:
    """A number as entries and manifests write it; None for all else."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _write_records(directory: Path, first: int, records: Iterable[Record], late: Mapping[int, bytes]) -> int:
    with (directory / ENTRIES).open("wb") as entries, (directory / LEAVES).open("wb") as leaves:
        for record in records:
            if record.leaf is not None:
                if len(record.leaf) != HASH_BYTES:
                    raise ValueError(f"a leaf hash has {HASH_BYTES} bytes")
                leaves.write(record.leaf)
            if record.entry is not None:
                entries.write(record.entry + b"\n")
        count = leaves.tell() // HASH_BYTES
        for number, leaf in late.items():
            leaves.seek((number - first) * HASH_BYTES)
            leaves.write(leaf)
        return count


def _proofs(sizes: Iterable[int], first: int, end: int, hash_of: HashOf) -> dict[str, list[str]]:
    """Inside of the range a root is computed from its leaves; outside, it takes a proof."""
    spans = {size: (size, first) if size < first else (end, size) for size in sizes if not first <= size <= end}
    proofs = {}
    for size, span in spans.items():
        with suppress(LookupError):
            proofs[str(size)] = [b64encode(hash_).decode() for hash_ in consistency_proof(*span, hash_of)]
    return proofs


def _canonical_text(data: bytes, kind: type[_T]) -> _T:
    try:
        decoded = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Damaged("it is no JSON of the right shape") from None
    if canonical(decoded) != data:
        raise Damaged("it is not in its canonical form")
    return decoded
