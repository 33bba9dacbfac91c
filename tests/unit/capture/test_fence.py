"""What a pipeline has that came after the branch of its source's log is found before it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.memory import MemorySink, MemorySource
from connectors.memory_store import MemoryDatabase
from worker_sync.capture.fence import Fence
from worker_sync.capture.lineage import Lineage
from worker_sync.core.errors import Halt, State
from worker_sync.core.position import Position
from worker_sync.core.settings import parse
from worker_sync.store.checkpoints import OF_LOG, Checkpoint

SOURCE, TARGET = "memory://branched", "memory://target"
BRANCH = "0000000000000050"
BEFORE, BEYOND = Position("0000000000000050"), Position("0000000000000051")
[PIPELINE] = parse(
    {
        "control": "postgresql://db/ws",
        "broker": "redis://127.0.0.1/0",
        "databases": {"a": {"url": SOURCE}, "b": {"url": TARGET}},
        "pipelines": {"p": {"source": "a", "target": "b", "tables": ["*"]}},
    },
    where="test",
    folder=Path("/nowhere"),
).pipelines_from("a")


class Promoted(MemorySource):
    """A source whose log was another one until BRANCH."""

    def history(self) -> str:
        return "2"

    def shared(self, before: str, now: str) -> str:
        return BRANCH if before == "1" else super().shared(before, now)


@pytest.fixture
def source() -> Iterator[Promoted]:
    yield Promoted("a", SOURCE)
    for url in (SOURCE, TARGET):
        MemoryDatabase.drop(url)


def fence(source: Promoted, at: Position, history: str, spilled: Position | None, anew: Position | None) -> Position:
    """Where the pipeline's shard is fenced that stood at a position of a history."""
    sink = MemorySink("b", TARGET)
    sink.fence("p", 0, 1, "id", at)
    disk = {} if spilled is None else {"p/0": str(spilled)}
    checkpoint = Checkpoint("a", "id", BRANCH, {"p/0": str(at)}, 2, spilled=disk, histories={"p": history})
    layout = Fence(2, checkpoint, Lineage(source, checkpoint.histories)).pipeline(sink, PIPELINE, anew)
    return layout.marks[0].position


@pytest.mark.parametrize(
    ("at", "history", "spilled"),
    [(BEFORE, "1", None), (BEFORE, "1", BEFORE), (BEYOND, "2", None), (BEFORE, "2", BEYOND)],
)
def test_what_means_the_same_in_both_histories_goes_on(
    source: Promoted, at: Position, history: str, spilled: Position | None
) -> None:
    assert fence(source, at, history, spilled, None) == at


@pytest.mark.parametrize(
    ("at", "history", "spilled"), [(BEYOND, "1", None), (BEFORE, "1", BEYOND), (BEFORE, "3", None)]
)
def test_what_came_after_the_branch_is_lost(
    source: Promoted, at: Position, history: str, spilled: Position | None
) -> None:
    with pytest.raises(Halt, match="became another one") as halt:
        fence(source, at, history, spilled, None)
    assert (halt.value.state, halt.value.recovery) == (State.POSITION_LOST, "worker-sync resync p")


def test_what_is_begun_anew_is_of_the_new_history(source: Promoted) -> None:
    assert fence(source, BEYOND, "1", BEYOND, BEFORE) == BEFORE


def test_what_is_confirmed_is_taken_back_to_the_branch(source: Promoted) -> None:
    known = {OF_LOG: "1", "p": "1"}
    found = Checkpoint("a", "id", BEYOND.commit, {}, 1, histories=known)
    taken = Lineage(source, known).taken_up(found, ["p", "new"])
    assert (taken.confirmed, taken.histories) == (BRANCH, {OF_LOG: "2", "p": "1", "new": "2"})


def test_a_history_without_anything_in_common_is_another_server(source: Promoted) -> None:
    known = {OF_LOG: "3"}
    with pytest.raises(Halt) as halt:
        Lineage(source, known).taken_up(Checkpoint("a", "id", BRANCH, {}, 1, histories=known), [])
    assert halt.value.state is State.IDENTITY_CHANGED
