"""The apply rule, and folding against changes applied one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.naive import apply_naively, transactions
from tests.contract.sink_target import Script, at, delete, insert, notes, update
from worker_sync.core.apply import Move, Step, TableWrites, Truncate, Verdict, Writes, changes_beyond, decide, fold
from worker_sync.core.change import Batch, Change, Section, TransactionInfo
from worker_sync.core.position import Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED, Key, Row, is_complete, merge


def run(rows: dict[Key, Row], steps: list[Step]) -> None:
    """Apply steps to rows as a sink must."""
    for step in steps:
        if isinstance(step, Truncate):
            rows.clear()
        elif isinstance(step, Move):
            moved = merge(rows.pop(step.key), step.row)
            assert not is_complete(step.row)
            rows[moved[:1]] = moved
        else:
            # A sink writes them in any order.
            assert len({writes.table.table for writes in step.tables}) == len(step.tables)
            for writes in step.tables:
                _write(rows, writes)


def _write(rows: dict[Key, Row], writes: TableWrites) -> None:
    assert not writes.rows.keys() & writes.deletes.keys()
    for key in writes.deletes:
        rows.pop(key, None)
    for key, row in writes.rows.items():
        assert key == row[:1]
        rows[key] = row if is_complete(row) else merge(rows[key], row)


@given(transactions(), st.data())
def test_folding_equals_applying_one_by_one(script: list[list[Change]], data: st.DataObject) -> None:
    batches = Script(notes())
    for changes in script:
        batches.add(*changes)
    cut = data.draw(st.integers(0, len(script)), label="first batch")
    rows, expected = dict[Key, Row](), dict[Key, Row]()
    for first, last in ((1, cut), (cut + 1, len(script))):
        if first <= last:
            batch = batches.batch(first, last)
            run(rows, fold(batch, batch.changes))
            apply_naively(expected, batch.changes)
        assert rows == expected


@given(transactions(), st.data())
def test_versions_of_a_table_that_meet_in_one_batch_are_applied_one_behind_the_other(
    script: list[list[Change]], data: st.DataObject
) -> None:
    """A source names a table anew in the middle of a batch for many reasons: a column may be NULL now, say."""
    batches = Script(notes())
    for changes in script:
        batches.add(*changes)
    batch = batches.whole()
    later = data.draw(st.integers(0, len(batch.changes)), label="changes by the first version")
    (first, table), *_ = batch.tables.items()
    batch.tables = {first: table, first + 1: notes()}
    for change in batch.changes[later:]:
        change.table = first + 1
    rows, expected = dict[Key, Row](), dict[Key, Row]()
    run(rows, fold(batch, batch.changes))
    apply_naively(expected, batch.changes)
    assert rows == expected


def folded(*changes: Change) -> list[Step]:
    script = Script(notes())
    script.add(*changes)
    batch = script.whole()
    return fold(batch, batch.changes)


def only_writes(*changes: Change) -> TableWrites:
    (step,) = folded(*changes)
    assert isinstance(step, Writes)
    (writes,) = step.tables
    return writes


def test_an_insert_keeps_its_value_through_a_later_partial_update() -> None:
    writes = only_writes(insert((1, "a", "kept")), update((1, "b", UNCHANGED)))
    assert writes.rows == {(1,): (1, "b", "kept")}


def test_an_insert_whose_key_changes_is_no_move() -> None:
    writes = only_writes(insert((1, "a", "kept")), update((2, "b", UNCHANGED), (1,)))
    assert writes.rows == {(2,): (2, "b", "kept")}
    assert list(writes.deletes) == [(1,)]


def test_a_partial_key_change_of_a_row_from_before_is_a_move() -> None:
    assert [type(step) for step in folded(delete((9,)), update((2, "b", UNCHANGED), (1,)))] == [Writes, Move]


def test_delete_then_insert_is_one_write() -> None:
    writes = only_writes(delete((1,)), insert((1, "a", None)))
    assert (writes.rows, writes.deletes) == ({(1,): (1, "a", None)}, {})


@pytest.mark.parametrize(
    ("epoch", "watermark", "first", "last", "verdict"),
    [
        (1, 0, 1, 1, Verdict.APPLY),
        (1, 1, 1, 1, Verdict.DUPLICATE),
        (1, 5, 1, 1, Verdict.DUPLICATE),
        (1, 0, 2, 2, Verdict.EARLY),
        (1, 1, 1, 2, Verdict.APPLY),
        (2, 0, 1, 1, Verdict.STALE),
        (0, 0, 1, 1, Verdict.EARLY),
        (2, 5, 1, 1, Verdict.STALE),
    ],
)
def test_the_apply_rule(epoch: int, watermark: int, first: int, last: int, verdict: Verdict) -> None:
    script = Script(notes())
    for number in (1, 2):
        script.add(insert((number, "a", None)))
    assert decide(epoch, at(watermark), script.batch(first, last)) is verdict


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.data())
def test_exactly_the_changes_after_the_watermark_remain(sizes: list[int], data: st.DataObject) -> None:
    script = Script(notes())
    for size in sizes:
        script.add(*[insert((n, "a", None)) for n in range(size)])
    batch = script.whole()
    commit = data.draw(st.integers(0, len(sizes)), label="commit")
    ordinal = data.draw(st.integers(0, 4), label="ordinal")
    watermark = Position(at(commit).commit, ordinal)
    expected = [change for _, change, position in batch.positions() if position > watermark]
    assert changes_beyond(batch, watermark) == expected
    assert changes_beyond(batch, batch.after) == batch.changes


def test_inserts_of_one_table_fold_to_themselves_whatever_the_number_of_key_columns() -> None:
    table = TableSchema(TableName("public", "t"), tuple(Column(n, Type(Kind.INT)) for n in "abc"), ("c", "a"))
    rows = [(1, 2, 3), (1, 2, 4), (2, 2, 3)]

    (step,) = fold(*_batch(table, [insert(row) for row in rows]))

    assert isinstance(step, Writes)
    assert step.tables[0].rows == {(3, 1): rows[0], (4, 1): rows[1], (3, 2): rows[2]}
    assert list(step.tables[0].rows.values()) == rows
    assert not step.tables[0].deletes


def test_of_two_inserts_of_one_key_the_later_one_stays() -> None:
    table = TableSchema(TableName("public", "t"), tuple(Column(n, Type(Kind.INT)) for n in "ab"), ("a",))

    (step,) = fold(*_batch(table, [insert((1, 1)), insert((2, 1)), insert((1, 2))]))

    assert isinstance(step, Writes)
    assert step.tables[0].rows == {(1,): (1, 2), (2,): (2, 1)}


def _batch(table: TableSchema, changes: list[Change]) -> tuple[Batch, list[Change]]:
    info = TransactionInfo("0", 0)
    sections = [Section(info, len(changes))]
    return Batch("s", "p", 0, 1, Position("0"), Position("1"), sections, {1: table}, changes), changes


def test_a_partial_update_takes_nothing_from_a_row_that_was_deleted_before_it() -> None:
    steps = folded(delete((1,)), update((1, "new", UNCHANGED)))
    assert [list(step.tables[0].deletes) for step in steps if isinstance(step, Writes)] == [[(1,)], []]
    assert [list(step.tables[0].rows) for step in steps if isinstance(step, Writes)] == [[], [(1,)]]
