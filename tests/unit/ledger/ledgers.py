"""Small ledgers, and exports of them, for the tests to damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.checkpoint import checkpoint, sign_checkpoint
from worker_sync.ledger.export import Evidence, Manifest, Record, write_export
from worker_sync.ledger.findings import Report
from worker_sync.ledger.keys import Ed25519Signer
from worker_sync.ledger.merkle import Frontier, leaf_hash
from worker_sync.ledger.note import Signer, Verifier
from worker_sync.ledger.proofs import tree_root
from worker_sync.ledger.tiles import hashes_from
from worker_sync.ledger.verify import Trust, verify

ORIGIN = "ledger.example/shop"
#: Of the ledger that most tests export.
SIZE = 23
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)

Lines: TypeAlias = list[bytes]


def signer(seed: int, name: str = ORIGIN) -> Ed25519Signer:
    return Ed25519Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


OLD, NEW, STRANGER = signer(1), signer(2), signer(3)


def verifier(of: Signer) -> Verifier:
    return Verifier.parse(of.verifier_key)


def entry(number: int, **fields: Any) -> dict[str, Any]:
    before = {"id": str(number), "email": f"{number}@example.org", "note": None}
    return {
        "number": str(number),
        "kind": "change",
        "op": "u",
        "table": "public.customers",
        "key": [str(number)],
        "before": before,
        "after": before | {"note": "größer", "text": {"unchanged": True}},
        "actor": "anna",
        **fields,
    }


@dataclass
class Ledger:
    """Entries with their tree, kept as a database would keep it."""

    entries: list[bytes] = field(default_factory=list)
    frontier: Frontier = field(default_factory=Frontier)
    stored: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def append(self, *entries: dict[str, Any]) -> None:
        first, added = self.frontier.size, [canonical(entry) for entry in entries]
        leaves = [leaf_hash(data) for data in added]
        self.entries += added
        self.stored |= {(0, index): leaf for index, leaf in enumerate(leaves, first)}
        self.stored |= {(node.level, node.index): node.hash for node in self.frontier.append(leaves)}

    def hash_of(self, level: int, index: int) -> bytes:
        return hashes_from(self.read)(level, index)

    def read(self, level: int, first: int, end: int) -> Sequence[bytes]:
        return [self.stored[level, index] for index in range(first, end) if (level, index) in self.stored]

    def note(self, *signers: Signer, origin: str = ORIGIN) -> str:
        return sign_checkpoint(checkpoint(origin, self.frontier.size, self.frontier.root, AT), signers or [OLD])

    def export(
        self, directory: Path, notes: Sequence[str], first: int = 0, end: int | None = None, prove: Sequence[int] = ()
    ) -> Manifest:
        span = range(first, self.frontier.size if end is None else end)
        records = (Record(self.stored[0, index], self.entries[index]) for index in span)
        return write_export(
            directory, ORIGIN, first, records, Evidence(notes, [verifier(OLD)], more_sizes=prove), self.hash_of
        )


def grown(*sizes: int, signers: Sequence[Signer] = (OLD,), **changed: Any) -> tuple[Ledger, list[str]]:
    """A ledger, and a checkpoint of it at each size. The entry at half of it all has the `changed` fields."""
    ledger, notes = Ledger(), []
    for size in sizes:
        numbers = range(ledger.frontier.size, size)
        ledger.append(*(entry(n, **(changed if n == sizes[-1] // 2 else {})) for n in numbers))
        notes.append(ledger.note(*signers))
    return ledger, notes


def verified(
    directory: Path,
    *signers: Signer,
    anchors: Sequence[str] = (),
    expect: tuple[int, int | None] = (0, None),
) -> Report:
    return verify(directory, Trust([verifier(one) for one in signers or [OLD]], anchors), expect)


def relined(export: Path, change: Callable[[Lines], Lines]) -> None:
    path = export / "entries.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def places(report: Report) -> list[tuple[str, int | None, int | None]]:
    return [(finding.kind.value, finding.first, finding.last) for finding in report.findings]


def note_at(ledger: Ledger, size: int, *signers: Signer) -> str:
    """A checkpoint of what `ledger` was at `size`."""
    tree = checkpoint(ORIGIN, size, tree_root(size, ledger.hash_of), AT)
    return sign_checkpoint(tree, signers or [OLD])


def anchor_of(size: int) -> str:
    """A checkpoint of the true ledger, in which nobody changed anything."""
    ledger = Ledger()
    ledger.append(*(entry(number) for number in range(size)))
    return ledger.note()
