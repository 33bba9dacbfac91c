"""An engine inside one process, for fast tests: source and target with the semantics of the real ones.

`memory://NAME` names a database of this process; `connectors.memory_store.MemoryDatabase.of(url)` is it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, Final

import msgspec

from connectors.base import (
    Finding,
    Mark,
    Outcome,
    Sink,
    SnapshotState,
    Source,
    Stream,
    StreamStatus,
    TableReader,
)
from connectors.memory_reader import MemoryReader
from connectors.memory_store import NOTHING, Entry, MemoryDatabase, MemoryTransaction, Slot, Table, now
from worker_sync.core.alteration import Alteration, altered_columns
from worker_sync.core.apply import Move, Step, TableWrites, Truncate, Verdict, decide, fold
from worker_sync.core.bags import BagWrites
from worker_sync.core.change import Batch, Piece, Progress
from worker_sync.core.errors import Fenced, Halt, State, TargetRejected, Transient
from worker_sync.core.parking import Parked, Plan, choose, parked_text, parse_parked
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row, is_complete

ENGINE: Final = "memory"
#: What a change is taken to need in the log, in bytes.
CHANGE_SIZE: Final = 100


class _Rehearsed(Exception):
    """Undoes a transaction that was to be tried only."""


class MemoryStream(Stream):
    def __init__(self, database: MemoryDatabase, slot: Slot, start: str) -> None:
        self._database = database
        self._slot = slot
        self._next = int(start, 16)
        self._sent = 0
        self._start: list[Piece | Progress] = [Progress(start)]
        self.schemas = database.schemas

    def close(self) -> None:
        with self._database.changed:
            if self._slot.reader is self:
                self._slot.reader = None

    def tick(self) -> None:
        """There is no connection to keep alive."""

    def confirm(self, commit: str) -> None:
        with self._database.changed:
            self._slot.confirmed = max(self._slot.confirmed, commit)

    def read(self, timeout: float, limit: int) -> list[Piece | Progress]:
        database = self._database
        with database.changed:
            database.changed.wait_for(self._has_news, timeout)
            if self._slot.reader is not self:
                raise Transient("the stream was cut off")
            _require_usable(self._slot)
            found, self._start = self._start, []
            room = limit
            while self._next < len(database.log) and room > 0:
                item = self._item(database.log[self._next], limit)
                found.append(item)
                room -= max(1, len(item.changes)) if isinstance(item, Piece) else 1
            return found

    def _has_news(self) -> bool:
        slot = self._slot
        return bool(self._start or slot.lost or slot.reader is not self or self._next < len(self._database.log))

    def _item(self, entry: Entry, limit: int) -> Piece | Progress:
        """The next piece of the transaction; a transaction that holds nothing for us is only progress."""
        ours = [change for table, change in entry.changes if table in self._slot.tables]
        if not ours and not entry.messages:
            self._next += 1
            return Progress(entry.info.commit)
        changes = ours[self._sent : self._sent + limit]
        messages = [] if self._sent else entry.messages
        self._sent += len(changes)
        last = self._sent == len(ours)
        if last:
            self._next += 1
            self._sent = 0
        return Piece(entry.info, changes, last, CHANGE_SIZE * len(changes), messages)


def _require_usable(slot: Slot) -> None:
    if slot.lost:
        raise Halt(State.SLOT_INVALIDATED, slot.lost, "worker-sync resync PIPELINE")


class MemorySource(Source):
    engine: ClassVar[str] = ENGINE
    home = "public"

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._database = MemoryDatabase.of(url)

    def close(self) -> None:
        """Nothing is held."""

    def identity(self) -> str:
        return self._database.identity

    def now(self) -> datetime:
        return datetime.now(UTC)

    def tables(self) -> list[TableSchema]:
        with self._database.changed:
            return [table.schema for _, table in sorted(self._database.tables.items())]

    def preflight(self, tables: Sequence[TableName]) -> list[Finding]:
        with self._database.changed:
            return [self._finding(name) for name in tables]

    def _finding(self, name: TableName) -> Finding:
        check = f"table {name}"
        table = self._database.tables.get(name)
        if table is None:
            return Finding(check, False, "is not there", f"create table {name}")
        return Finding(check, True, "has a key" if table.schema.key else "has no key")

    def create_stream(self, tables: Sequence[TableName]) -> Position:
        with self._database.changed:
            for finding in self.preflight(tables):
                if not finding.ok:
                    raise Halt(State.TABLE_UNSUPPORTED, f"{finding.check} {finding.detail}", finding.fix)
            slot = self._database.slots.setdefault(self._name, Slot(self._database.head, set()))
            _require_usable(slot)
            slot.tables = set(tables)
            return Position(slot.confirmed)

    def drop_stream(self) -> None:
        with self._database.changed:
            slot = self._database.slots.pop(self._name, None)
            if slot is not None:
                slot.lost = "the stream was dropped"
                self._database.changed.notify_all()

    def stream_status(self, confirmed: str = "") -> StreamStatus:
        database = self._database
        with database.changed:
            slot = database.slots.get(self._name)
            if slot is None:
                return StreamStatus(False, "", NOTHING, database.head, None)
            behind = database.log[int(slot.confirmed, 16) :]
            retained = CHANGE_SIZE * sum(len(entry.changes) for entry in behind)
            active = slot.reader is not None
            return StreamStatus(True, slot.lost, slot.confirmed, database.head, retained, active, held=not slot.lost)

    def open_stream(self, start: str) -> Stream:
        with self._database.changed:
            slot = self._database.slots.get(self._name)
            if slot is None:
                raise Halt(State.SLOT_MISSING, f"no stream for {self._name}", "worker-sync resync PIPELINE")
            _require_usable(slot)
            if slot.reader is not None:
                raise Transient(f"the stream of {self._name} is read by another process")
            if not slot.confirmed <= start <= self._database.head:
                raise Halt(State.POSITION_LOST, f"the log can't be read from {start}", "worker-sync resync PIPELINE")
            slot.reader = stream = MemoryStream(self._database, slot, start)
            return stream

    def cut_off(self) -> None:
        with self._database.changed:
            slot = self._database.slots.get(self._name)
            if slot is not None:
                slot.reader = None
            self._database.changed.notify_all()

    def reader(self) -> TableReader:
        return MemoryReader(self._database)

    def emit(self, prefix: str, content: bytes) -> str:
        with self._database.transaction() as transaction:
            transaction.message(prefix, content)
        return self._database.head


class MemorySink(Sink):
    engine: ClassVar[str] = ENGINE

    def __init__(self, name: str, url: str) -> None:
        self._database = MemoryDatabase.of(url)

    def close(self) -> None:
        """Nothing is held."""

    def identity(self) -> str:
        return self._database.identity

    def now(self) -> datetime:
        return datetime.now(UTC)

    def preflight(self, tables: Sequence[TableSchema]) -> list[Finding]:
        return [Finding(f"table {table.table}", True, "has a key" if table.key else "has no key") for table in tables]

    def prepare(self) -> None:
        """There is a place for watermarks already."""

    def map_table(self, source: TableSchema, to: str | None) -> TableSchema:
        name = source.table if to is None else TableName.parse(to)
        return msgspec.structs.replace(source, table=TableName(name.namespace or MemorySource.home, name.name))

    def create_table(self, table: TableSchema) -> bool:
        with self._database.changed:
            if table.table in self._database.tables:
                self._target(table)
                return False
            self._database.create_table(table)
            return True

    def fence(self, pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
        with self._database.changed:
            mark = self._database.marks.get((pipeline, shard)) or Mark(epoch, start, identity)
            if mark.epoch > epoch:
                raise Fenced(f"{pipeline}/{shard} is at epoch {mark.epoch}, this process has {epoch}")
            if mark.identity != identity:
                detail = f"{pipeline}/{shard} holds a position of {mark.identity}, now the source is {identity}"
                raise Halt(State.IDENTITY_CHANGED, detail, f"worker-sync resync {pipeline}")
            fenced = self._database.marks[pipeline, shard] = replace(mark, epoch=epoch)
            return fenced

    def marks(self, pipeline: str) -> dict[int, Mark]:
        return {shard: mark for (name, shard), mark in list(self._database.marks.items()) if name == pipeline}

    def forget(self, pipeline: str) -> None:
        with self._database.changed:
            for shard in self.marks(pipeline):
                del self._database.marks[pipeline, shard]

    def park(self, pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
        with self._database.changed:
            mark = self._database.marks[pipeline, shard]
            if mark.epoch == epoch:
                self._database.marks[pipeline, shard] = replace(mark, parked=parked)

    def apply(self, batch: Batch, plan: Plan | None = None) -> str:
        with self._database.changed:
            mark = self._database.marks.get((batch.pipeline, batch.shard))
            verdict = Verdict.EARLY if mark is None else decide(mark.epoch, mark.position, batch)
            if mark is None or verdict is not Verdict.APPLY:
                return verdict.value if verdict is not Verdict.APPLY else Outcome.EARLY
            changes = choose(batch, mark.position, parked_text(mark.parked), plan)
            if changes is None:
                return Outcome.HELD
            if batch.alteration is not None:
                self._alter(batch.alteration)
            try:
                with self._database.transaction() as transaction:
                    for step in fold(batch, changes):
                        self._step(transaction, step)
                    if plan is not None and plan.rehearsal:
                        transaction.check()
                        raise _Rehearsed
            except _Rehearsed:
                return Outcome.APPLIED
            if plan is not None:
                mark = replace(mark, parked=parse_parked(plan.after))
            self._database.marks[batch.pipeline, batch.shard] = _advanced(mark, batch, len(changes))
            return Outcome.APPLIED

    def reader(self) -> TableReader:
        return MemoryReader(self._database)

    def _target(self, schema: TableSchema) -> Table:
        target = self._database.tables.get(schema.table)
        if target is None:
            raise Halt(State.SCHEMA_MISMATCH, f"there is no table {schema.table}", f"create table {schema.table}")
        missing = [name for name in schema.column_names if name not in target.schema.column_names]
        if missing:
            raise Halt(State.SCHEMA_MISMATCH, f"{schema.table} has no column {missing[0]}", "add the column")
        if set(target.schema.key) != set(schema.key):
            raise Halt(State.SCHEMA_MISMATCH, f"{schema.table} has another key", "give it the source's key")
        return target

    def _alter(self, change: Alteration) -> None:
        target = self._database.tables.get(change.after.table)
        if target is None:
            raise Halt(State.SCHEMA_MISMATCH, f"there is no table {change.after.table}", "create it")
        old = [column.name for column in target.schema.columns]
        columns = altered_columns(target.schema.columns, change)
        origin = {new: name for name, new in change.renamed.items() if name in old}
        places = [old.index(name) if (name := origin.get(column.name, column.name)) in old else None
                  for column in columns]  # fmt: skip
        schema = msgspec.structs.replace(target.schema, columns=columns, key=change.after.key)
        self._database.alter_table(schema, lambda row: tuple(None if place is None else row[place] for place in places))

    def _step(self, transaction: MemoryTransaction, step: Step) -> None:
        if isinstance(step, Truncate):
            transaction.truncate(self._target(step.table).schema.table)
        elif isinstance(step, Move):
            self._move(transaction, step)
        else:
            for writes in step.tables:
                self._write(transaction, writes)
            for bag in step.bags:
                self._write_bag(transaction, bag)

    def _shaped(self, schema: TableSchema) -> tuple[Table, Callable[[Row], Row], Callable[[Key], Key]]:
        """The target, and what puts a row and a key of the batch into its columns' order."""
        target = self._target(schema)
        places = [schema.column_names.index(name) if name in schema.column_names else None
                  for name in target.schema.column_names]  # fmt: skip
        parts = [schema.key.index(name) for name in target.schema.key]
        return (
            target,
            lambda row: tuple(UNCHANGED if place is None else row[place] for place in places),
            lambda key: tuple(key[part] for part in parts),
        )

    def _move(self, transaction: MemoryTransaction, step: Move) -> None:
        target, shape, shape_key = self._shaped(step.table)
        old, row = shape_key(step.key), shape(step.row)
        name, new = target.schema.table, target.key_of(row)
        if transaction.row(name, new) is not None:
            transaction.delete(name, old)
            transaction.update(name, new, row)
        elif transaction.row(name, old) is not None:
            transaction.update(name, old, row)
        elif not step.loading:
            raise TargetRejected(f"{name}: there is no row with key {old}")

    def _write(self, transaction: MemoryTransaction, writes: TableWrites) -> None:
        target, shape, shape_key = self._shaped(writes.table)
        name = target.schema.table
        for key in writes.deletes:
            transaction.delete(name, shape_key(key))
        for source_row in writes.rows.values():
            row = shape(source_row)
            key = target.key_of(row)
            if transaction.row(name, key) is not None:
                transaction.update(name, key, row)
            elif is_complete(source_row):
                transaction.insert(name, _filled(row))
            elif not writes.loading:
                raise TargetRejected(f"{name}: there is no row with key {key}")

    def _write_bag(self, transaction: MemoryTransaction, writes: BagWrites) -> None:
        target, shape, _ = self._shaped(writes.table)
        name = target.schema.table
        for row in writes.deletes:
            transaction.replace_equal(name, _filled(shape(row)), None)
        for row in writes.inserts:
            transaction.insert(name, _filled(shape(row)))


def _filled(row: Row) -> Row:
    """The row with NULL in the columns that only the target has."""
    return tuple(None if value is UNCHANGED else value for value in row)


def _advanced(mark: Mark, batch: Batch, changes: int) -> Mark:
    snapshots = dict(mark.snapshots)
    if batch.snapshot is not None:
        state = SnapshotState(batch.snapshot.chunk, batch.snapshot.last_key, batch.snapshot.done)
        snapshots[batch.snapshot.table] = state
    return replace(
        mark,
        position=batch.upto,
        committed_at=mark.committed_at if batch.committed_at is None else batch.committed_at,
        applied_at=now(),
        changes=mark.changes + changes,
        batches=mark.batches + 1,
        snapshots=snapshots,
    )
