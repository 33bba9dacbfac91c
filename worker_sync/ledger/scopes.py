"""What of its source a trail records, as entries: a table that leaves the trail and comes back leaves a mark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from worker_sync.core.position import Position
from worker_sync.core.table_scope import TableScope
from worker_sync.ledger.canonical import Json
from worker_sync.ledger.prepared import Prepared, prepared

SCOPE_KIND: Final = "scope"


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of a trail's scope: tables that it records now and did not before, those the other way round, and by
    table the columns that are left out or masked now and were not. `missed` are those of the `added` that it never said
    were out of it. All in name order."""

    added: list[str]
    removed: list[str]
    narrowed: dict[str, list[str]]
    missed: list[str]

    @property
    def shortfall(self) -> str:
        """What is not recorded, in words; empty where nothing is missing."""
        parts = [f"{table} was out of the trail for a while" for table in self.missed]
        parts += [f"{table} is recorded no more" for table in self.removed]
        parts += [f"{', '.join(columns)} of {table} not, or not in clear" for table, columns in self.narrowed.items()]
        return "; ".join(parts)


def difference(before: Iterable[TableScope], now: Iterable[TableScope], returned: Iterable[str] = ()) -> Difference:
    """From what the trail said last to what it records now; `returned` are tables that were out of it for a while."""
    was, has = {scope.table: scope for scope in before}, {scope.table: scope for scope in now}
    missed = was.keys() & has.keys() & set(returned)
    narrowed = {name: sorted(_hidden(has[name]) - _hidden(was[name])) for name in sorted(was.keys() & has.keys())}
    return Difference(
        sorted((has.keys() - was.keys()) | missed),
        sorted(was.keys() - has.keys()),
        {name: columns for name, columns in narrowed.items() if columns},
        sorted(missed),
    )


def scope(source: str, position: Position, tables: Iterable[TableScope], found: Difference) -> Prepared:
    """The trail, which stands at `position`, records these tables from here on."""
    return prepared(
        {
            "kind": SCOPE_KIND,
            "source": source,
            "position": str(position),
            "tables": [
                {"table": one.table, "left_out": list(one.left_out), "masked": list(one.masked)}
                for one in sorted(tables, key=lambda one: one.table)
            ],
            "added": list(found.added),
            "removed": list(found.removed),
            "narrowed": list(found.narrowed),
        }
    )


def tables_of(entry: Json) -> list[TableScope]:
    """The tables that such an entry names. Raises ValueError for one that was damaged."""
    return msgspec.convert(entry["tables"], list[TableScope])


def _hidden(of: TableScope) -> set[str]:
    """The columns of which no clear values are recorded."""
    return {*of.left_out, *of.masked}
