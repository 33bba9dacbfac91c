"""Keys whose changes are parked in dead letters: which changes they hold back, and their form as text.

A key that has a parked change is held: whatever changes it later is parked as well, in order, until a replay or a
release lets it go. Which keys are held stands in the target, in the row of the shard's watermark, and changes in the
transaction that also writes the data. A held key is named by its source table, so that a target's table may get another
name.

A key as text is a JSON array of its parts, bytes as ``{"bytes": HEX}``: the same key is always the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from worker_sync.core.apply import changes_beyond
from worker_sync.core.change import Batch, Change, Op
from worker_sync.core.position import Position
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key

#: A source table's name and a key of it.
HeldKey: TypeAlias = tuple[str, Key]
Parked: TypeAlias = frozenset[HeldKey]
_LONE: Final = re.compile("[\ud800-\udfff]")
NONE_PARKED: Final[Parked] = frozenset()


def key_text(key: Key) -> str:
    """The key as JSON, as letters and signals hold it."""
    return _dump([_encoded(part) for part in key])


def parse_key(text: str) -> Key:
    """Read back what `key_text` wrote. Raises ValueError on anything else."""
    parts = json.loads(text)
    if not isinstance(parts, list):
        raise ValueError(f"not a key: {text!r} (expected a JSON array of its parts)")
    return tuple([_decoded(part) for part in parts])


def _dump(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # What is no text (half of a surrogate pair) can't be stored unless it is escaped.
    return text if text.isascii() or not _LONE.search(text) else json.dumps(value, separators=(",", ":"))


def _encoded(part: Any) -> Any:
    return {"bytes": part.hex()} if isinstance(part, bytes) else part


def _decoded(part: Any) -> Any:
    if isinstance(part, dict):
        if set(part) != {"bytes"} or not isinstance(part["bytes"], str):
            raise ValueError('a part of a key is an object that is not {"bytes": HEX}')
        return bytes.fromhex(part["bytes"])
    if isinstance(part, list):
        raise ValueError("a part of a key is an array")
    return part


def parked_text(parked: Collection[HeldKey]) -> str:
    """Held keys as a target keeps them: one text for one set, empty for none."""
    if not parked:
        return ""
    by_table: dict[str, list[str]] = {}
    for table, key in parked:
        by_table.setdefault(table, []).append(key_text(key))
    return _dump({table: sorted(by_table[table]) for table in sorted(by_table)})


@lru_cache(maxsize=256)
def parse_parked(text: str | None) -> Parked:
    """Read back what `parked_text` wrote; a row from before there were held keys has None."""
    if not text:
        return NONE_PARKED
    return frozenset((table, parse_key(key)) for table, keys in json.loads(text).items() for key in keys)


# -- what is held


def keys_of(change: Change, table: TableSchema) -> tuple[Key, ...]:
    """The key that a change had and, where it is another one, the key that it has then; none of a table without key."""
    if not table.key or change.op == Op.TRUNCATE:
        return ()
    old = change.key
    if change.after is None:
        return () if old is None else (old,)
    after = change.after
    new = tuple([after[index] for index in table.key_indexes])
    return (new,) if old is None or old == new else (old, new)


def without(parked: Iterable[HeldKey], released: Sequence[tuple[str, Key | None]]) -> set[HeldKey]:
    """The keys that stay held when `released` are let go; None stands for all keys of the table."""
    gone = {(table, key) for table, key in released if key is not None}
    tables = {table for table, key in released if key is None}
    return {held for held in parked if held not in gone and held[0] not in tables}


def touches(batch: Batch, changes: Iterable[Change], parked: Parked) -> bool:
    """Whether anything of the batch concerns a held key, so that it can't be applied as it is."""
    if len(without(parked, batch.released)) < len(parked):
        return True
    tables = {table for table, _ in parked}
    concerned = {number: origin for number in batch.tables if (origin := batch.origin(number)) in tables}
    for change in changes:
        if change.table not in concerned:
            continue
        origin = concerned[change.table]
        if change.op == Op.TRUNCATE:
            return True
        if any((origin, key) in parked for key in keys_of(change, batch.tables[change.table])):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Held:
    """A change that is parked: its place among the changes that were divided, and the keys that it holds."""

    index: int
    change: Change
    keys: tuple[HeldKey, ...]


@dataclass(frozen=True, slots=True)
class Division:
    """Changes divided into those to apply and those to park, in order, and the keys that are held after all of it."""

    kept: list[Change]
    held: list[Held]
    parked: set[HeldKey]


def divide(batch: Batch, changes: Sequence[Change], parked: Parked, refused: Collection[int] = ()) -> Division:
    """Walk `changes` in order. A change is parked when it stands at one of the places `refused` or when a key of it is
    held; then all its keys are held. A truncate lets the keys of its table go, and what was parked of them before it
    has no effect any more."""
    holding = without(parked, batch.released)
    kept: list[Change] = []
    held: list[Held] = []
    origins = {number: batch.origin(number) for number in batch.tables}
    for index, change in enumerate(changes):
        origin = origins[change.table]
        if change.op == Op.TRUNCATE:
            holding = {key for key in holding if key[0] != origin}
            held = [entry for entry in held if entry.keys[0][0] != origin]
            kept.append(change)
            continue
        keys = tuple([(origin, key) for key in keys_of(change, batch.tables[change.table])])
        if index in refused or any(key in holding for key in keys):
            holding.update(keys)
            held.append(Held(index, change, keys))
        else:
            kept.append(change)
    return Division(kept, held, holding)


# -- what a sink is told


@dataclass(frozen=True, slots=True)
class Plan:
    """What to apply of a batch: `changes` alone, holding the keys `after` from then on.

    It was made for a shard that stands at `watermark` and holds the keys `before` (both sets as `parked_text`). Where
    the shard stands otherwise the plan says nothing: the sink changes nothing. A `rehearsal` is undone at its end.
    """

    watermark: Position
    before: str
    after: str
    changes: list[Change]
    rehearsal: bool = False


def choose(batch: Batch, watermark: Position, parked: str | None, plan: Plan | None) -> list[Change] | None:
    """The changes of `batch` to apply to a shard that stands at `watermark` and holds the keys `parked`; None when that
    takes a plan, or another one. To be asked with the watermark locked, like `worker_sync.core.apply.decide`."""
    if plan is not None:
        return plan.changes if (plan.watermark, plan.before) == (watermark, parked or "") else None
    changes = changes_beyond(batch, watermark)
    return None if parked and touches(batch, changes, parse_parked(parked)) else changes
