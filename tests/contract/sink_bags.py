"""Tables without a key: bags of rows. A part of the sink contract suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import Outcome, Sink
from tests.contract.extremes import EXTREMES
from tests.contract.sink_data import MANY, SinkDataContract, _property
from tests.contract.sink_target import (
    INT,
    PIPELINE,
    SHARD,
    TEXT,
    Script,
    SinkTarget,
    apply_each,
    begin_anew,
    chunk_batch,
    created,
    fence,
    insert,
    notes,
    read_rows,
    require,
    table_schema,
    truncate,
    update,
)
from worker_sync.core.change import Change, Op
from worker_sync.core.errors import Halt, Permanent, State
from worker_sync.core.position import BEGINNING
from worker_sync.core.schema import Column, Kind, TableSchema, Type
from worker_sync.core.values import Row

FLOAT = Type(Kind.FLOAT, "double precision", size=64)


def replace(before: Row, after: Row, table: int = 1) -> Change:
    return Change(0, Op.UPDATE, table, None, before, after)


def take(row: Row, table: int = 1) -> Change:
    return Change(0, Op.DELETE, table, (), row, None)


def read_bag(sink: Sink, table: TableSchema) -> list[str]:
    """All rows of a table without key, in an order that depends on their values only."""
    rows: list[Row] = []
    with sink.reader() as reader, reader.scan(table, 50) as scan:
        done = False
        while not done:
            chunk = scan.chunk()
            rows += chunk.rows
            done = chunk.done
    return shown(rows)


def shown(rows: Iterable[Row]) -> list[str]:
    return sorted(map(repr, rows))


_rows = st.tuples(st.integers(1, 2), st.sampled_from(["a", "", None]))


@st.composite
def scripts(draw: st.DrawFn) -> list[list[Change]]:
    """Transactions on a table of two columns, each change possible at its point in time."""
    there: Counter[Row] = Counter()
    script = []
    for _ in range(draw(st.integers(1, 6))):
        script.append([_change(draw, there) for _ in range(draw(st.integers(0, 6)))])
    return script


def _change(draw: st.DrawFn, there: Counter[Row]) -> Change:
    kind = draw(st.sampled_from(["insert", "insert", "update", "delete", "truncate"]))
    row = draw(_rows)
    if kind == "truncate" and not draw(st.integers(0, 2)):
        there.clear()
        return truncate()
    if kind in ("insert", "truncate") or not there:
        there[row] += 1
        return insert(row)
    old = draw(st.sampled_from(sorted(there.elements(), key=repr)))
    there.subtract([old])
    there += Counter()
    if kind == "delete":
        return take(old)
    there[row] += 1
    return replace(old, row)


def apply_naively(rows: list[Row], changes: Iterable[Change]) -> None:
    for change in changes:
        if change.op == Op.TRUNCATE:
            rows.clear()
        if change.before is not None:
            rows.remove(change.before)
        if change.after is not None:
            rows.append(change.after)


class SinkBagContract(SinkDataContract):
    @pytest.fixture
    def bag(self, target: SinkTarget, sink: Sink) -> TableSchema:
        require(target.has_bags, "tables without a key")
        return created(sink, table_schema("bag", Column("n", INT), Column("t", TEXT), key=()))

    @_property
    @given(script=scripts(), data=st.data())
    def test_any_script_on_a_bag_in_any_cut_equals_applying_one_by_one(
        self, sink: Sink, bag: TableSchema, script: list[list[Change]], data: st.DataObject
    ) -> None:
        begin_anew(sink, bag)
        batches = Script(bag)
        for changes in script:
            batches.add(*changes)
        first, expected = 1, list[Row]()
        while first <= len(script):
            last = data.draw(st.integers(first, len(script)), label="batch ends at")
            again = data.draw(st.integers(max(1, first - 1), first), label="batch begins at")
            assert sink.apply(batches.batch(again, last)) == Outcome.APPLIED
            for changes in script[first - 1 : last]:
                apply_naively(expected, changes)
            assert read_bag(sink, bag) == shown(expected)
            first = last + 1

    @pytest.mark.parametrize("copies", [3, MANY])
    def test_equal_rows_are_kept_and_taken_one_by_one(self, sink: Sink, bag: TableSchema, copies: int) -> None:
        fence(sink)
        script = Script(bag)
        script.add(*[insert((1, None))] * copies, insert((2, "b")))
        script.add(take((1, None)))
        script.add(replace((1, None), (3, "c")))
        script.add(*[take((1, None))] * (copies - 2))
        left = []
        for number in range(1, 5):
            assert sink.apply(script.batch(number, number)) == Outcome.APPLIED
            left.append(read_bag(sink, bag).count(repr((1, None))))
        assert left == [copies, copies - 1, copies - 2, 0]
        assert read_bag(sink, bag) == shown([(2, "b"), (3, "c")])

    def test_large_batches_of_every_operation_on_a_bag(self, sink: Sink, bag: TableSchema) -> None:
        fence(sink)
        script = Script(bag)
        script.add(*[insert((n % 50, f"{n}\t\\N")) for n in range(MANY)], *[insert((7, "twin"))] * MANY)
        script.add(*[replace((n % 50, f"{n}\t\\N"), (n % 50, "changed")) for n in range(0, MANY, 2)])
        script.add(*[take((7, "twin"))] * (MANY // 2), *[take((n % 50, f"{n}\t\\N")) for n in range(1, MANY, 2)])
        expected: list[Row] = []
        apply_naively(expected, script.whole().changes)
        apply_each(sink, script)
        assert read_bag(sink, bag) == shown(expected)

    def test_a_row_that_comes_and_goes_in_one_batch_was_never_there(self, sink: Sink, bag: TableSchema) -> None:
        fence(sink)
        script = Script(bag)
        script.add(insert((1, "a")))
        script.add(insert((1, "a")), replace((1, "a"), (2, "b")), take((2, "b")), take((1, "a")), insert((1, "a")))
        apply_each(sink, script)
        assert read_bag(sink, bag) == shown([(1, "a")])

    @pytest.mark.parametrize(
        "changes",
        [
            [take((9, "x"))],
            [replace((9, "x"), (8, "y"))],
            [take((1, "a")), take((1, "a"))],
            [take((9, "x")), insert((9, "x"))],
            [*[take((1, "a"))] * MANY],
        ],
        ids=["delete", "update", "more than there are", "before it comes", "many"],
    )
    def test_a_row_that_is_not_in_the_bag_is_refused(self, sink: Sink, bag: TableSchema, changes: list[Change]) -> None:
        fence(sink)
        script = Script(bag)
        script.add(insert((1, "a")), insert((2, "secret")))
        script.add(insert((3, "c")), *[Change(0, c.op, 1, c.key, c.before, c.after) for c in changes])
        assert sink.apply(script.batch(1, 1)) == Outcome.APPLIED
        with pytest.raises(Permanent, match="bag") as caught:
            sink.apply(script.batch(2, 2))
        assert "secret" not in str(caught.value)
        assert read_bag(sink, bag) == shown([(1, "a"), (2, "secret")])
        assert sink.marks(PIPELINE)[SHARD].changes == 2

    def test_rows_of_a_bag_that_look_alike_are_told_apart(self, target: SinkTarget, sink: Sink) -> None:
        require(target.has_bags, "tables without a key")
        columns = (Column("f", FLOAT), Column("s", TEXT), Column("t", TEXT))
        bag = created(sink, table_schema("alike", *columns, key=()))
        rows: list[Row] = [
            (0.0, "", None), (-0.0, "", None), (None, "", None), (0.0, None, None), (0.0, None, ""),
            (float("nan"), "NaN", None), (float("inf"), "a,b", "c"), (float("inf"), "a", "b,c"), (1.0, '"', "\\"),
        ]  # fmt: skip
        if not target.has_odd_floats:
            rows = [row for row in rows if str(row[0]) not in ("nan", "inf", "-0.0")]
            rows += [(1.0, "A", None), (1.0, "a", None), (1.0, "a ", None)]
        fence(sink)
        script = Script(bag)
        script.add(*map(insert, rows), *map(insert, rows))
        for row in rows:
            script.add(take(row))
            script.add(insert(row), take(row))
        apply_each(sink, script)
        assert read_bag(sink, bag) == shown(rows)
        script.add(*map(take, rows))
        assert sink.apply(script.batch(len(script.transactions), len(script.transactions))) == Outcome.APPLIED
        assert read_bag(sink, bag) == []

    @pytest.mark.parametrize("kind", list(EXTREMES))
    def test_extreme_values_are_found_again_in_a_bag(self, target: SinkTarget, sink: Sink, kind: Kind) -> None:
        require(target.has_bags, "tables without a key")
        if kind in target.without_kinds:
            pytest.skip(f"this engine declares that it leaves out {kind}")
        for number, (type_, values) in enumerate(EXTREMES[kind]):
            bag = created(sink, table_schema(f"bag_{kind}_{number}", Column("v", type_), Column("n", INT), key=()))
            sink.forget(PIPELINE)
            fence(sink)
            rows: list[Row] = [(value, place) for place, value in enumerate([*values, None])]
            script = Script(bag)
            script.add(*map(insert, rows), *map(insert, rows))
            script.add(*map(take, rows))
            apply_each(sink, script)
            assert read_bag(sink, bag) == shown(rows)

    def test_a_redelivered_batch_changes_no_bag(self, sink: Sink, bag: TableSchema) -> None:
        fence(sink)
        script = Script(bag)
        script.add(insert((1, "a")), insert((1, "a")))
        script.add(take((1, "a")), insert((2, "b")))
        assert sink.apply(script.batch(1, 1)) == Outcome.APPLIED
        assert sink.apply(script.batch(1, 1)) == Outcome.DUPLICATE
        assert sink.apply(script.whole()) == Outcome.APPLIED
        assert sink.apply(script.whole()) == Outcome.DUPLICATE
        assert read_bag(sink, bag) == shown([(1, "a"), (2, "b")])

    def test_a_bag_and_a_keyed_table_change_in_one_transaction(
        self, sink: Sink, bag: TableSchema, table: TableSchema
    ) -> None:
        fence(sink)
        script = Script(bag, table)
        script.add(insert((1, "a")), insert((1, "one", None), table=2), insert((1, "a")))
        script.add(take((1, "a")), update((1, "uno", None), table=2), truncate(table=2), insert((2, "b")))
        apply_each(sink, script)
        assert read_bag(sink, bag) == shown([(1, "a"), (2, "b")])
        assert read_rows(sink, table) == {}

    def test_a_copy_of_a_bag_begins_by_emptying_it(self, sink: Sink, bag: TableSchema) -> None:
        fence(sink)
        after = BEGINNING
        for number, name in enumerate(("first", "second"), 1):
            batch = chunk_batch(bag, [(n, name) for n in range(MANY)], after, number)
            batch.changes.insert(0, truncate())
            assert sink.apply(batch) == Outcome.APPLIED
            assert sink.apply(batch) == Outcome.DUPLICATE
            after = batch.upto
        last = chunk_batch(bag, [], after, 3, done=True)
        last.changes[:] = [take((0, "second")), insert((1, "second"))]
        assert sink.apply(last) == Outcome.APPLIED
        expected: list[Row] = [(max(n, 1), "second") for n in range(MANY)]
        assert read_bag(sink, bag) == shown(expected)
        assert sink.marks(PIPELINE)[SHARD].snapshots["public.bag"].done

    def test_reading_a_bag_sees_one_moment(self, sink: Sink, bag: TableSchema) -> None:
        fence(sink)
        script = Script(bag)
        script.add(*[insert((n, "old")) for n in range(20)])
        script.add(*[replace((n, "old"), (n, "new")) for n in range(20)])
        assert sink.apply(script.batch(1, 1)) == Outcome.APPLIED
        with sink.reader() as reader, reader.scan(bag, 7) as scan:
            rows = list(scan.chunk().rows)
            assert sink.apply(script.batch(2, 2)) == Outcome.APPLIED
            chunks = [scan.chunk(), scan.chunk()]
            rows += [row for chunk in chunks for row in chunk.rows]
            assert [chunk.done for chunk in chunks] == [False, True]
        assert shown(rows) == shown([(n, "old") for n in range(20)])

    def test_a_bag_is_created_once(self, target: SinkTarget, sink: Sink) -> None:
        require(target.has_bags, "tables without a key")
        keyless = sink.map_table(TableSchema(notes().table, notes().columns, (), "postgresql"), None)
        assert sink.create_table(keyless) is True
        assert sink.create_table(keyless) is False
        assert [finding.ok for finding in sink.preflight([keyless])].count(False) == 0

    def test_a_table_without_key_is_refused_where_the_engine_has_no_bags(self, target: SinkTarget, sink: Sink) -> None:
        require(not target.has_bags, "refusal of tables without a key")
        keyless = sink.map_table(TableSchema(notes().table, notes().columns, (), "postgresql"), None)
        with pytest.raises(Halt) as caught:
            sink.create_table(keyless)
        assert caught.value.state is State.TABLE_UNSUPPORTED
        created(sink, notes())
        fence(sink)
        script = Script(keyless)
        script.add(insert((1, "a", None)))
        with pytest.raises(Halt) as caught:
            sink.apply(script.whole())
        assert caught.value.state is State.TABLE_UNSUPPORTED
