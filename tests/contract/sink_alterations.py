"""What a sink does with a batch that alters a table."""

from __future__ import annotations

import pytest

from connectors.base import Outcome, Sink, SnapshotState
from tests.contract.sink_target import (
    INT,
    PIPELINE,
    SHARD,
    TEXT,
    Script,
    SinkTarget,
    created,
    fence,
    insert,
    read_rows,
    require,
    table_schema,
)
from worker_sync.core.alteration import Alteration, alteration
from worker_sync.core.change import Batch, SnapshotMark
from worker_sync.core.errors import Halt, State
from worker_sync.core.position import Position
from worker_sync.core.schema import Column, TableSchema

ID = Column("id", INT, False, 1)
TITLE = Column("title", TEXT, False, 2)
BODY = Column("body", TEXT, True, 3)
EXTRA = Column("extra", TEXT, True, 4)
BEFORE = table_schema("articles", ID, TITLE, BODY)
ROWS = [(1, "one", "first"), (2, "two", None)]


def altered(sink: Sink, *columns: Column) -> Alteration:
    """What leads from the suite's table to one with these columns."""
    before, after = sink.map_table(BEFORE, None), sink.map_table(table_schema("articles", *columns), None)
    found = alteration(before, after)
    assert found is not None
    return found


def batch_of(sink: Sink, change: Alteration, *, copy: bool = False, epoch: int = 1) -> Batch:
    after = sink.marks(PIPELINE)[SHARD].position
    upto = Position(after.commit, after.ordinal, after.chunk + 1)
    mark = SnapshotMark("public.articles", 0, None, False) if copy else None
    return Batch("s", PIPELINE, SHARD, epoch, after, upto, [], {}, [], mark, alteration=change)


