"""What an engine provides to run the sink contract suite, and builders of batches for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import pytest

from connectors.base import Mark, Outcome, Sink
from worker_sync.core.change import Batch, Change, Op, Section, SnapshotMark, TransactionInfo
from worker_sync.core.position import BEGINNING, Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import Key, Row

PIPELINE = "p"
SHARD = 0
IDENTITY = "source-1"

INT = Type(Kind.INT, "bigint", size=64)
TEXT = Type(Kind.TEXT, "text")


class SinkTarget(ABC):
    """One target database of an engine. What an engine's tables can't do is declared, not special-cased."""

    #: The target refuses a null in a column that is not nullable.
    refuses_nulls: ClassVar[bool] = True
    #: A target table has a fixed set of columns.
    has_columns: ClassVar[bool] = True
    #: The target can have unique constraints beside the key, checked against the state after a transaction.
    has_unique: ClassVar[bool] = True
    #: The engine can write tables without a key.
    has_bags: ClassVar[bool] = True
    #: It holds NaN, infinities and -0.0.
    has_odd_floats: ClassVar[bool] = True
    #: Kinds that are left out of the round trip of extreme values, with a reason beside it.
    without_kinds: ClassVar[frozenset[Kind]] = frozenset()

    @abstractmethod
    def open(self) -> Sink:
        """A sink on this target, with a connection of its own; the suite closes it."""

    def add_unique(self, table: TableSchema, columns: Sequence[str]) -> None:
        """Put a unique constraint on an existing target table."""
        raise NotImplementedError(f"{type(self).__name__} declares has_unique")


def table_schema(name: str, *columns: Column, key: Sequence[str] = ("id",)) -> TableSchema:
    """A table as a PostgreSQL source would announce it."""
    return TableSchema(TableName("public", name), columns, tuple(key), "postgresql")


def notes(name: str = "notes") -> TableSchema:
    """The suite's usual table: id, title (not null), body."""
    return table_schema(name, Column("id", INT, False), Column("title", TEXT, False), Column("body", TEXT))


def at(number: int) -> Position:
    """The end of transaction `number`."""
    return Position(f"{number:016x}") if number else BEGINNING


class Script:
    """Builds the batches of one source: transactions get positions in the order in which they are added."""

    def __init__(self, *tables: TableSchema, epoch: int = 1, loading: bool = False, pipeline: str = PIPELINE) -> None:
        self.tables = dict(enumerate(tables, 1))
        self.epoch = epoch
        self.loading = loading
        self.pipeline = pipeline
        self.transactions: list[list[Change]] = []

    def add(self, *changes: Change) -> None:
        """One more transaction; numbers its changes."""
        for ordinal, change in enumerate(changes, 1):
            change.ordinal = ordinal
        self.transactions.append(list(changes))

    def batch(self, first: int, last: int, epoch: int | None = None) -> Batch:
        """The batch of transactions `first` to `last`, numbered from 1."""
        span = range(first, last + 1)
        return Batch(
            source="s",
            pipeline=self.pipeline,
            shard=SHARD,
            epoch=self.epoch if epoch is None else epoch,
            after=at(first - 1),
            upto=at(last),
            sections=[
                Section(TransactionInfo(at(number).commit, committed_at(number), str(number)), len(changes))
                for number in span
                if (changes := self.transactions[number - 1])
            ],
            tables=self.tables,
            changes=[change for number in span for change in self.transactions[number - 1]],
            loading=list(self.tables) if self.loading else [],
        )

    def whole(self) -> Batch:
        """All transactions as one batch."""
        return self.batch(1, len(self.transactions))


def committed_at(number: int) -> int:
    return 1_700_000_000_000_000 + number


def chunk_batch(table: TableSchema, rows: Sequence[Row], after: Position, number: int, done: bool = False) -> Batch:
    """A snapshot chunk that follows the position `after`."""
    changes = [Change(ordinal, Op.READ, 1, None, None, row) for ordinal, row in enumerate(rows, 1)]
    last = tuple(rows[-1][index] for index in table.key_indexes) if rows else None
    upto = Position(after.commit, after.ordinal, after.chunk + 1)
    source = TableName("public", table.table.name)
    mark = SnapshotMark(str(source), number, last, done)
    return Batch("s", PIPELINE, SHARD, 1, after, upto, [], {1: table}, changes, mark)


def insert(row: Row, table: int = 1) -> Change:
    return Change(0, Op.INSERT, table, None, None, row)


def update(row: Row, key: Key | None = None, table: int = 1) -> Change:
    return Change(0, Op.UPDATE, table, key, None, row)


def delete(key: Key, table: int = 1) -> Change:
    return Change(0, Op.DELETE, table, key, None, None)


def truncate(table: int = 1) -> Change:
    return Change(0, Op.TRUNCATE, table, None, None, None)


def read_rows(sink: Sink, table: TableSchema) -> dict[Key, Row]:
    """All rows of a target table by key."""
    with sink.reader() as reader:
        chunk = reader.chunk(table, None, 100_000)
        return {tuple(row[index] for index in table.key_indexes): row for row in chunk.rows}


def require(there: bool, what: str) -> None:
    if not there:
        pytest.skip(f"this engine declares that it has no {what}")


def created(sink: Sink, schema: TableSchema) -> TableSchema:
    mapped = sink.map_table(schema, None)
    assert sink.create_table(mapped)
    return mapped


def fence(sink: Sink, epoch: int = 1) -> Mark:
    return sink.fence(PIPELINE, SHARD, epoch, IDENTITY, BEGINNING)


def begin_anew(sink: Sink, table: TableSchema) -> None:
    """An empty table and a pipeline at the beginning."""
    sink.forget("cleaner")
    sink.fence("cleaner", SHARD, 1, IDENTITY, BEGINNING)
    cleaner = Script(table, pipeline="cleaner")
    cleaner.add(truncate())
    assert sink.apply(cleaner.whole()) == Outcome.APPLIED
    sink.forget(PIPELINE)
    fence(sink)


def apply_each(sink: Sink, script: Script) -> None:
    for number in range(1, len(script.transactions) + 1):
        assert sink.apply(script.batch(number, number)) == Outcome.APPLIED


def part(whole: Batch, after: Position, upto: Position, span: slice) -> Batch:
    changes = whole.changes[span]
    sections = [type(whole.sections[0])(whole.sections[0].info, len(changes))]
    return Batch(
        whole.source, whole.pipeline, whole.shard, whole.epoch, after, upto, sections, whole.tables, changes, split=True
    )


def sorted_rows(sink: Sink, schema: TableSchema) -> list[Row]:
    return [row for _, row in sorted(read_rows(sink, schema).items())]
