"""What an evidence pack says of its entries and checkpoints. Read from the export, so that anybody can count again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from worker_sync.ledger.checkpoint import parse
from worker_sync.ledger.entries import GAP_KIND
from worker_sync.ledger.note import NoteError, Signature, Verifier, split
from worker_sync.ledger.scopes import SCOPE_KIND

KEY_KIND: Final = "key"
CHANGE_KIND: Final = "change"
#: Entries of these kinds are told as they are.
_WHOLE: Final = (GAP_KIND, KEY_KIND, SCOPE_KIND)


class _Glance(msgspec.Struct):
    """The fields of an entry by which entries are counted."""

    kind: str
    source: str | None = None
    table: str | None = None
    operation: str | None = None


@dataclass(slots=True)
class SourceFacts:
    """Entries of one source: by kind, changes by table and operation, and, as the ledger has them, its gaps and what
    its trail covers."""

    entries: Counter[str] = field(default_factory=Counter)
    tables: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    gaps: list[dict[str, Any]] = field(default_factory=list)
    scopes: list[dict[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        tables = {table: dict(counts) for table, counts in self.tables.items()}
        return {
            "entries": dict(self.entries),
            "tables": tables,
            "gaps": _some(self.gaps, "number", "recorded_at", "from", "to", "reason"),
            "scopes": _some(self.scopes, "number", "recorded_at", "position", "tables", "added", "removed", "narrowed"),
        }


@dataclass(slots=True)
class EntryFacts:
    """Entries by source and by kind; entries about keys as they are. `unreadable` lines are no entries."""

    sources: defaultdict[str, SourceFacts] = field(default_factory=lambda: defaultdict(SourceFacts))
    entries: Counter[str] = field(default_factory=Counter)
    keys: list[dict[str, Any]] = field(default_factory=list)
    unreadable: int = 0

    def document(self) -> dict[str, Any]:
        sources = {name: source.document() for name, source in self.sources.items()}
        return {"entries": dict(self.entries), "sources": sources, "unreadable": self.unreadable}


def _some(entries: Iterable[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """These fields of entries."""
    return [{name: entry.get(name) for name in names} for entry in entries]


def facts_of(lines: Iterable[bytes]) -> EntryFacts:
    """Count the lines of `entries.jsonl`, in the memory of one line and of what is listed."""
    facts = EntryFacts()
    decoder = msgspec.json.Decoder(_Glance)
    for line in lines:
        try:
            _count(facts, decoder.decode(line), line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            facts.unreadable += 1
    return facts


def _count(facts: EntryFacts, entry: _Glance, line: bytes) -> None:
    whole = msgspec.json.decode(line, type=dict[str, Any]) if entry.kind in _WHOLE else {}
    facts.entries[entry.kind] += 1
    if entry.kind == KEY_KIND:
        facts.keys.append(whole)
    if entry.source is None:
        return
    source = facts.sources[entry.source]
    source.entries[entry.kind] += 1
    if entry.kind == GAP_KIND:
        source.gaps.append(whole)
    elif entry.kind == SCOPE_KIND:
        source.scopes.append(whole)
    elif entry.kind == CHANGE_KIND and entry.table is not None:
        source.tables[entry.table][str(entry.operation)] += 1


def signed_by(notes: Iterable[str], keys: Sequence[Verifier]) -> list[dict[str, Any]]:
    """The keys whose signatures stand under checkpoints: `valid`, `wrong`, or `unknown` where no trusted key is named
    so, with the smallest and the largest tree and the first and the last time that such a checkpoint says."""
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for note in notes:
        try:
            text, signatures = split(note)
            tree = parse(text)
        except NoteError:
            continue
        for signature in signatures:
            key = f"{signature.name}+{signature.key_id.hex()}"
            seen = found.setdefault(
                (key, _standing(signature, text, known)), {"checkpoints": 0, "sizes": [], "times": []}
            )
            seen["checkpoints"] += 1
            seen["sizes"] = _ends([*seen["sizes"], tree.size])
            seen["times"] = _ends([*seen["times"], tree.time] if tree.time else seen["times"])
    return [{"key": key, "signature": standing, **seen} for (key, standing), seen in sorted(found.items())]


def _standing(signature: Signature, text: str, known: dict[tuple[str, bytes], Verifier]) -> str:
    key = known.get((signature.name, signature.key_id))
    if key is None:
        return "unknown"
    return "valid" if key.verifies(text.encode(), signature.signature) else "wrong"


def _ends(values: list[Any]) -> list[Any]:
    return [min(values), max(values)] if values else []