class SinkAlterationContract:
    @pytest.fixture
    def filled(self, sink: Sink) -> TableSchema:
        """The suite's table with its rows, applied up to transaction 1."""
        table = created(sink, BEFORE)
        fence(sink)
        script = Script(table)
        script.add(*map(insert, ROWS))
        assert sink.apply(script.whole()) == Outcome.APPLIED
        return table

    def test_an_added_column_is_null_and_takes_values(self, sink: Sink, filled: TableSchema) -> None:
        change = altered(sink, ID, TITLE, BODY, EXTRA)
        assert sink.apply(batch_of(sink, change)) == Outcome.APPLIED
        assert read_rows(sink, change.after) == {(1,): (*ROWS[0], None), (2,): (*ROWS[1], None)}
        _write(sink, change.after, (3, "three", None, "new"))
        assert read_rows(sink, change.after)[(3,)] == (3, "three", None, "new")

    def test_an_added_column_is_nullable_whatever_the_source_says(self, sink: Sink, filled: TableSchema) -> None:
        change = altered(sink, ID, TITLE, BODY, Column("extra", TEXT, False, 4))
        assert sink.apply(batch_of(sink, change)) == Outcome.APPLIED
        assert len(read_rows(sink, change.after)) == 2

    def test_a_dropped_column_needs_no_value_any_more(self, sink: Sink, filled: TableSchema) -> None:
        change = altered(sink, ID, BODY)
        assert sink.apply(batch_of(sink, change)) == Outcome.APPLIED
        _write(sink, change.after, (3, "body"))
        assert read_rows(sink, change.after) == {(1,): (1, "first"), (2,): (2, None), (3,): (3, "body")}

    def test_a_renamed_column_keeps_its_values(self, sink: Sink, filled: TableSchema) -> None:
        change = altered(sink, ID, Column("headline", TEXT, False, 2), BODY)
        assert change.renamed == {"title": "headline"}
        assert sink.apply(batch_of(sink, change)) == Outcome.APPLIED
        if sink.alters_rows:
            assert read_rows(sink, change.after) == {(row[0],): row for row in ROWS}
        _write(sink, change.after, (3, "three", None))
        assert read_rows(sink, change.after)[(3,)] == (3, "three", None)

    def test_a_retyped_column_takes_values_of_the_new_type(self, sink: Sink, filled: TableSchema) -> None:
        change = altered(sink, ID, TITLE, Column("body", INT, True, 3))
        assert sink.apply(batch_of(sink, change, copy=True)) == Outcome.APPLIED
        # "first" is no number: the rows are copied again, as the capture does after every change of a type.
        _write(sink, change.after, (1, "one", 11), (2, "two", None), (3, "three", 1 << 40))
        assert read_rows(sink, change.after) == {
            (1,): (1, "one", 11),
            (2,): (2, "two", None),
            (3,): (3, "three", 1 << 40),
        }

    def test_a_column_that_may_be_null_now_takes_nulls(self, sink: Sink, filled: TableSchema) -> None:
        change = altered(sink, ID, Column("title", TEXT, True, 2), BODY)
        assert sink.apply(batch_of(sink, change)) == Outcome.APPLIED
        _write(sink, change.after, (3, None, None))
        assert read_rows(sink, change.after)[(3,)] == (3, None, None)

    def test_several_changes_at_once(self, sink: Sink, filled: TableSchema) -> None:
        change = altered(sink, ID, Column("headline", TEXT, False, 2), EXTRA)
        assert (change.dropped, [column.name for column in change.added]) == (("body",), ["extra"])
        assert sink.apply(batch_of(sink, change)) == Outcome.APPLIED
        _write(sink, change.after, (1, "one", "x"), (2, "two", "y"))
        assert read_rows(sink, change.after) == {(1,): (1, "one", "x"), (2,): (2, "two", "y")}

    def test_an_alteration_done_again_changes_nothing(self, sink: Sink, filled: TableSchema) -> None:
        """As after a crash between a change of the table and that of the watermark."""
        change = altered(sink, ID, Column("headline", TEXT, False, 2), Column("extra", INT, True, 4))
        for _ in range(3):
            assert sink.apply(batch_of(sink, change)) == Outcome.APPLIED
        _write(sink, change.after, (1, "one", 5), (2, "two", None))
        assert read_rows(sink, change.after) == {(1,): (1, "one", 5), (2,): (2, "two", None)}

    def test_a_repeated_or_stale_alteration_is_not_done(self, sink: Sink, filled: TableSchema) -> None:
        there = altered(sink, ID, TITLE, BODY, EXTRA)
        first = batch_of(sink, there)
        assert sink.apply(first) == Outcome.APPLIED
        back = alteration(there.after, there.before)
        assert back is not None
        assert sink.apply(batch_of(sink, back)) == Outcome.APPLIED
        assert sink.apply(first) == Outcome.DUPLICATE
        assert sink.apply(batch_of(sink, there, epoch=0)) == Outcome.STALE
        assert sink.apply(batch_of(sink, there, epoch=2)) == Outcome.EARLY
        _write(sink, there.before, (3, "three", None))

    def test_progress_of_the_copy_begins_anew_with_it(self, sink: Sink, filled: TableSchema) -> None:
        batch = batch_of(sink, altered(sink, ID, TITLE, BODY, EXTRA), copy=True)
        assert sink.apply(batch) == Outcome.APPLIED
        mark = sink.marks(PIPELINE)[SHARD]
        assert (mark.position, mark.changes) == (batch.upto, 2)
        assert mark.snapshots == {"public.articles": SnapshotState(0, None, False)}

    def test_it_may_stand_inside_a_transaction(self, sink: Sink, filled: TableSchema) -> None:
        script = Script(filled)
        script.add()
        script.add(insert((3, "three", None)), insert((4, "four", None)))
        whole = script.batch(2, 2)
        inside = Position(whole.upto.commit, 1)
        head = Batch("s", PIPELINE, SHARD, 1, whole.after, inside, whole.sections, whole.tables, whole.changes[:1])
        head.sections[0].count = 1
        assert sink.apply(head) == Outcome.APPLIED
        change = altered(sink, ID, TITLE, BODY, EXTRA)
        batch = batch_of(sink, change)
        assert batch.upto == Position(whole.upto.commit, 1, 1)
        assert sink.apply(batch) == Outcome.APPLIED
        wider = Script(change.after)
        wider.add()
        wider.add(insert((3, "three", None, None)), insert((4, "four", None, "x")))
        # Of the transaction only what stands behind the alteration is left.
        assert sink.apply(wider.batch(2, 2)) == Outcome.APPLIED
        assert sink.marks(PIPELINE)[SHARD].changes == 4
        assert sorted(read_rows(sink, change.after)) == [(1,), (2,), (3,), (4,)]

    def test_a_table_that_is_not_there_halts(self, target: SinkTarget, sink: Sink) -> None:
        require(target.has_columns, "tables that must exist")
        fence(sink)
        with pytest.raises(Halt) as caught:
            sink.apply(batch_of(sink, altered(sink, ID, TITLE, BODY, EXTRA)))
        assert caught.value.state == State.SCHEMA_MISMATCH


def _write(sink: Sink, table: TableSchema, *rows: tuple[object, ...]) -> None:
    """Upsert rows behind what is applied."""
    after = sink.marks(PIPELINE)[SHARD].position
    upto = Position(after.commit, after.ordinal, after.chunk + 1)
    script = Script(table, loading=True)
    script.add(*map(insert, rows))
    batch = script.whole()
    batch.after, batch.upto, batch.snapshot = after, upto, SnapshotMark("public.articles", 1, None, True)
    batch.sections = []
    assert sink.apply(batch) == Outcome.APPLIED
