"""The copy of a table without key meets the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from connectors.base import Chunk
from tests.unit.capture.builders import commit, info, lanes
from worker_sync.capture.fetcher import Fetched, TableLoad
from worker_sync.capture.lane import Cut, Lane
from worker_sync.capture.pipeline import BatchLimits, Pipeline
from worker_sync.capture.routing import Route, Routes
from worker_sync.capture.snapshot import MAX_UNAPPLIED, Loader
from worker_sync.capture.withheld import IN_MEMORY, Withheld
from worker_sync.core.change import Batch, Change, Op, Piece, TransactionInfo
from worker_sync.core.codec import decode
from worker_sync.core.position import Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import Row

BAG = TableSchema(TableName("public", "bag"), (Column("n", Type(Kind.INT)), Column("t", Type(Kind.TEXT))), ())
ROUTE = Route(BAG, BAG, None)
ID = 3


class Rows(Chunk):
    """A chunk of a snapshot that sees the transactions up to `newest`, except one."""

    def __init__(self, rows: list[Row], newest: int, *, done: bool, unseen: int = 0) -> None:
        self.rows, self.done, self.horizon = rows, done, commit(newest)
        self._unseen = commit(unseen)

    def sees(self, info: TransactionInfo) -> bool:
        return info.commit <= self.horizon and info.commit != self._unseen


class Answers:
    """Stands in for the thread that reads: chunks are there as soon as they are asked for."""

    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = list(chunks)
        self.asked = 0

    def request(self, load: TableLoad) -> None:
        self.asked += 1
        load.scanning = True

    def take(self) -> Fetched | None:
        return Fetched(ROUTE, self.chunks.pop(0), {}) if self.asked and self.chunks else None


class Copy:
    """A loader with the one table, and everything that it sent."""

    def __init__(self, *chunks: Chunk, must_see: tuple[TransactionInfo, ...] = (), shards: int = 1) -> None:
        self.published: list[Cut] = []
        self.lanes: list[Lane] = lanes(self.published, shards)
        routes = Routes({ID: BAG}, lambda _: ROUTE)
        self.pipeline = Pipeline("p", self.lanes, routes, BatchLimits(100, 1 << 20, 0.0, 0.0))
        self.answers = Answers(*chunks)
        self.loader = Loader(self.pipeline, self.answers, must_see)  # type: ignore[arg-type]
        self.loader.add(TableLoad(BAG.table, keyless=True))
        self.read = commit(0x10)

    def stream(self, number: int, *changes: Change) -> None:
        """A transaction arrives."""
        piece = Piece(info(number), list(changes), True, 100)
        if self.loader.active:
            piece = self.loader.observe(piece, self.read)
        self.pipeline.take(piece, 0.0, marker=False)
        self.read = commit(number)

    def step(self, times: int = 10) -> None:
        for _ in range(times):
            self.loader.step(self.read, 0.0, room=True)

    def apply_all(self) -> None:
        for lane in self.lanes:
            lane.advance(type(lane.mark)(1, lane.tail, "server"))

    @property
    def batches(self) -> list[Batch]:
        return [decode(cut.data) for cut in self.published]

    @property
    def sent(self) -> list[tuple[str, Row | None, Row | None]]:
        return [(str(change.op), change.before, change.after) for batch in self.batches for change in batch.changes]


@pytest.fixture
def copying() -> Iterator[Callable[..., Copy]]:
    made: list[Copy] = []

    def make(*chunks: Chunk, **options: object) -> Copy:
        made.append(Copy(*chunks, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for copy in made:
        copy.loader.close()


def insert(n: int, text: str = "new") -> Change:
    return Change(1, Op.INSERT, ID, None, None, (n, text))


def delete(n: int, text: str = "new") -> Change:
    return Change(1, Op.DELETE, ID, (), (n, text), None)


def test_what_the_snapshot_saw_is_dropped_and_the_rest_follows_the_rows(copying: Callable[..., Copy]) -> None:
    copy = copying(
        Rows([(1, "a"), (2, "b")], 0x20, done=False, unseen=0x1F), Rows([(3, "c")], 0x20, done=True, unseen=0x1F)
    )
    copy.stream(0x1E, insert(1, "a"))
    copy.stream(0x1F, insert(8))
    copy.stream(0x20, insert(3, "c"))
    copy.stream(0x21, delete(1, "a"))
    copy.step()
    copy.stream(0x30, insert(9))
    copy.pipeline.flush()
    assert copy.sent == [
        ("t", None, None), ("r", None, (1, "a")), ("r", None, (2, "b")), ("r", None, (3, "c")),
        ("c", None, (8, "new")), ("d", (1, "a"), None), ("c", None, (9, "new")),
    ]  # fmt: skip
    assert [batch.snapshot.done for batch in copy.batches if batch.snapshot] == [False, False, True]


def test_nothing_is_sent_before_the_stream_has_passed_the_snapshot(copying: Callable[..., Copy]) -> None:
    copy = copying(Rows([(1, "a")], 0x20, done=True))
    copy.stream(0x1F, insert(1, "a"))
    copy.step()
    assert copy.published == []
    copy.stream(0x20)
    copy.step()
    assert copy.sent == [("t", None, None), ("r", None, (1, "a"))]


def test_the_marks_pass_all_changes_of_the_table_with_the_last_batch(copying: Callable[..., Copy]) -> None:
    """Or a restart would bring again what the snapshot saw, or what followed it."""
    copy = copying(Rows([(1, "a")], 0x20, done=True), shards=3)
    copy.stream(0x20, insert(1, "a"))
    copy.stream(0x21, insert(2))
    copy.step()
    assert not copy.loader.active
    assert all(lane.tail >= Position(commit(0x21)) for lane in copy.lanes)
    homes = {batch.shard for batch in copy.batches if batch.changes}
    assert len(homes) == 1
    copy.stream(0x22, insert(3), delete(3))
    copy.pipeline.flush()
    assert {batch.shard for batch in copy.batches if batch.changes} == homes


def test_the_log_is_kept_from_the_first_withheld_change_until_it_is_applied(copying: Callable[..., Copy]) -> None:
    copy = copying(Rows([(1, "a")], 0x20, done=True))
    copy.stream(0x20)
    copy.step(1)
    assert copy.loader.safe_commit(copy.read) == commit(0x20)
    copy.stream(0x21, insert(2))
    copy.stream(0x22)
    assert copy.loader.safe_commit(copy.read) == commit(0x20)
    copy.step()
    assert not copy.loader.active
    assert copy.loader.safe_commit(copy.read) == commit(0x20)
    copy.apply_all()
    assert copy.loader.safe_commit(copy.read) == commit(0x22)


def test_another_snapshot_is_taken_when_this_one_does_not_see_what_it_must(copying: Callable[..., Copy]) -> None:
    copy = copying(
        Rows([(1, "early")], 0x10, done=True), Rows([(1, "a"), (2, "b")], 0x20, done=True), must_see=(info(0x20),)
    )
    copy.stream(0x20)
    copy.loader.step(copy.read, 0.0, room=True)
    for now in range(1, 6):
        copy.loader.step(copy.read, float(now), room=True)
    assert copy.sent == [("t", None, None), ("r", None, (1, "a")), ("r", None, (2, "b"))]


def test_the_stream_waits_for_what_was_withheld_when_that_can_not_follow(copying: Callable[..., Copy]) -> None:
    copy = copying(*[Rows([(n, "a")], 0x20, done=n == MAX_UNAPPLIED) for n in range(1, MAX_UNAPPLIED + 1)])
    copy.stream(0x20)
    copy.step(30)
    assert copy.loader.crowded
    copy.apply_all()
    assert not copy.loader.crowded
    copy.step()
    assert not copy.loader.active


def test_withheld_changes_outgrow_memory_and_keep_their_order() -> None:
    withheld = Withheld()
    text = "x" * 1000
    count = 2 * IN_MEMORY // 1000
    for number in range(count):
        withheld.add(commit(number), info(number + 1), [Change(1, Op.INSERT, ID, None, None, (number, text))])
    withheld.forget(lambda seen: seen.commit <= commit(10))
    assert withheld.hold == commit(10)
    taken: list[Row | None] = []
    while changes := withheld.take(100, lambda _: False):
        taken += [change.after for change in changes]
    assert taken == [(number, text) for number in range(10, count)]
    assert withheld.hold is None
    withheld.add(commit(1), info(2), [insert(1)])
    assert withheld.take(100, lambda _: True) == []
    withheld.close()
