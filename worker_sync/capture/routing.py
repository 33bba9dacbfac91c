"""Which of a source's tables a pipeline takes, and what of each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker_sync.capture.filtering import filtered
from worker_sync.core.change import Change, Op
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.shape import Shaper
from worker_sync.core.values import Key, Row

#: Gives a source table as the target knows it, or None when the pipeline doesn't take the table.
TargetOf = Callable[[TableSchema], "Route | None"]


@dataclass(frozen=True, slots=True)
class Route:
    """One version of a source table on its way to a target.

    `source` is the table with all columns, `target` names the target's table and holds the columns that travel.
    `shaper` makes a target row of a source row; None when every row travels as it is.
    """

    source: TableSchema
    target: TableSchema
    shaper: Shaper | None

    @property
    def filters(self) -> bool:
        """Some rows of the table are not for the target."""
        return self.shaper is not None and self.shaper.keeps is not None

    def change(self, change: Change) -> Change | None:
        """The change as it travels; None when it does not concern the target. What is left out or masked never leaves
        this process in clear. Raises Halt for an update of which the filter can't say whether its row belongs to the
        pipeline, Unrepresentable for a document that is not as declared."""
        shaper = self.shaper
        if shaper is None:
            return change
        if shaper.unfold is not None:
            before = None if change.before is None else shaper.unfolded_or_none(change.before)
            after = None if change.after is None else shaper.unfold(change.after)
            change = Change(change.ordinal, change.op, change.table, change.key, before, after)
        if shaper.keeps is not None:
            kept = filtered(change, shaper.keeps, shaper.whole)
            if kept is None:
                return None
            change = kept
        if shaper.pick is None:
            return change
        before = None if change.before is None else shaper.pick(change.before)
        after = None if change.after is None else shaper.pick(change.after)
        return Change(change.ordinal, change.op, change.table, change.key, before, after)

    def row(self, row: Row) -> Row | None:
        """A complete row as it travels; None when it does not belong to the pipeline."""
        return row if self.shaper is None else self.shaper.row(row)

    def read(self, ordinal: int, key: Key, row: Row | None, *, again: bool) -> Change | None:
        """The change, of table 0, that brings a row of a snapshot chunk; `row` None: the target has it and the source
        has not. Of rows that don't belong to the pipeline only those that are read `again` may be at the target."""
        shaped = None if row is None else self.row(row)
        if shaped is not None:
            return Change(ordinal, Op.READ, 0, None, None, shaped)
        if row is not None and not again:
            return None
        return Change(ordinal, Op.DELETE, 0, key, None, None)

    def carries(self, row: Row) -> bool:
        """Whether a complete row of the source belongs at the target."""
        return not self.filters or self.row(row) is not None


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
