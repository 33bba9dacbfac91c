"""What becomes of a change when its pipeline carries only some rows of the table.

An update can move a row out of the filter, which deletes it at the target, or into it, which inserts it there. What was
at the target before is known only where the source logs the old row; so without it

- an update of a row outside the filter deletes a row that may not be there, which is harmless;
- an update of a row inside the filter is passed on as it is: a complete row is written whether or not the target has
  it, and a row that lacks unchanged columns is refused by a target that does not have it.
"""

from __future__ import annotations

from collections.abc import Callable

from worker_sync.core.change import Change, Op
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Row, merge

Keeps = Callable[[Row], bool | None]


def filtered(change: Change, keeps: Keeps, table: TableSchema) -> Change | None:
    """The change as the target must see it, None when it need not; columns and key are those of the filter's table.

    Raises Halt for an update of which the log doesn't say whether its row belongs to the pipeline.
    """
    if change.op == Op.TRUNCATE:
        return change
    if change.op == Op.DELETE:
        return None if change.before is not None and keeps(change.before) is False else change
    assert change.after is not None
    if change.op != Op.UPDATE:
        return change if _decided(keeps(change.after), table) else None
    was = None if change.before is None else keeps(change.before)
    whole = change.after if change.before is None else merge(change.before, change.after)
    if not _decided(keeps(whole), table):
        return None if was is False else _removal(change, table)
    if was is False:
        return Change(change.ordinal, Op.INSERT, change.table, None, None, whole)
    return change


def _decided(verdict: bool | None, table: TableSchema) -> bool:
    if verdict is None:
        raise Halt(
            State.FILTER_UNDECIDED,
            f"an update of {table.table} does not carry the columns that its filter needs",
            "let the source log whole rows (PostgreSQL: ALTER TABLE ... REPLICA IDENTITY FULL; MongoDB: "
            "changeStreamPreAndPostImages), then worker-sync resync PIPELINE",
        )
    return verdict


def _removal(change: Change, table: TableSchema) -> Change:
    assert change.after is not None
    key = change.key
    if key is None:
        after = change.after
        key = tuple([after[index] for index in table.key_indexes])
    return Change(change.ordinal, Op.DELETE, change.table, key, change.before, None)
