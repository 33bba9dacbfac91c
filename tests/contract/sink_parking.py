"""Parked keys, as every sink must keep them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import msgspec
import pytest

from connectors.base import Outcome, Sink
from tests.contract.sink_target import (
    PIPELINE,
    SHARD,
    Script,
    at,
    delete,
    fence,
    insert,
    read_rows,
    truncate,
    update,
)
from worker_sync.core.change import Batch, Change, Op
from worker_sync.core.errors import TargetRejected
from worker_sync.core.parking import HeldKey, Parked, Plan, divide, parked_text
from worker_sync.core.position import BEGINNING, Position
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row

#: Refused by every engine: the row that it updates in part is not there.
POISON: Row = (9, UNCHANGED, "x")


def _held(table: TableSchema, *keys: int) -> Parked:
    return frozenset((str(table.table), (key,)) for key in keys)


def _plan(
    batch: Batch, refused: Collection[int] = (), before: Parked = frozenset(), stand: Position = BEGINNING
) -> Plan:
    division = divide(batch, batch.changes, before, refused)
    return Plan(stand, parked_text(before), parked_text(division.parked), division.kept)


def _release(table: TableSchema, after: Position, keys: list[Key | None], *changes: Change) -> Batch:
    released = [(str(table.table), key) for key in keys]
    upto = Position(after.commit, after.ordinal, after.chunk + 1)
    return Batch("s", PIPELINE, SHARD, 1, after, upto, [], {1: table}, list(changes), released=released)


class SinkParkingContract:
    def _parked(self, sink: Sink, table: TableSchema, key: int = 9) -> Parked:
        """Leave the shard at transaction 1 with one parked key."""
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)), update((key, UNCHANGED, "x")))
        batch = script.whole()
        assert sink.apply(batch, _plan(batch, refused=[1])) == Outcome.APPLIED
        return _held(table, key)

    def test_parked_keys_are_kept_with_the_watermark_and_the_rest(self, sink: Sink, table: TableSchema) -> None:
        held = self._parked(sink, table)
        mark = sink.marks(PIPELINE)[SHARD]
        assert (mark.position, mark.parked, mark.changes) == (at(1), held, 1)
        assert read_rows(sink, table) == {(1,): (1, "a", None)}
        assert fence(sink, epoch=2).parked == held

    def test_what_fails_with_a_plan_parks_nothing(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)), insert((2, "b", None)), update(POISON))
        batch = script.whole()
        before = sink.marks(PIPELINE)
        with pytest.raises(TargetRejected):
            sink.apply(batch, _plan(batch, refused=[0]))
        assert sink.marks(PIPELINE) == before
        assert read_rows(sink, table) == {}

    def test_a_batch_that_touches_a_parked_key_changes_nothing_without_a_plan(
        self, sink: Sink, table: TableSchema
    ) -> None:
        held = self._parked(sink, table)
        touching: list[Change] = [insert((9, "n", None)), delete((9,)), update((8, "k", None), (9,)), truncate()]
        touching.append(update((9, "k", None), (1,)))
        for change in touching:
            script = Script(table)
            script.add()
            script.add(insert((2, "b", None)), change)
            assert sink.apply(script.batch(2, 2)) == Outcome.HELD
        mark = sink.marks(PIPELINE)[SHARD]
        assert (mark.position, mark.parked) == (at(1), held)
        assert read_rows(sink, table) == {(1,): (1, "a", None)}

    def test_a_batch_of_other_keys_needs_no_plan(self, sink: Sink, table: TableSchema) -> None:
        held = self._parked(sink, table)
        script = Script(table)
        script.add()
        script.add(insert((2, "b", None)))
        assert sink.apply(script.batch(2, 2)) == Outcome.APPLIED
        assert sink.marks(PIPELINE)[SHARD].parked == held
        assert sorted(read_rows(sink, table)) == [(1,), (2,)]

    def test_a_plan_for_another_watermark_or_other_keys_changes_nothing(self, sink: Sink, table: TableSchema) -> None:
        held = self._parked(sink, table)
        script = Script(table)
        script.add()
        script.add(insert((2, "b", None)), insert((9, "n", None)))
        batch = script.batch(2, 2)
        right = _plan(batch, before=held, stand=at(1))
        for wrong in (
            replace(right, watermark=BEGINNING),
            replace(right, before=""),
            replace(right, before=parked_text(_held(table, 8))),
        ):
            assert sink.apply(batch, wrong) == Outcome.HELD
        assert sink.marks(PIPELINE)[SHARD].position == at(1)
        assert sink.apply(batch, right) == Outcome.APPLIED
        assert sink.apply(batch, right) == Outcome.DUPLICATE
        assert sorted(read_rows(sink, table)) == [(1,), (2,)]

    def test_a_plan_of_a_replaced_capture_changes_nothing(self, sink: Sink, table: TableSchema) -> None:
        fence(sink, epoch=2)
        script = Script(table)
        script.add(insert((1, "a", None)), insert((9, "n", None)))
        batch = script.batch(1, 1, epoch=1)
        assert sink.apply(batch, _plan(batch, refused=[1])) == Outcome.STALE
        assert sink.marks(PIPELINE)[SHARD].parked == frozenset()

    def test_a_rehearsal_leaves_nothing_and_raises_what_applying_would(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(*(insert((number, "x", None)) for number in range(100, 160)), update(POISON))
        batch = script.whole()
        before = sink.marks(PIPELINE)
        plan = _plan(batch, refused=[60])
        for _ in range(2):
            assert sink.apply(batch, replace(plan, rehearsal=True)) == Outcome.APPLIED
        with pytest.raises(TargetRejected):
            sink.apply(batch, replace(plan, changes=batch.changes, rehearsal=True))
        assert sink.marks(PIPELINE) == before
        assert read_rows(sink, table) == {}
        assert sink.apply(batch, plan) == Outcome.APPLIED
        assert len(read_rows(sink, table)) == 60

    def test_a_truncate_lets_the_keys_of_its_table_go(self, sink: Sink, table: TableSchema) -> None:
        held = self._parked(sink, table)
        script = Script(table)
        script.add()
        script.add(insert((9, "held", None)), truncate(), insert((9, "new", None)))
        batch = script.batch(2, 2)
        assert sink.apply(batch, _plan(batch, before=held, stand=at(1))) == Outcome.APPLIED
        assert sink.marks(PIPELINE)[SHARD].parked == frozenset()
        assert read_rows(sink, table) == {(9,): (9, "new", None)}

    def test_a_release_brings_the_row_and_lets_the_key_go_at_once(self, sink: Sink, table: TableSchema) -> None:
        held = self._parked(sink, table)
        row = Change(1, Op.READ, 1, None, None, (9, "now", None))
        batch = _release(table, at(1), [(9,)], row)
        assert sink.apply(batch) == Outcome.HELD
        assert sink.apply(batch, _plan(batch, before=held, stand=at(1))) == Outcome.APPLIED
        mark = sink.marks(PIPELINE)[SHARD]
        assert (mark.position, mark.parked, mark.snapshots) == (batch.upto, frozenset(), {})
        assert read_rows(sink, table)[(9,)] == (9, "now", None)
        assert sink.apply(batch) == Outcome.DUPLICATE

    def test_a_release_of_all_keys_of_a_table_or_of_none_that_is_parked(self, sink: Sink, table: TableSchema) -> None:
        held = self._parked(sink, table)
        every = _release(table, at(1), [None])
        assert sink.apply(every, _plan(every, before=held, stand=at(1))) == Outcome.APPLIED
        again = _release(table, every.upto, [None, (9,)], Change(1, Op.READ, 1, None, None, (9, "now", None)))
        assert sink.apply(again) == Outcome.APPLIED
        assert read_rows(sink, table)[(9,)] == (9, "now", None)

    def test_of_an_overlapping_batch_only_the_rest_is_held(self, sink: Sink, table: TableSchema) -> None:
        held = self._parked(sink, table)
        script = Script(table)
        script.add(insert((1, "a", None)), update(POISON))
        script.add(insert((2, "b", None)))
        # Its first transaction touches the parked key and is covered.
        assert sink.apply(script.whole()) == Outcome.APPLIED
        mark = sink.marks(PIPELINE)[SHARD]
        assert (mark.position, mark.parked, mark.changes) == (at(2), held, 2)

    def test_parked_keys_can_be_set_by_the_epoch_that_fenced_last(self, sink: Sink, table: TableSchema) -> None:
        fence(sink, epoch=2)
        keys: frozenset[HeldKey] = frozenset({("public.t", (1, "ä'\\", b"\x00\xff", None)), ("shop", (2**63 - 1,))})
        sink.park(PIPELINE, SHARD, 1, keys)
        assert sink.marks(PIPELINE)[SHARD].parked == frozenset()
        sink.park(PIPELINE, SHARD, 2, keys)
        assert sink.marks(PIPELINE)[SHARD].parked == keys
        sink.forget(PIPELINE)
        assert fence(sink).parked == frozenset()

    def test_keys_are_named_by_their_source_table(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)), update(POISON))
        batch = msgspec.structs.replace(script.whole(), origins={1: "elsewhere.t"})
        assert sink.apply(batch, _plan(batch, refused=[1])) == Outcome.APPLIED
        assert sink.marks(PIPELINE)[SHARD].parked == {("elsewhere.t", (9,))}
