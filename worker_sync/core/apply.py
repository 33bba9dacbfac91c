"""The apply rule, and folding a batch to its final effect.

Every sink runs `decide` with the shard's watermark row locked, inside the transaction that also writes the data and
the new watermark. So lost, repeated, late and reordered messages can't change the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from worker_sync.core.bags import BagFolder, BagWrites
from worker_sync.core.change import Batch, Change, Op
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row, is_complete, merge


class Verdict(Enum):
    APPLY = "apply"
    #: All of it is applied already: acknowledge and forget.
    DUPLICATE = "duplicate"
    #: A batch before it is not applied yet: try again shortly.
    EARLY = "early"
    #: Cut by a capture that has been replaced; the new one sends these changes again.
    STALE = "stale"


def decide(epoch: int, watermark: Position, batch: Batch) -> Verdict:
    """What to do with `batch` when the shard stands at `watermark` and was fenced at `epoch`."""
    if batch.epoch != epoch:
        return Verdict.STALE if batch.epoch < epoch else Verdict.EARLY
    if batch.upto <= watermark:
        return Verdict.DUPLICATE
    if batch.after > watermark:
        return Verdict.EARLY
    return Verdict.APPLY


def changes_beyond(batch: Batch, watermark: Position) -> list[Change]:
    """The changes of `batch` that the shard's watermark does not cover yet, in order."""
    if batch.after == watermark or not batch.sections:
        # Rows that were read have one place in the log, all of them.
        return batch.changes
    return [change for _, change, position in batch.positions() if position > watermark]


@dataclass(slots=True)
class Truncate:
    """Empty the table."""

    table: TableSchema


@dataclass(slots=True)
class Move:
    """Give the row with `key` the values of `row`, its key included; `row` holds UNCHANGED columns.

    Only an update of the existing row can keep a column that the source did not send.
    """

    table: TableSchema
    key: Key
    row: Row
    loading: bool


@dataclass(slots=True)
class TableWrites:
    """The final effect of a run of changes on one table; no key stands in both `rows` and `deletes`.

    Deletes are to be written before rows, which frees the unique values that rows may take over.

    A complete row is an upsert. A row with UNCHANGED columns updates a row that exists; where it does not exist it
    is an error, unless the table is `loading`: then its snapshot chunk will bring it.
    """

    table: TableSchema
    loading: bool
    rows: dict[Key, Row] = field(default_factory=dict)
    deletes: dict[Key, None] = field(default_factory=dict)


@dataclass(slots=True)
class Writes:
    """Independent per-table writes, in any order; those without key are `bags`. No table stands in it twice."""

    tables: list[TableWrites]
    bags: list[BagWrites] = field(default_factory=list)


Step = Truncate | Move | Writes


class _Folder:
    """Collects changes per table and key; what can't be collected closes the run and becomes a step of its own.

    A batch may know a table by several ids, one for each version: another one closes the run as well, because of two
    writes to one table nobody could say which comes first.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._open: dict[int, TableWrites] = {}
        self._bags: dict[int, BagFolder] = {}
        self._names: set[TableName] = set()
        self._steps: list[Step] = []

    def _begin(self, table_id: int) -> TableSchema:
        table = self._batch.tables[table_id]
        if table.table in self._names:
            self.close_run()
        self._names.add(table.table)
        return table

    def writes(self, table_id: int) -> TableWrites:
        writes = self._open.get(table_id)
        if writes is None:
            table = self._begin(table_id)
            writes = self._open[table_id] = TableWrites(table, table_id in self._batch.loading)
        return writes

    def bag(self, table_id: int) -> BagFolder:
        bag = self._bags.get(table_id)
        if bag is None:
            bag = self._bags[table_id] = BagFolder(self._begin(table_id))
        return bag

    def close_run(self) -> None:
        if self._open or self._bags:
            self._steps.append(Writes(list(self._open.values()), [bag.writes() for bag in self._bags.values()]))
            self._open, self._bags, self._names = {}, {}, set()

    def add(self, step: Step) -> None:
        self.close_run()
        self._steps.append(step)

    def steps(self) -> list[Step]:
        self.close_run()
        return self._steps


def fold(batch: Batch, changes: list[Change]) -> list[Step]:
    """The steps that leave the target as applying `changes` one by one would.

    Applying the steps in order inside one transaction is equivalent only as a whole: between steps, and inside
    `Writes`, intermediate states of the source transaction don't appear.
    """
    inserts = _only_inserts(batch, changes)
    if inserts is not None:
        return [inserts]
    folder = _Folder(batch)
    keyless = {number for number, table in batch.tables.items() if not table.key}
    for change in changes:
        if change.op == Op.TRUNCATE:
            folder.add(Truncate(batch.tables[change.table]))
        elif change.table in keyless:
            folder.bag(change.table).add(change)
        elif change.op == Op.DELETE:
            assert change.key is not None
            _delete(folder.writes(change.table), change.key)
        else:
            _put(folder, change)
    return folder.steps()


def _only_inserts(batch: Batch, changes: list[Change]) -> Writes | None:
    """The writes of changes that are inserts of distinct rows of one table, which need no folding."""
    kinds = {(change.op, change.table) for change in changes}
    if len(kinds) != 1:
        return None
    op, table_id = kinds.pop()
    table = batch.tables[table_id]
    if op not in (Op.INSERT, Op.READ):
        return None
    # zip makes a key's tuple of one column, or of several, without a call per row.
    after = [change.after for change in changes if change.after is not None]
    if not table.key:
        return Writes([], [BagWrites(table, after)])
    rows = dict(
        zip(zip(*[[row[index] for row in after] for index in table.key_indexes], strict=True), after, strict=True)
    )
    # A key that comes twice needs the general way.
    return Writes([TableWrites(table, table_id in batch.loading, rows)]) if len(rows) == len(changes) else None


def _delete(writes: TableWrites, key: Key) -> None:
    writes.rows.pop(key, None)
    writes.deletes[key] = None


def _put(folder: _Folder, change: Change) -> None:
    row = change.after
    assert row is not None
    writes = folder.writes(change.table)
    new_key = tuple([row[index] for index in writes.table.key_indexes])
    old_key = new_key if change.key is None else change.key
    earlier = writes.rows.get(old_key)
    if earlier is not None:
        row = merge(earlier, row)
    if old_key in writes.deletes and not is_complete(row):
        # The deleted row must be gone by then: nothing of it may be kept.
        folder.close_run()
        writes = folder.writes(change.table)
    if old_key != new_key:
        if not is_complete(row):
            folder.add(Move(writes.table, old_key, row, writes.loading))
            return
        _delete(writes, old_key)
    writes.deletes.pop(new_key, None)
    writes.rows[new_key] = row
