"""What differs between two versions of a table, and what a target has to do about it. No I/O.

Columns are told apart by their number where the source's engine numbers them, and by their name alone where not. Names
can't tell a rename from a drop and an addition, so there it is taken as the latter and the rows are copied again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec

from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type


class Alteration(msgspec.Struct, frozen=True, dict=True):
    """The table `before` becomes `after`. `renamed` maps old names of columns to new ones. Without columns `after` says
    that the table is gone, or has that name now; no target is asked to follow that, but a trail tells it."""

    before: TableSchema
    after: TableSchema
    renamed: dict[str, str] = {}

    @cached_property
    def dropped(self) -> tuple[str, ...]:
        kept = set(self.after.column_names) | set(self.renamed)
        return tuple(name for name in self.before.column_names if name not in kept)

    @cached_property
    def added(self) -> tuple[Column, ...]:
        known = set(self.before.column_names) | set(self.renamed.values())
        return tuple(column for column in self.after.columns if column.name not in known)

    @cached_property
    def retyped(self) -> tuple[Column, ...]:
        """Columns that stay and have another type now."""
        return tuple(now for was, now in self._kept if was.type != now.type)

    @cached_property
    def replaced(self) -> tuple[Column, ...]:
        """Columns that were dropped and added anew under the same name."""
        return tuple(now for was, now in self._kept if was.number and now.number and was.number != now.number)

    @cached_property
    def loosened(self) -> tuple[str, ...]:
        """Columns that may be NULL now. Where that is known of one version only, it is left alone."""
        return tuple(
            now.name for was, now in self._kept if now.nullable and not was.nullable and was.number == now.number
        )

    @cached_property
    def _kept(self) -> list[tuple[Column, Column]]:
        after = {column.name: column for column in self.after.columns}
        pairs = ((was, after.get(self.renamed.get(was.name, was.name))) for was in self.before.columns)
        return [(was, now) for was, now in pairs if now is not None]

    @property
    def is_end(self) -> bool:
        """The table is not there any more, under its name at least."""
        return not self.after.columns

    @property
    def is_visible(self) -> bool:
        """More than a column that may be NULL now."""
        return bool(self.renamed or self.dropped or self.added or self.retyped or self.replaced or self.obstacle)

    @cached_property
    def changes_values(self) -> bool:
        """Whether existing rows may have other values now than the log has told. A default given to an added column,
        and a conversion to another type, change rows without a word in the log."""
        if self.added or self.replaced or any(not _is_superset(was.type, now.type) for was, now in self._kept):
            return True
        return not all(column.number for table in (self.before, self.after) for column in table.columns)

    @property
    def obstacle(self) -> str:
        """Why the target can't follow; empty when it can."""
        key = tuple(self.renamed.get(name, name) for name in self.before.key)
        if key != self.after.key:
            return f"its key is ({', '.join(self.after.key)}) now, it was ({', '.join(self.before.key)})"
        for was, now in self._kept:
            if now.name in key and was.type.kind != now.type.kind:
                return f"column {now.name} of its key is {_shown(now.type)} now, it was {_shown(was.type)}"
        return ""

    def __str__(self) -> str:
        if self.is_end:
            same = self.after.table == self.before.table
            return f"{self.before.table} was {'dropped' if same else f'renamed {self.after.table}'}"
        parts = [f"column {old} was renamed {new}" for old, new in self.renamed.items()]
        parts += [f"column {name} was dropped" for name in self.dropped]
        parts += [f"column {column.name} ({_shown(column.type)}) was added" for column in self.added]
        parts += [f"column {column.name} was dropped and added anew" for column in self.replaced]
        parts += [f"column {column.name} is {_shown(column.type)} now" for column in self.retyped]
        parts += [f"column {name} may be NULL now" for name in self.loosened]
        return f"{self.after.table}: {', '.join(parts) or self.obstacle}"


def alteration(before: TableSchema, after: TableSchema) -> Alteration | None:
    """What leads from one version to the other; None when there is nothing to do in a target."""
    found = Alteration(before, after, _renamed(before, after))
    return found if found.is_visible or found.loosened else None


def end(before: TableSchema, renamed: TableName | None) -> Alteration:
    """The end of a table, that it was `renamed` where that is known."""
    return Alteration(before, TableSchema(renamed or before.table, (), (), before.engine, before.number))


def altered_columns(columns: Sequence[Column], change: Alteration) -> tuple[Column, ...]:
    """What becomes of a target's columns; what is done already is left alone, and what only the target has stays."""
    there = {column.name for column in columns}
    now = {column.name: column for column in change.after.columns}
    renamed = {old: new for old, new in change.renamed.items() if new not in there}
    names = [renamed.get(name, name) for name in (column.name for column in columns) if name not in change.dropped]
    by_name = {renamed.get(column.name, column.name): column for column in columns}
    kept = [now.get(name, by_name[name]) for name in names]
    return (*kept, *(column for column in change.after.columns if column.name not in names))


def _renamed(before: TableSchema, after: TableSchema) -> dict[str, str]:
    """Names that went over to nobody else only: of a swap, the steps done could not be told from those to do."""
    new = {column.number: column.name for column in after.columns if column.number}
    pairs = {column.name: new.get(column.number, column.name) for column in before.columns}
    old_names, new_names = set(before.column_names), set(after.column_names)
    return {old: now for old, now in pairs.items() if old not in new_names and now not in old_names}


def _is_superset(was: Type, now: Type) -> bool:
    """Every value of the old type is the same value of the new one, and no conversion can have changed it."""
    if was == now:
        return True
    return was.kind is Kind.ENUM is now.kind and was.native == now.native and set(was.labels) <= set(now.labels)


def _shown(type_: Type) -> str:
    return type_.native or str(type_.kind)
