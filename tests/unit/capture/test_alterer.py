"""How a change of a table goes into the stream, and what is known after a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from tests.unit.capture.builders import ITEMS, START, applied, commit, info, lanes
from worker_sync.capture.alterer import Alterer
from worker_sync.capture.lane import Cut, Lane
from worker_sync.capture.pipeline import BatchLimits, Pipeline
from worker_sync.capture.routing import Route, Routes
from worker_sync.capture.versions import Definitions, Policy, Versions, carried, resolve
from worker_sync.core.change import Batch, Change, Op, Piece, SnapshotMark, TransactionInfo
from worker_sync.core.codec import decode
from worker_sync.core.errors import Halt, State
from worker_sync.core.position import WHOLE, Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.store.versions import TableVersion

OLD_ID, NEW_ID = 1, 2
NEW_COLUMN = Column("note", Type(Kind.TEXT, "text"))
WIDER = msgspec.structs.replace(ITEMS, columns=(*ITEMS.columns, NEW_COLUMN))
NAME = ITEMS.table


@dataclass
class Notes:
    """A recorder that is as fast, or as slow, as the test says."""

    is_saved: bool = True
    saved: list[TableVersion] = field(default_factory=list)
    halts: list[Halt] = field(default_factory=list)
    copied_anew: list[TableName] = field(default_factory=list)
    rebuilt: bool = False

    def save(self, _pipeline: str, version: TableVersion) -> Callable[[], bool]:
        self.saved.append(version)
        return lambda: self.is_saved

    def halt(self, _pipeline: str, halt: Halt, version: TableVersion) -> None:
        self.saved.append(version)
        self.halts.append(halt)

    def resync(self, _pipeline: str, version: TableVersion) -> None:
        self.saved.append(version)
        self.copied_anew.append(version.table)

    def rebuild(self) -> None:
        self.rebuilt = True


@dataclass
class Bench:
    """A pipeline whose table is known as `ITEMS`; id 1 is that version, id 2 the wider one."""

    pipeline: Pipeline
    lanes: list[Lane]
    published: list[Cut]
    notes: Notes
    copied: list[tuple[TableName, TransactionInfo | None]]

    def take(self, number: int, *changes: Change, last: bool = True) -> None:
        self.pipeline.take(Piece(info(number), list(changes), last, 100), 0.0, marker=False)

    def apply_all(self) -> None:
        """Apply until nothing more comes."""
        while any(lane.pending for lane in self.lanes):
            for lane in self.lanes:
                if lane.pending:
                    applied(lane, lane.pending[-1].upto)
            self.pipeline.proceed()

    @property
    def batches(self) -> list[Batch]:
        return [decode(cut.data) for cut in self.published]


def bench(
    policy: Policy = "apply", shards: int = 1, record: TableVersion | None = None, notes: Notes | None = None
) -> Bench:
    published: list[Cut] = []
    made, notes = lanes(published, shards), notes or Notes()

    def target_of(schema: TableSchema) -> Route:
        return Route(schema, schema, None)

    schemas = {OLD_ID: ITEMS, NEW_ID: WIDER}
    versions = Versions(policy, target_of, True, {NAME: record or TableVersion(NAME, ITEMS)}, {}, lambda _: True)
    alterer = Alterer("p", policy, versions, schemas, {}, notes)
    copied: list[tuple[TableName, TransactionInfo | None]] = []
    alterer.copy_again = lambda name, seen: copied.append((name, seen))
    pipeline = Pipeline("p", made, Routes(schemas, target_of), BatchLimits(100, 1 << 20, 0.0, 0.0), alterer)
    return Bench(pipeline, made, published, notes, copied)


def old(ordinal: int, key: int) -> Change:
    return Change(ordinal, Op.INSERT, OLD_ID, None, None, (key, "n", "b"))


def new(ordinal: int, key: int) -> Change:
    return Change(ordinal, Op.INSERT, NEW_ID, None, None, (key, "n", "b", "x"))


def test_a_change_goes_alone_between_the_rows_before_and_those_behind() -> None:
    made = bench()
    made.take(0x20, old(1, 1), old(2, 2), new(3, 3), new(4, 4))
    assert made.pipeline.blocked
    assert [batch.upto for batch in made.batches] == [Position(commit(0x20), 2)]
    made.apply_all()
    made.pipeline.flush()
    head, change, mark_free_tail = made.batches
    assert (head.split, len(head.changes), head.alteration) == (True, 2, None)
    assert change.alteration is not None
    assert [column.name for column in change.alteration.added] == ["note"]
    assert (change.after, change.upto, change.changes) == (head.upto, Position(commit(0x20), 2, 1), [])
    assert change.snapshot == SnapshotMark(str(NAME), 0, None, False)
    assert [c.ordinal for c in mark_free_tail.changes] == [3, 4]
    assert (mark_free_tail.after, mark_free_tail.upto) == (change.upto, Position(commit(0x20)))
    assert made.copied == [(NAME, info(0x20))]


def test_it_is_written_down_before_it_is_sent() -> None:
    made = bench(notes=Notes(is_saved=False))
    made.take(0x20, new(1, 1))
    made.pipeline.proceed()
    assert made.published == []
    [record] = made.notes.saved
    assert (record.version, record.next, record.place) == (ITEMS, WIDER, str(Position(START, WHOLE, 1)))
    made.notes.is_saved = True
    made.pipeline.proceed()
    assert made.batches[0].alteration is not None
    made.apply_all()
    assert (made.notes.saved[-1].version, made.notes.saved[-1].place) == (WIDER, "")


def test_all_shards_wait_and_forget_their_copy() -> None:
    made = bench(shards=3)
    made.take(0x20, *[old(n, n) for n in range(1, 20)], new(20, 20))
    assert made.pipeline.blocked
    assert all(batch.alteration is None for batch in made.batches)
    for lane in made.lanes:
        applied(lane, lane.tail)
    made.pipeline.proceed()
    altering = [batch for batch in made.batches if batch.alteration is not None]
    assert [batch.shard for batch in altering] == [0]
    made.apply_all()
    assert sorted(batch.shard for batch in made.batches if batch.snapshot is not None) == [0, 1, 2]
    assert not made.pipeline.blocked


def test_rows_that_the_stream_repeats_change_nothing() -> None:
    """After a restart the target has the wider table, and the log begins with rows of the narrower one."""
    made = bench(record=TableVersion(NAME, WIDER))
    applied(made.lanes[0], Position(commit(0x20), 2, 1))
    made.lanes[0].tail = made.lanes[0].mark.position
    made.take(0x1F, old(1, 9))
    made.take(0x20, old(1, 1), old(2, 2), new(3, 3))
    made.pipeline.flush()
    [batch] = made.batches
    assert (batch.alteration, [change.ordinal for change in batch.changes]) == (None, [3])
    assert made.notes.saved == []


def test_what_the_catalog_knew_already_is_not_undone_by_older_rows() -> None:
    made = bench(record=TableVersion(NAME, WIDER, since=commit(0x30)))
    made.take(0x20, old(1, 1))
    assert not made.pipeline.blocked
    made.take(0x40, old(1, 2))
    assert made.pipeline.blocked


@pytest.mark.parametrize("reached", [False, True])
def test_a_watermark_tells_whether_an_alteration_is_done(reached: bool) -> None:
    place = Position(commit(0x20), 2, 1)
    records = {NAME: TableVersion(NAME, ITEMS, WIDER, str(place))}
    found = resolve(records, place if reached else Position(commit(0x20), 2))[NAME]
    assert (found.version, found.next, found.place) == ((WIDER, None, "") if reached else (ITEMS, WIDER, ""))
    assert resolve(records, None)[NAME].version == ITEMS


@pytest.mark.parametrize("reached", [False, True])
def test_a_watermark_tells_whether_an_end_is_told(reached: bool) -> None:
    place = Position(commit(0x20), 2, 1)
    records = {NAME: TableVersion(NAME, ITEMS, None, str(place), gone=True)}
    found = resolve(records, place if reached else Position(commit(0x20), 2))[NAME]
    assert (found.version, found.gone, found.place) == (ITEMS, reached, "")


def test_halt_stops_behind_the_last_row_before_and_keeps_what_was_refused() -> None:
    made = bench("halt")
    made.take(0x20, old(1, 1), new(2, 2))
    assert made.notes.halts == []
    made.apply_all()
    [halt] = made.notes.halts
    assert (halt.state, halt.detail) == (State.SCHEMA_CHANGED, "public.items: column note (text) was added")
    assert (made.notes.saved[-1].version, made.notes.saved[-1].next) == (ITEMS, WIDER)
    made.pipeline.proceed()
    assert made.pipeline.blocked
    assert [len(batch.changes) for batch in made.batches] == [1]


def test_what_a_person_accepted_goes_on_with_a_copy_and_leaves_the_target_alone() -> None:
    made = bench("halt", record=TableVersion(NAME, ITEMS, WIDER))
    made.take(0x20, new(1, 1))
    made.apply_all()
    [batch] = made.batches
    assert (batch.alteration, batch.snapshot) == (None, SnapshotMark(str(NAME), 0, None, False))
    assert made.notes.saved[-1].version == WIDER


def test_ignore_asks_for_nothing() -> None:
    made = bench("ignore")
    made.take(0x20, new(1, 1))
    assert not made.pipeline.blocked
    assert made.notes.saved == []


def test_a_catalog_that_is_older_than_the_log_is_not_followed() -> None:
    made = bench()
    made.take(0x40, new(1, 1))
    made.apply_all()
    made.pipeline.flush()
    made.apply_all()
    made.pipeline.review(Definitions({NAME: ITEMS}, commit(0x30)))
    assert not made.pipeline.blocked
    made.pipeline.review(Definitions({NAME: ITEMS}, commit(0x50)))
    assert made.pipeline.blocked


@pytest.mark.parametrize(("policy", "stops"), [("apply", False), ("halt", True), ("ignore", False)])
def test_a_dropped_table_stops_by_policy(policy: Policy, stops: bool) -> None:
    made = bench(policy)
    made.pipeline.review(Definitions({}, commit(0x30)))
    assert (made.pipeline.blocked, bool(made.notes.halts)) == (stops, stops)
    assert made.notes.saved[-1].gone


@pytest.mark.parametrize(
    ("policy", "stops", "rebuilt"), [("apply", False, True), ("halt", True, False), ("ignore", False, False)]
)
def test_a_new_table_is_taken_by_policy(policy: Policy, stops: bool, rebuilt: bool) -> None:
    made = bench(policy)
    other = msgspec.structs.replace(ITEMS, table=TableName("public", "other"))
    made.pipeline.review(Definitions({NAME: ITEMS, other.table: other}, commit(0x30)))
    assert (made.pipeline.blocked, made.notes.rebuilt) == (stops, rebuilt)


def test_which_tables_a_pipeline_takes_up_at_its_start() -> None:
    here, gone, fresh, called = (TableName("public", name) for name in ("here", "gone", "fresh", "called"))
    records = {here: TableVersion(here, ITEMS), gone: TableVersion(gone, ITEMS, gone=True)}
    tables = [here, gone, fresh, called]

    def taken(policy: Policy, known: dict[TableName, TableVersion]) -> set[TableName]:
        return carried(policy, known, tables, lambda name: name == called)

    assert taken("halt", {}) == set(tables)
    assert taken("halt", records) == taken("ignore", records) == {here, called}
    assert taken("apply", records) == {here, fresh, called}
