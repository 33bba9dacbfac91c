"""What must arrive: folded changes, refusals, values. A part of the sink contract suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import Outcome, Sink
from tests.contract.extremes import EXTREMES, extremes_table
from tests.contract.naive import apply_naively, transactions
from tests.contract.sink_target import (
    PIPELINE,
    SHARD,
    TEXT,
    Script,
    SinkTarget,
    apply_each,
    begin_anew,
    created,
    delete,
    fence,
    insert,
    notes,
    read_rows,
    require,
    sorted_rows,
    table_schema,
    truncate,
    update,
)
from worker_sync.core.change import Change
from worker_sync.core.errors import Halt, Permanent, State
from worker_sync.core.position import BEGINNING
from worker_sync.core.schema import Column, Kind, TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row

#: Examples of the property tests; real servers take some milliseconds for each batch.
EXAMPLES = 40
#: Enough rows to take the path of large batches everywhere.
MANY = 300

BYTES = EXTREMES[Kind.BYTES][0][0]

_property = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


class SinkDataContract:
    @pytest.fixture
    def sink(self, target: SinkTarget) -> Iterator[Sink]:
        with target.open() as sink:
            sink.prepare()
            yield sink

    @pytest.fixture
    def table(self, sink: Sink) -> TableSchema:
        return created(sink, notes())

    # Folding.

    @_property
    @given(script=transactions(), data=st.data())
    def test_any_script_in_any_cut_equals_applying_one_by_one(
        self, sink: Sink, table: TableSchema, script: list[list[Change]], data: st.DataObject
    ) -> None:
        begin_anew(sink, table)
        batches = Script(table)
        for changes in script:
            batches.add(*changes)
        first, expected = 1, dict[Key, Row]()
        while first <= len(script):
            last = data.draw(st.integers(first, len(script)), label="batch ends at")
            again = data.draw(st.integers(max(1, first - 1), first), label="batch begins at")
            assert sink.apply(batches.batch(again, last)) == Outcome.APPLIED
            for changes in script[first - 1 : last]:
                apply_naively(expected, changes)
            assert read_rows(sink, table) == expected
            first = last + 1

    def test_large_batches_of_every_operation(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(*[insert((n, f"{n}\t\\N", "body\n")) for n in range(MANY)])
        script.add(*[update((n, "changed", UNCHANGED)) for n in range(0, MANY, 2)])
        script.add(*[update((n, UNCHANGED, None)) for n in range(1, MANY, 2)])
        script.add(*[delete((n,)) for n in range(0, MANY, 3)])
        script.add(*[insert((n, "again", None)) for n in range(0, MANY, 6)])
        script.add(*[update((n + 1000, "moved", UNCHANGED), (n,)) for n in range(1, MANY, 6)])
        expected: dict[Key, Row] = {}
        apply_naively(expected, script.whole().changes)
        apply_each(sink, script)
        assert read_rows(sink, table) == expected

    def test_keys_swap_in_one_transaction(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", "1")), insert((2, "b", "2")))
        script.add(update((3, "a", "1"), (1,)), update((1, "b", "2"), (2,)), update((2, "a", "1"), (3,)))
        apply_each(sink, script)
        assert read_rows(sink, table) == {(1,): (1, "b", "2"), (2,): (2, "a", "1")}

    def test_keys_swap_with_unchanged_columns(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", "1")), insert((2, "b", "2")))
        script.add(
            update((3, "a", UNCHANGED), (1,)), update((1, "b", UNCHANGED), (2,)), update((2, "a", UNCHANGED), (3,))
        )
        apply_each(sink, script)
        assert read_rows(sink, table) == {(1,): (1, "b", "2"), (2,): (2, "a", "1")}

    def test_truncate_then_insert(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)), insert((2, "b", None)))
        script.add(insert((3, "c", None)), truncate(), insert((1, "z", None)))
        apply_each(sink, script)
        assert read_rows(sink, table) == {(1,): (1, "z", None)}

    def test_several_tables_in_one_transaction(self, sink: Sink, table: TableSchema) -> None:
        other = created(sink, notes("others"))
        fence(sink)
        script = Script(table, other)
        script.add(insert((1, "a", None)), insert((1, "b", None), table=2), update((1, "c", UNCHANGED)))
        assert sink.apply(script.whole()) == Outcome.APPLIED
        assert read_rows(sink, table) == {(1,): (1, "c", None)}
        assert read_rows(sink, other) == {(1,): (1, "b", None)}

    @pytest.mark.parametrize("rows", [2, MANY])
    def test_unique_values_rotate_in_one_transaction(self, target: SinkTarget, sink: Sink, rows: int) -> None:
        require(target.has_unique, "unique constraints")
        table = created(sink, notes())
        target.add_unique(table, ["title"])
        fence(sink)
        script = Script(table)
        script.add(*[insert((n, f"t{n}", "kept")) for n in range(rows)])
        script.add(*[update((n, f"t{(n + 1) % rows}", UNCHANGED)) for n in range(rows)])
        script.add(*[update((n, f"t{(n + 2) % rows}", "new")) for n in range(rows)])
        apply_each(sink, script)
        assert read_rows(sink, table) == {(n,): (n, f"t{(n + 2) % rows}", "new") for n in range(rows)}

    def test_unique_values_rotate_with_unchanged_columns(self, target: SinkTarget, sink: Sink) -> None:
        require(target.has_unique, "unique constraints")
        table = created(sink, notes())
        target.add_unique(table, ["title"])
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", "one")), insert((2, "b", "two")))
        script.add(update((1, "b", UNCHANGED)), update((2, "a", UNCHANGED)))
        apply_each(sink, script)
        assert read_rows(sink, table) == {(1,): (1, "b", "one"), (2,): (2, "a", "two")}

    # Refusals.

    @pytest.mark.parametrize("good", [1, MANY])
    def test_a_refused_row_leaves_nothing_of_its_batch(self, target: SinkTarget, sink: Sink, good: int) -> None:
        require(target.refuses_nulls, "columns that are not nullable")
        table = created(sink, notes())
        fence(sink)
        script = Script(table)
        script.add(*[insert((n, "a", None)) for n in range(good)], insert((good, None, "secret body")))
        script.transactions.append([])
        with pytest.raises(Permanent) as caught:
            sink.apply(script.batch(1, 1))
        assert "notes" in str(caught.value)
        assert "secret body" not in str(caught.value)
        assert read_rows(sink, table) == {}
        assert sink.marks(PIPELINE)[SHARD].position == BEGINNING

    def test_a_partial_update_of_a_missing_row_is_refused(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)), update((7, "b", UNCHANGED)))
        with pytest.raises(Permanent, match="7"):
            sink.apply(script.whole())
        assert read_rows(sink, table) == {}

    def test_a_partial_key_change_of_a_missing_row_is_refused(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)), update((8, "b", UNCHANGED), (7,)))
        with pytest.raises(Permanent, match="7"):
            sink.apply(script.whole())
        assert read_rows(sink, table) == {}

    def test_a_sink_goes_on_after_a_refusal(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        bad, good = Script(table), Script(table)
        bad.add(update((7, "b", UNCHANGED)))
        good.add(insert((7, "b", None)))
        with pytest.raises(Permanent):
            sink.apply(bad.whole())
        assert sink.apply(good.whole()) == Outcome.APPLIED

    def test_a_missing_table_halts(self, target: SinkTarget, sink: Sink) -> None:
        require(target.has_columns, "tables that must exist")
        fence(sink)
        script = Script(notes("missing"))
        script.add(insert((1, "a", None)))
        with pytest.raises(Halt, match="missing") as caught:
            sink.apply(script.whole())
        assert caught.value.state == State.SCHEMA_MISMATCH
        created(sink, notes("missing"))
        assert sink.apply(script.whole()) == Outcome.APPLIED

    def test_a_missing_column_halts(self, target: SinkTarget, sink: Sink, table: TableSchema) -> None:
        require(target.has_columns, "fixed columns")
        fence(sink)
        wider = table_schema("notes", *table.columns, Column("extra", TEXT))
        script = Script(wider)
        script.add(insert((1, "a", None, "x")))
        with pytest.raises(Halt, match="extra") as caught:
            sink.apply(script.whole())
        assert caught.value.state == State.SCHEMA_MISMATCH
        with pytest.raises(Halt, match="extra"):
            sink.create_table(wider)

    def test_a_table_is_created_once(self, sink: Sink) -> None:
        assert sink.create_table(notes()) is True
        assert sink.create_table(notes()) is False

    def test_a_closed_sink_may_be_closed_again(self, target: SinkTarget) -> None:
        sink = target.open()
        sink.marks(PIPELINE)
        sink.close()
        sink.close()

    # Values.

    @pytest.mark.parametrize("kind", list(EXTREMES))
    def test_extreme_values_read_back_as_they_were_applied(self, target: SinkTarget, sink: Sink, kind: Kind) -> None:
        if kind in target.without_kinds:
            pytest.skip(f"this engine declares that it leaves out {kind}")
        tables = [extremes_table(sink, kind, repeat) for repeat in (1, MANY)]
        script = Script(*[created(sink, schema) for schema, _ in tables])
        for number, (_, rows) in enumerate(tables, 1):
            script.add(*[insert(row, table=number) for row in rows])
        fence(sink)
        apply_each(sink, script)
        for schema, rows in tables:
            assert [repr(row) for row in sorted_rows(sink, schema)] == [repr(row) for row in rows]
