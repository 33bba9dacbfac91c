"""Which of a source's tables a pipeline takes, and what of each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from worker_sync.core.change import Change
from worker_sync.core.errors import ConfigError
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Row

#: Gives a source table as the target knows it, or None when the pipeline doesn't take the table.
TargetOf = Callable[[TableSchema], "Route | None"]


@dataclass(frozen=True, slots=True)
class Route:
    """One version of a source table on its way to a target.

    `source` is the table with all columns, `target` names the target's table and holds the columns that travel.
    `pick` makes a target row of a source row; None when every column travels.
    """

    source: TableSchema
    target: TableSchema
    pick: Callable[[Row], Row] | None

    def row(self, row: Row) -> Row:
        return row if self.pick is None else self.pick(row)

    def change(self, change: Change) -> Change:
        """The change with the columns that travel. Excluded values never leave this process."""
        pick = self.pick
        if pick is None:
            return change
        before = None if change.before is None else pick(change.before)
        after = None if change.after is None else pick(change.after)
        return Change(change.ordinal, change.op, change.table, change.key, before, after)


def make_route(source: TableSchema, target: TableSchema, excluded: Sequence[str]) -> Route:
    """The route of `source` into `target` without the excluded columns, of which this version of the table need not
    have all. Raises ConfigError when one of them is part of the key."""
    excluded = [name for name in excluded if name in source.column_names]
    needed = [name for name in excluded if name in source.key]
    if needed:
        raise ConfigError(f"column {', '.join(needed)} of {source.table} is part of its key and can't be excluded")
    if not excluded:
        return Route(source, target, None)
    kept = [index for index, column in enumerate(source.columns) if column.name not in excluded]
    columns = tuple(source.columns[index] for index in kept)
    narrowed = TableSchema(target.table, columns, target.key, target.engine)
    return Route(source, narrowed, _picker(kept))


def _picker(kept: list[int]) -> Callable[[Row], Row]:
    if len(kept) == 1:
        only = kept[0]
        return lambda row: (row[only],)
    return itemgetter(*kept)


class Routes(dict[int, "Route | None"]):
    """Routes by table id, worked out when an id is first met."""

    def __init__(self, schemas: dict[int, TableSchema], target_of: TargetOf) -> None:
        super().__init__()
        self._schemas = schemas
        self._target_of = target_of
        #: Target schemas by table id, as batches carry them.
        self.targets: dict[int, TableSchema] = {}

    def __missing__(self, table_id: int) -> Route | None:
        route = self[table_id] = self._target_of(self._schemas[table_id])
        if route is not None:
            self.targets[table_id] = route.target
        return route

    def version(self, table_id: int) -> TableSchema:
        """A version of a source table."""
        return self._schemas[table_id]

    def source_of(self, table_id: int) -> TableName:
        """The source's name of a table that was met."""
        return self._schemas[table_id].table
