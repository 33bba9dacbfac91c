"""The behaviour that every sink must show. An engine joins with a subclass that gives a `target` fixture."""

from __future__ import annotations

import random
import threading

import pytest

from connectors.base import Outcome, Sink, SnapshotState
from tests.contract.naive import apply_naively
from tests.contract.sink_alterations import SinkAlterationContract
from tests.contract.sink_bags import SinkBagContract
from tests.contract.sink_data import BYTES, MANY
from tests.contract.sink_parking import SinkParkingContract
from tests.contract.sink_target import (
    IDENTITY,
    PIPELINE,
    SHARD,
    TEXT,
    Script,
    SinkTarget,
    apply_each,
    at,
    chunk_batch,
    committed_at,
    created,
    delete,
    fence,
    insert,
    part,
    read_rows,
    table_schema,
    update,
)
from worker_sync.core.change import Batch
from worker_sync.core.clock import skew
from worker_sync.core.errors import Fenced, Halt, State
from worker_sync.core.position import BEGINNING, Position
from worker_sync.core.schema import Column, TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row


class SinkContract(SinkBagContract, SinkAlterationContract, SinkParkingContract):
    # The apply rule.

    def test_a_batch_is_applied_with_its_watermark(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)), insert((2, "b", "x")))
        script.add(update((1, "c", "y")), delete((2,)))
        assert sink.apply(script.whole()) == Outcome.APPLIED
        assert read_rows(sink, table) == {(1,): (1, "c", "y")}
        mark = sink.marks(PIPELINE)[SHARD]
        assert mark.position == at(2)
        assert mark.committed_at == committed_at(2)
        assert mark.applied_at is not None
        assert (mark.changes, mark.batches) == (4, 1)

    def test_a_batch_without_changes_moves_the_watermark(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add()
        assert sink.apply(script.whole()) == Outcome.APPLIED
        mark = sink.marks(PIPELINE)[SHARD]
        assert (mark.position, mark.committed_at, mark.changes) == (at(1), None, 0)

    def test_the_same_batch_twice_changes_nothing(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)))
        script.add(update((1, "b", None)))
        assert sink.apply(script.batch(1, 1)) == Outcome.APPLIED
        assert sink.apply(script.batch(2, 2)) == Outcome.APPLIED
        before = sink.marks(PIPELINE)
        assert sink.apply(script.batch(1, 1)) == Outcome.DUPLICATE
        assert sink.apply(script.batch(2, 2)) == Outcome.DUPLICATE
        assert read_rows(sink, table) == {(1,): (1, "b", None)}
        assert sink.marks(PIPELINE) == before

    def test_a_batch_whose_predecessor_is_missing_is_early(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)))
        script.add(insert((2, "b", None)))
        assert sink.apply(script.batch(2, 2)) == Outcome.EARLY
        assert read_rows(sink, table) == {}
        assert sink.marks(PIPELINE)[SHARD].position == BEGINNING

    def test_a_shard_that_was_never_fenced_is_early(self, sink: Sink, table: TableSchema) -> None:
        script = Script(table)
        script.add(insert((1, "a", None)))
        assert sink.apply(script.whole()) == Outcome.EARLY
        assert read_rows(sink, table) == {}

    def test_batches_of_another_epoch_are_stale_or_early(self, sink: Sink, table: TableSchema) -> None:
        fence(sink, epoch=2)
        script = Script(table)
        script.add(insert((1, "a", None)))
        assert sink.apply(script.batch(1, 1, epoch=1)) == Outcome.STALE
        assert sink.apply(script.batch(1, 1, epoch=3)) == Outcome.EARLY
        assert read_rows(sink, table) == {}
        assert sink.apply(script.batch(1, 1, epoch=2)) == Outcome.APPLIED

    def test_of_an_overlapping_batch_only_the_rest_is_applied(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)))
        script.add(update((1, "b", None)))
        script.add(insert((2, "c", None)))
        assert sink.apply(script.batch(1, 2)) == Outcome.APPLIED
        assert sink.apply(script.whole()) == Outcome.APPLIED
        assert read_rows(sink, table) == {(1,): (1, "b", None), (2,): (2, "c", None)}
        mark = sink.marks(PIPELINE)[SHARD]
        assert (mark.position, mark.changes) == (at(3), 3)

    def test_a_transaction_cut_in_two_continues_inside(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((1, "a", None)), insert((2, "b", None)), insert((3, "c", None)))
        whole = script.whole()
        middle = Position(at(1).commit, 2)
        head = part(whole, BEGINNING, middle, slice(0, 2))
        tail = part(whole, middle, at(1), slice(2, 3))
        assert sink.apply(tail) == Outcome.EARLY
        assert sink.apply(head) == Outcome.APPLIED
        assert sink.marks(PIPELINE)[SHARD].position == middle
        assert sink.apply(tail) == Outcome.APPLIED
        assert len(read_rows(sink, table)) == 3
        assert sink.marks(PIPELINE)[SHARD].position == at(1)

    def test_batches_in_random_order_converge(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        script.add(insert((0, "0", None)))
        for number in range(1, 12):
            script.add(update((0, str(number), None)), insert((number, "x", None)))
        waiting = [script.batch(number, number) for number in range(1, 13)] * 2
        random.Random(7).shuffle(waiting)
        while waiting:
            waiting = [batch for batch in waiting if sink.apply(batch) == Outcome.EARLY]
        expected: dict[Key, Row] = {}
        apply_naively(expected, script.whole().changes)
        assert read_rows(sink, table) == expected

    def test_two_sinks_at_once_apply_each_batch_once(self, target: SinkTarget, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table)
        for number in range(1, 21):
            script.add(insert((number, "x", None)))
        batches = [script.batch(number, number) for number in range(1, 21)]
        applied: list[int] = []
        failures: list[BaseException] = []
        workers = [threading.Thread(target=_work, args=(target, batches, applied, failures)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert failures == []
        assert sum(applied) == 20
        assert sink.marks(PIPELINE)[SHARD].changes == 20
        assert len(read_rows(sink, table)) == 20

    # Fencing and marks.

    def test_a_new_shard_begins_at_the_given_position(self, sink: Sink) -> None:
        mark = sink.fence(PIPELINE, 3, 5, IDENTITY, at(9))
        assert (mark.epoch, mark.position, mark.identity) == (5, at(9), IDENTITY)
        assert (mark.committed_at, mark.applied_at, mark.changes, mark.batches, mark.snapshots) == (
            None,
            None,
            0,
            0,
            {},
        )
        assert sink.marks(PIPELINE) == {3: mark}

    def test_a_higher_epoch_takes_over_and_the_lower_is_fenced(self, sink: Sink) -> None:
        fence(sink, epoch=1)
        taken = sink.fence(PIPELINE, SHARD, 2, IDENTITY, at(9))
        assert (taken.epoch, taken.position) == (2, BEGINNING)
        with pytest.raises(Fenced):
            fence(sink, epoch=1)
        assert sink.marks(PIPELINE)[SHARD].epoch == 2

    def test_the_same_epoch_may_fence_again(self, sink: Sink) -> None:
        assert fence(sink, epoch=4) == fence(sink, epoch=4)

    def test_another_source_server_halts(self, sink: Sink) -> None:
        fence(sink)
        with pytest.raises(Halt) as caught:
            sink.fence(PIPELINE, SHARD, 2, "source-2", BEGINNING)
        assert caught.value.state == State.IDENTITY_CHANGED
        assert sink.marks(PIPELINE)[SHARD].epoch == 1

    def test_marks_of_an_unknown_pipeline_are_empty(self, sink: Sink) -> None:
        assert sink.marks("nobody") == {}

    def test_forget_removes_one_pipeline_and_keeps_the_data(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        sink.fence("other", 0, 1, IDENTITY, BEGINNING)
        script = Script(table)
        script.add(insert((1, "a", None)))
        sink.apply(script.whole())
        sink.forget(PIPELINE)
        assert sink.marks(PIPELINE) == {}
        assert list(sink.marks("other")) == [0]
        assert len(read_rows(sink, table)) == 1
        assert sink.fence(PIPELINE, SHARD, 1, "source-2", at(5)).position == at(5)

    def test_prepare_may_run_in_two_processes_at_once(self, target: SinkTarget) -> None:
        failures: list[BaseException] = []
        threads = [threading.Thread(target=_prepare, args=(target, failures)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_a_sink_knows_its_server(self, target: SinkTarget, sink: Sink) -> None:
        with target.open() as other:
            assert other.identity() == sink.identity() != ""

    def test_a_sink_tells_the_time(self, sink: Sink) -> None:
        found = skew(sink.now)
        assert sink.now().tzinfo is not None
        assert not found.exceeds(2), f"the server runs on this machine, but is {found}"
        assert sink.now() <= sink.now()

    # Snapshots.

    def test_snapshot_progress_is_stored_with_the_rows(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        first = chunk_batch(table, [(1, "a", None), (2, "b", None)], BEGINNING, 1)
        second = chunk_batch(table, [(3, "c", None)], first.upto, 2, done=True)
        assert sink.apply(second) == Outcome.EARLY
        assert sink.apply(first) == Outcome.APPLIED
        assert sink.marks(PIPELINE)[SHARD].snapshots == {"public.notes": SnapshotState(1, (2,), False)}
        assert sink.apply(first) == Outcome.DUPLICATE
        assert sink.apply(second) == Outcome.APPLIED
        assert sink.marks(PIPELINE)[SHARD].snapshots == {"public.notes": SnapshotState(2, (3,), True)}
        assert len(read_rows(sink, table)) == 3

    def test_a_chunk_replaces_rows_that_are_there(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        rows: list[Row] = [(number, "old", None) for number in range(MANY)]
        first = chunk_batch(table, rows, BEGINNING, 1)
        assert sink.apply(first) == Outcome.APPLIED
        again = chunk_batch(table, [(number, "new", "x") for number in range(MANY)], first.upto, 1, done=True)
        assert sink.apply(again) == Outcome.APPLIED
        assert set(read_rows(sink, table).values()) == {(number, "new", "x") for number in range(MANY)}

    def test_a_key_of_any_kind_is_kept_as_progress(self, sink: Sink) -> None:
        pairs = table_schema("pairs", Column("a", TEXT, False), Column("b", BYTES, False), key=("a", "b"))
        schema = created(sink, pairs)
        fence(sink)
        assert sink.apply(chunk_batch(schema, [("x\"'", b"\x00\xff")], BEGINNING, 1)) == Outcome.APPLIED
        assert sink.marks(PIPELINE)[SHARD].snapshots["public.pairs"].last_key == ("x\"'", b"\x00\xff")

    def test_while_loading_a_partial_update_of_a_missing_row_is_skipped(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table, loading=True)
        script.add(
            insert((1, "a", "kept")), update((2, "b", UNCHANGED)), update((4, "d", UNCHANGED), (3,)),
            update((1, "c", UNCHANGED)),
        )  # fmt: skip
        assert sink.apply(script.whole()) == Outcome.APPLIED
        assert read_rows(sink, table) == {(1,): (1, "c", "kept")}

    def test_while_loading_many_partial_updates_of_missing_rows_are_skipped(
        self, sink: Sink, table: TableSchema
    ) -> None:
        fence(sink)
        script = Script(table, loading=True)
        script.add(*[insert((number, "a", "kept")) for number in range(0, MANY, 2)])
        script.add(*[update((number, "b", UNCHANGED)) for number in range(MANY)])
        apply_each(sink, script)
        assert read_rows(sink, table) == {(n,): (n, "b", "kept") for n in range(0, MANY, 2)}

    def test_a_replayed_key_change_meets_the_row_at_its_new_key(self, sink: Sink, table: TableSchema) -> None:
        fence(sink)
        script = Script(table, loading=True)
        script.add(insert((1, "old", "stale")), insert((2, "new", "fresh")))
        script.add(update((2, "moved", UNCHANGED), (1,)))
        apply_each(sink, script)
        assert read_rows(sink, table) == {(2,): (2, "moved", "fresh")}


def _work(target: SinkTarget, batches: list[Batch], applied: list[int], failures: list[BaseException]) -> None:
    try:
        with target.open() as sink:
            for batch in batches:
                while (outcome := sink.apply(batch)) == Outcome.EARLY:
                    pass
                applied.append(outcome == Outcome.APPLIED)
    except BaseException as error:  # noqa: BLE001 - shown by the test that started this thread
        failures.append(error)


def _prepare(target: SinkTarget, failures: list[BaseException]) -> None:
    try:
        with target.open() as sink:
            sink.prepare()
    except BaseException as error:  # noqa: BLE001 - shown by the test that started this thread
        failures.append(error)
