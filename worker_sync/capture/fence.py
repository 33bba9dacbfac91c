"""Where a pipeline's shards stand, and making this capture the only one that they listen to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from connectors.base import Mark, Sink
from worker_sync.capture.lineage import Lineage
from worker_sync.capture.pipeline import shard_of
from worker_sync.core.errors import Fenced, Halt, State
from worker_sync.core.parking import NONE_PARKED
from worker_sync.core.position import Position
from worker_sync.core.sections import Pipeline
from worker_sync.store.checkpoints import Checkpoint


class Outnumbered(Fenced):
    """The target has seen a higher epoch

    Either a newer capture runs, or the control store was set up anew and counts from the beginning again.
    """

    def __init__(self, pipeline: str, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"{pipeline} is at epoch {epoch}")


@dataclass(frozen=True, slots=True)
class Layout:
    """The shards with which a pipeline runs now.

    `marks`: where each stands. `draining`: they are those of an earlier configuration, to be emptied before the
    configured number takes over. `before`: the marks of the layout that was just replaced, else `marks`.
    """

    marks: dict[int, Mark]
    draining: bool
    before: dict[int, Mark]


class Fence:
    """Fences pipelines for one capture. A shard's key is `pipeline/shard`, as in `Checkpoint.lanes`."""

    def __init__(self, epoch: int, checkpoint: Checkpoint, lineage: Lineage) -> None:
        self._epoch = epoch
        self._checkpoint = checkpoint
        self._lineage = lineage

    def pipeline(self, sink: Sink, pipeline: Pipeline, anew: Position | None) -> Layout:
        """Fence the shards of a pipeline; with `anew` their marks are forgotten first, and they begin there.

        Raises Halt(position-lost) when a shard went back in time (for instance by a restored backup) or was not
        captured for a while: the log in between may be gone; or when it has what the source's history of now lacks.
        Raises Outnumbered when a newer capture is at work.
        """
        there = sink.marks(pipeline.name)
        highest = max((mark.epoch for mark in there.values()), default=0)
        if highest > self._epoch:
            raise Outnumbered(pipeline.name, highest)
        known = self._known(pipeline.name)
        if anew is None and not known and any(mark.batches for mark in there.values()):
            raise self._lost(pipeline, "this capture has no record of where it stands")
        if anew is not None or not known:
            sink.forget(pipeline.name)
            marks = self._all(sink, pipeline, range(pipeline.shards), anew)
            return Layout(marks, False, marks)
        if pipeline.snapshot == "none" and known.keys() - there.keys():
            # Where rows are copied at the start, new marks have them copied again.
            raise self._lost(pipeline, f"{pipeline.target} has lost the watermark, and perhaps what it stood for")
        marks = self._all(sink, pipeline, known)
        self._check(pipeline, known, marks)
        self._require_shared(pipeline, marks)
        if set(known) == set(range(pipeline.shards)):
            return Layout(marks, False, marks)
        return self._change(sink, pipeline, marks)

    def _known(self, pipeline: str) -> dict[int, Position]:
        """The positions that the checkpoint has of the pipeline's shards."""
        lanes = ((*key.rpartition("/"), text) for key, text in self._checkpoint.lanes.items())
        return {int(shard): Position.parse(text) for name, _, shard, text in lanes if name == pipeline}

    def _all(
        self, sink: Sink, pipeline: Pipeline, shards: Iterable[int], anew: Position | None = None
    ) -> dict[int, Mark]:
        start, identity = anew or Position(self._checkpoint.confirmed), self._checkpoint.identity
        return {shard: sink.fence(pipeline.name, shard, self._epoch, identity, start) for shard in sorted(shards)}

    def _check(self, pipeline: Pipeline, known: dict[int, Position], marks: dict[int, Mark]) -> None:
        for shard, mark in marks.items():
            if mark.position < known[shard]:
                raise self._lost(pipeline, f"{pipeline.target} stands at {mark.position}, but it was at {known[shard]}")

    def _require_shared(self, pipeline: Pipeline, marks: dict[int, Mark]) -> None:
        shared = self._lineage.shared(pipeline.name)
        for shard, mark in marks.items():
            reached = max(mark.position, self._spilled(pipeline.name, shard) or mark.position)
            if reached.commit > shared:
                detail = f"{pipeline.target} has what came after {shared}, where the source's log became another one"
                raise self._lost(pipeline, f"{detail}: it stands at {reached}")

    def _lost(self, pipeline: Pipeline, detail: str) -> Halt:
        return Halt(State.POSITION_LOST, detail, f"worker-sync resync {pipeline.name}")

    def _change(self, sink: Sink, pipeline: Pipeline, marks: dict[int, Mark]) -> Layout:
        """The configured number of shards differs. A key's changes may move to another shard only where none of the
        old shards has applied more than what is confirmed: there all of them stand at the same point of the log."""
        ahead = any(mark.position.commit > self._checkpoint.confirmed for mark in marks.values())
        if ahead or any(self._is_spilled(pipeline.name, shard, mark.position) for shard, mark in marks.items()):
            return Layout(marks, True, marks)
        fenced = self._all(sink, pipeline, range(pipeline.shards))
        return Layout(self._with_parked(sink, pipeline, marks, fenced), False, marks)

    def _with_parked(
        self, sink: Sink, pipeline: Pipeline, old: dict[int, Mark], new: dict[int, Mark]
    ) -> dict[int, Mark]:
        """The new shards' marks, with the parked keys of the old ones given to the shards that have them now. Where
        this is interrupted it is done again: a shard of the old layout loses none before those of the new one have
        all. A key that a shard holds though it isn't its own does no harm: releases go to all shards."""
        parked = {key for mark in (*old.values(), *new.values()) for key in mark.parked}
        holding = {}
        for shard, mark in new.items():
            own = {held for held in parked if shard_of(held[1], pipeline.shards) == shard}
            holding[shard] = replace(mark, parked=mark.parked | own)
            if not own <= mark.parked:
                sink.park(pipeline.name, shard, self._epoch, holding[shard].parked)
        for shard in old.keys() - new.keys():
            if old[shard].parked:
                sink.park(pipeline.name, shard, self._epoch, NONE_PARKED)
        return holding

    def _is_spilled(self, pipeline: str, shard: int, position: Position) -> bool:
        """What the shard needs next is on the capture's disk, cut for this shard."""
        spilled = self._spilled(pipeline, shard)
        return spilled is not None and spilled > position

    def _spilled(self, pipeline: str, shard: int) -> Position | None:
        text = self._checkpoint.spilled.get(f"{pipeline}/{shard}")
        return None if text is None else Position.parse(text)
