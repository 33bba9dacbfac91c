"""Spilled batches: whatever is crashed, torn, filled up or tampered with, the chain has no gap or says so."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import Mark
from tests.unit.capture.builders import START, applied, insert, piece, pipeline
from worker_sync.capture import spill as spill_module
from worker_sync.capture.lane import Cut, Lane, LaneId
from worker_sync.capture.pipeline import CROWDED, Pipeline
from worker_sync.capture.spill import Budget, Full, Spill
from worker_sync.capture.spill_file import Key, Record
from worker_sync.capture.spilling import STILL_S, Spilling, Spills
from worker_sync.capture.window import WindowLimits
from worker_sync.core.codec import decode
from worker_sync.core.errors import Halt, State
from worker_sync.core.position import Position

KEY = Key(b"k" * 32)
ROOM = WindowLimits(1 << 20, 3)


def place(number: int) -> Position:
    return Position(f"{number:016X}")


def record(number: int, data: bytes = b"secret row") -> Record:
    return Record(place(number - 1), place(number), data, "p/0", None)


def opened(folder: Path, mark: int, required: int | None, epoch: int = 2, key: Key = KEY) -> Spill:
    spill = Spill(folder / "p.0", key, epoch, Budget(1 << 30))
    spill.recover(place(mark), None if required is None else place(required))
    return spill


@pytest.fixture
def spilled(tmp_path: Path) -> Iterator[Spill]:
    """Batches 1 to 9, in three files."""
    spill = opened(tmp_path, 0, None, epoch=1)
    for first in (1, 4, 7):
        spill.append([record(first), record(first + 1), record(first + 2)])
        spill._close_writer()
    yield spill
    spill.close()


def rest(spill: Spill) -> list[Position]:
    found = []
    while spill.has_more:
        found.append(spill.read().upto)
    spill.close()
    return found


def files(folder: Path) -> list[Path]:
    return sorted((folder / "p.0").glob("*.spill"))


def state_of(folder: Path, mark: int = 0, required: int = 9, key: Key = KEY) -> State:
    with pytest.raises(Halt) as caught:
        opened(folder, mark, required, key=key)
    assert "worker-sync resync PIPELINE" in caught.value.recovery
    return caught.value.state


def test_what_was_spilled_comes_back_in_order(spilled: Spill, tmp_path: Path) -> None:
    assert rest(spilled) == [place(number) for number in range(1, 10)]
    assert rest(opened(tmp_path, 0, 9)) == [place(number) for number in range(1, 10)]


def test_nothing_of_a_row_is_on_disk_in_plain_text(spilled: Spill, tmp_path: Path) -> None:
    assert all(b"secret" not in path.read_bytes() and b"p/0" not in path.read_bytes() for path in files(tmp_path))
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(tmp_path))
    assert "k" * 8 not in repr(KEY)


def test_files_go_once_the_watermark_has_passed_them(spilled: Spill, tmp_path: Path) -> None:
    spilled.forget(place(5))
    assert len(files(tmp_path)) == 2
    assert rest(spilled) == [place(number) for number in range(4, 10)]
    spilled.forget(place(9))
    assert files(tmp_path) == []
    assert spilled.is_empty


def test_what_a_target_has_already_needs_no_files(spilled: Spill, tmp_path: Path) -> None:
    assert opened(tmp_path, 9, 9).is_empty
    assert files(tmp_path) == []


def test_a_torn_end_that_was_never_confirmed_is_dropped(spilled: Spill, tmp_path: Path) -> None:
    last = files(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-3])
    again = opened(tmp_path, 0, 8)
    assert again.tail == place(8)
    again.append([record(9), record(10)])
    again.close()
    assert rest(opened(tmp_path, 0, 10, epoch=3)) == [place(number) for number in range(1, 11)]


def test_a_torn_end_that_was_confirmed_is_a_loss(spilled: Spill, tmp_path: Path) -> None:
    last = files(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-3])
    assert state_of(tmp_path) is State.SPILL_LOST


@pytest.mark.parametrize("number", range(3))
def test_a_missing_file_is_a_loss(spilled: Spill, tmp_path: Path, number: int) -> None:
    files(tmp_path)[number].unlink()
    assert state_of(tmp_path) is State.SPILL_LOST


def test_a_missing_folder_is_a_loss(spilled: Spill, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "p.0")
    assert state_of(tmp_path) is State.SPILL_LOST


def test_another_key_is_named_and_changes_nothing(spilled: Spill, tmp_path: Path) -> None:
    assert state_of(tmp_path, key=Key(b"x" * 32)) is State.SPILL_LOCKED
    again = opened(tmp_path, 0, 9)
    assert again.tail == place(9)


@pytest.mark.parametrize("at", [0, 10, 20, 35, 44, 60, 100, -20])
def test_an_altered_byte_is_a_loss_or_another_key(spilled: Spill, tmp_path: Path, at: int) -> None:
    path = files(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert state_of(tmp_path) in (State.SPILL_LOST, State.SPILL_LOCKED)


def test_files_that_changed_places_are_a_loss(spilled: Spill, tmp_path: Path) -> None:
    first, second, _ = files(tmp_path)
    there = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(there)
    assert state_of(tmp_path) is State.SPILL_LOST


def test_records_that_changed_places_are_a_loss(spilled: Spill, tmp_path: Path) -> None:
    path = files(tmp_path)[0]
    data = path.read_bytes()
    size = (len(data) - 48) // 3
    path.write_bytes(data[:48] + data[48 + size : 48 + 2 * size] + data[48 : 48 + size] + data[48 + 2 * size :])
    assert state_of(tmp_path) is State.SPILL_LOST


def test_what_a_replaced_capture_still_writes_is_left_out(spilled: Spill, tmp_path: Path) -> None:
    new = opened(tmp_path, 0, 9, epoch=2)
    new.append([record(10, b"new")])
    spilled.append([Record(place(9), place(11), b"old", "", None)])
    new.close()
    again = opened(tmp_path, 0, 10, epoch=3)
    assert again.tail == place(10)
    assert rest(again)[-1] == place(10)


def test_a_budget_that_is_used_up_writes_nothing(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "p.0", KEY, 1, Budget(1000))
    spill.append([record(1, b"x" * 800)])
    with pytest.raises(Full, match="max_bytes"):
        spill.append([record(2, b"x" * 800)])
    assert spill.tail == place(1)
    spill.forget(place(1))
    spill.append([record(2, b"x" * 800)])
    spill.close()


# -- a lane with its detour: any interleaving of batches, applies, full disks and crashes


class Model:
    """One lane over capture after capture. `log`: the numbers that the source would send again."""

    def __init__(self, folder: Path, torn: int) -> None:
        self.folder = folder
        self.torn = torn
        self.epoch = 0
        self.mark = Mark(1, Position(START), "server")
        self.confirmed = START
        self.saved: str | None = None
        self.number = 0x20
        self.published: list[Cut] = []
        self.applied: list[int] = []
        self.begin_capture()

    def begin_capture(self) -> None:
        self.epoch += 1
        self.published = []
        self.lane = Lane(LaneId("shop", "p", 0, self.epoch), self.mark, self.confirmed, self.published.append)
        self.budget = Budget(1 << 30)
        self.spill = Spill(self.folder / "p.0", KEY, self.epoch, self.budget)
        self.spill.recover(self.mark.position, None if self.saved is None else Position.parse(self.saved))
        self.detour = Spilling(self.lane, self.spill, ROOM)
        self.pipe = pipeline([self.lane], changes=1)
        self.now = 0.0
        for number in range(int(self.confirmed, 16) + 1, self.number):
            if number >= 0x20:
                self.feed(number)

    def feed(self, number: int) -> None:
        self.pipe.take(piece(number, [insert(1, number), insert(2, number)]), 0.0, marker=False)

    # what may happen

    def change(self) -> None:
        self.feed(self.number)
        self.number += 1

    def spill_on(self) -> None:
        self.detour.begin(self.now)

    def step(self) -> None:
        self.now += 2
        self.detour.step(self.now)

    def confirm(self) -> None:
        """As the session offers and the housekeeper saves."""
        safe = self.lane.safe_commit(f"{self.number - 1:016X}")
        if safe > self.confirmed:
            self.confirmed = safe
            self.saved = str(self.spill.whole) if self.spill.whole else self.saved

    def apply(self) -> None:
        """The target takes the next batch, if it was published by the newest capture."""
        for cut in self.published:
            batch = decode(cut.data)
            if batch.after <= self.mark.position < batch.upto and batch.epoch == self.epoch:
                new = [change for _, change, at in batch.positions() if at > self.mark.position]
                self.applied += [change.after[0] for change in new if change.after and change.ordinal == 2]
                self.mark = Mark(self.epoch, batch.upto, "server")
                applied(self.lane, batch.upto)
                return

    def crash(self) -> None:
        """What was not synced may be there in part: a piece of a record more or none."""
        self.spill.close()
        there = sorted((self.folder / "p.0").glob("*.spill"))
        if there and self.torn:
            with there[-1].open("ab") as file:
                file.write(b"\x00\x00\x00\x50" + b"t" * self.torn)
        self.begin_capture()

    def fill_disk(self) -> None:
        self.budget._max = 0

    def free_disk(self) -> None:
        self.budget._max = 1 << 30

    def finish(self) -> None:
        self.free_disk()
        for _ in range(10 * (self.number - 0x20) + 10):
            self.step()
            self.apply()


ACTIONS = st.lists(
    st.sampled_from(
        ["change"] * 12
        + ["spill_on"] * 4
        + ["step"] * 4
        + ["confirm"] * 4
        + ["apply"] * 3
        + ["crash", "crash", "fill_disk", "free_disk"]
    ),
    min_size=30,
    max_size=120,
)


@settings(deadline=None, max_examples=25)
@given(ACTIONS, st.sampled_from([200, 1 << 20]), st.integers(0, 90))
def test_no_interleaving_of_spill_crash_and_replay_has_a_gap(actions: list[str], size: int, torn: int) -> None:
    folder = Path(tempfile.mkdtemp())
    whole_size, spill_module.FILE_BYTES = spill_module.FILE_BYTES, size  # type: ignore[misc]
    try:
        model = Model(folder, torn)
        for name in actions:
            getattr(model, name)()
            after = model.mark.position
            for cut in model.lane.pending:
                assert cut.after <= after, f"a gap behind {after}"
                after = max(after, cut.upto)
        model.finish()
        model.spill.close()
        assert model.applied == list(range(0x20, model.number))
        assert not list((folder / "p.0").glob("*.spill"))
    finally:
        spill_module.FILE_BYTES = whole_size  # type: ignore[misc]
        shutil.rmtree(folder)


def test_a_batch_keeps_its_trace_on_disk_and_a_record_of_before_has_none(tmp_path: Path) -> None:
    spill = opened(tmp_path, 0, None)
    spill.append([msgspec.structs.replace(record(1), trace="00-ab-cd-01")])
    assert spill.read().trace == "00-ab-cd-01"
    spill.close()
    before = msgspec.msgpack.encode([*msgspec.to_builtins(record(1), builtin_types=(bytes,))][:5])
    assert msgspec.msgpack.decode(before, type=Record) == record(1)


class Detoured(NamedTuple):
    pipe: Pipeline
    detour: Spilling
    spills: Spills


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Detoured]:
    """A target that takes nothing, so many batches under way that the open one would wait for it, and one open."""
    lane = Lane(LaneId("shop", "p", 0, 1), Mark(1, Position(START), "server"), START, lambda _: None)
    spill = Spill(tmp_path / "p.0", KEY, 1, Budget(1 << 30))
    detour = Spilling(lane, spill, WindowLimits(1 << 20, 1000))
    pipe = pipeline([lane], changes=1000, linger_s=0.01, max_linger_s=0.1)
    for number in range(CROWDED):
        pipe.take(piece(0x20 + number, [insert(1, number)]), 0.0, marker=False)
        pipe.flush()
    pipe.take(piece(0x60, [insert(1, 1000)]), 1.0, marker=False)
    detour.step(1.0)
    yield Detoured(pipe, detour, Spills([detour], lambda: True))
    spill.close()


def test_what_is_open_does_not_wait_for_a_target_while_the_log_waits_for_the_disk(crowded: Detoured) -> None:
    pipe, detour, _ = crowded
    assert (pipe.cut_due(99.0), pipe.lanes[0].is_open) == (math.inf, True)
    detour.begin(99.0)
    pipe.cut_due(99.0)
    detour.step(99.0)
    assert pipe.lanes[0].safe_commit("~") == "~"


def test_a_target_that_stands_still_is_led_over_the_disk_though_the_window_has_room(crowded: Detoured) -> None:
    pipe, detour, spills = crowded
    for now, is_active in ((1.0, False), (STILL_S, False), (STILL_S + 2, True)):
        spills.step(now)
        spills.begin(pipe.lanes, now, full=False)
        assert detour.active is is_active
    assert detour.whole == Position(f"{0x20 + CROWDED - 1:016X}")


def test_the_way_over_the_disk_ends_when_the_target_goes_on(crowded: Detoured) -> None:
    pipe, detour, _ = crowded
    detour.begin(2.0)
    for now in (3.0, 4.0):
        detour.step(now)
        assert (detour.active, detour.is_passed) == (True, True)
    applied(pipe.lanes[0], Position(f"{0x20:016X}"))
    detour.step(5.0)
    assert not detour.active
    assert detour.whole is not None
    applied(pipe.lanes[0], Position(f"{0x20 + CROWDED - 1:016X}"))
    detour.step(6.0)
    assert detour.whole is None


def test_a_target_that_goes_on_does_not_stand_still(crowded: Detoured) -> None:
    pipe, detour, _ = crowded
    for step in range(CROWDED):
        now = 1.0 + step * (STILL_S - 1)
        applied(pipe.lanes[0], Position(f"{0x20 + step:016X}"))
        detour.step(now)
        assert not detour.stands_still(now)
