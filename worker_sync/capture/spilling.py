"""Leads a lane's batches over the disk while its target is away and the source's log may not grow any more.

Batches leave a lane in one order: those that are pending (published, in memory), those on disk that were not read back,
those that wait to be written. While nothing is on disk there is only the first kind.
"""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from connectors.base import Mark
from worker_sync.capture.lane import Cut, Lane
from worker_sync.capture.spill import Budget, Full, Spill, locked
from worker_sync.capture.spill_file import Key, Record
from worker_sync.capture.window import WindowLimits, usage
from worker_sync.core.codec import decode, encode
from worker_sync.core.errors import Transient
from worker_sync.core.log import event
from worker_sync.core.position import Position
from worker_sync.core.sections import Spill as Settings

log = logging.getLogger(__name__)

#: Seconds between two attempts to write while the disk is full.
AGAIN_S: Final = 1.0
#: A target that has taken nothing for so many seconds, though there is something for it, holds up the log.
STILL_S: Final = 10.0


class Spilling:
    """One lane's detour. `room`: how much may be pending while it is used. Used by the capture's main thread only."""

    def __init__(self, lane: Lane, spill: Spill, room: WindowLimits) -> None:
        self.lane = lane
        self.spill = spill
        self._room = room
        #: Cut and not on disk yet.
        self.waiting: deque[Cut] = deque()
        #: Everything that is cut goes over the disk.
        self.active = spill.has_more
        #: What waits can't be written.
        self.full = False
        self._try_at = 0.0
        #: Where the target stood when the detour began: it is over once the target goes on.
        self._begun_at = lane.mark.position
        #: Where the target stands, and since when there is something for it.
        self._stands_at = lane.mark.position
        self._still_since: float | None = None
        if spill.tail is not None:
            lane.tail = spill.tail
        lane.detour = self

    # -- what the lane asks

    @property
    def whole(self) -> Position | None:
        return self.spill.whole

    @property
    def is_passed(self) -> bool:
        return not self.waiting and not self.spill.has_more

    def take(self, cut: Cut) -> bool:
        if self.active:
            self.waiting.append(cut)
        return self.active

    # -- what the session asks

    def begin(self, now: float) -> bool:
        """Put what is pending on disk and keep no more of it in memory than `room`; False when there is no room on
        disk or nothing to put there."""
        lane, spill = self.lane, self.spill
        spill.forget(lane.mark.position)
        new = [cut for cut in lane.pending if spill.tail is None or cut.after >= spill.tail]
        if self.active or not lane.pending or now < self._try_at:
            return False
        if new and not self._write(new, now):
            return False
        self._trim()
        self.active = True
        self._begun_at = lane.mark.position
        log.warning(
            "%s: its target is away; batches go to disk from here on, and the source's log may go",
            lane.id,
            extra=event("spill-began", pipeline=lane.id.pipeline, shard=lane.id.shard, upto=str(spill.tail)),
        )
        return True

    def _trim(self) -> None:
        kept = size = 0
        for cut in self.lane.pending:
            size += len(cut.data)
            if kept and (size > self._room.size or kept >= self._room.batches):
                break
            kept += 1
        dropped = len(self.lane.pending) - kept
        for _ in range(dropped):
            self.lane.pending.pop()
        self.spill.read_last(dropped)

    def step(self, now: float) -> None:
        """Write what waits, read back what there is room for, remove what is applied."""
        self.spill.forget(self.lane.mark.position)
        self._watch(now)
        if not self.active:
            return
        if self.waiting and now >= self._try_at and self._write(list(self.waiting), now):
            self.waiting.clear()
        self._read_back()
        if not self.spill.has_more and self.lane.mark.position > self._begun_at:
            self._end()

    def _watch(self, now: float) -> None:
        lane = self.lane
        if not lane.pending:
            self._still_since = None
        elif self._still_since is None or lane.mark.position > self._stands_at:
            self._still_since = now
        self._stands_at = lane.mark.position

    def stands_still(self, now: float) -> bool:
        """The target takes nothing of what there is for it."""
        return self._still_since is not None and now - self._still_since >= STILL_S

    def _write(self, cuts: list[Cut], now: float) -> bool:
        try:
            self.spill.append(
                [Record(cut.after, cut.upto, cut.data, cut.summary, cut.oldest, cut.trace) for cut in cuts]
            )
        except Full as error:
            self._try_at = now + AGAIN_S
            if not self.full:
                fields = event("spill-full", pipeline=self.lane.id.pipeline, shard=self.lane.id.shard)
                log.error("%s: can't spill, the source keeps its log: %s", self.lane.id, error, extra=fields)
            self.full = True
            return False
        self.full = False
        return True

    def _read_back(self) -> None:
        lane = self.lane
        while self.spill.has_more and self._has_room():
            record = self.spill.read()
            if record.upto > lane.mark.position:
                lane.send(self._cut(record))

    def _has_room(self) -> bool:
        pending = self.lane.pending
        return len(pending) < self._room.batches and sum(len(cut.data) for cut in pending) < self._room.size

    def _cut(self, record: Record) -> Cut:
        """The batch with this capture's epoch: the one that cut it may have been another."""
        batch = decode(record.data)
        data = record.data
        if batch.epoch != self.lane.id.epoch:
            data = encode(msgspec.structs.replace(batch, epoch=self.lane.id.epoch))
        summary, changes = batch.summary(), len(batch.changes)
        return Cut(self.lane.id, record.after, record.upto, data, summary, record.oldest, changes, record.trace)

    def _end(self) -> None:
        """All of it is pending again."""
        while self.waiting:
            self.lane.send(self.waiting.popleft())
        self.active = self.full = False
        fields = event("spill-ended", pipeline=self.lane.id.pipeline, shard=self.lane.id.shard)
        log.info("%s: all spilled batches are on their way", self.lane.id, extra=fields)


class Spills:
    """The detours of a session's lanes. `wanted` tells whether the source's log may not grow any more."""

    def __init__(self, detours: Sequence[Spilling] = (), wanted: Callable[[], bool] = lambda: False) -> None:
        self._detours = {detour.lane.id: detour for detour in detours}
        self._wanted = wanted

    def step(self, now: float) -> None:
        for detour in self._detours.values():
            detour.step(now)

    def begin(self, lanes: Sequence[Lane], now: float, *, full: bool) -> None:
        """Begin for those of the lanes that hold up the log: their target takes nothing, or the window is `full` and
        they hold their part of it."""
        if not self._detours or not self._wanted():
            return
        for lane in lanes:
            if self._detours[lane.id].stands_still(now) or (full and _fills(lane, lanes)):
                self._detours[lane.id].begin(now)

    def direct(self, lanes: Sequence[Lane]) -> list[Lane]:
        """The lanes whose batches don't go over the disk: what those hold in memory is bounded by itself."""
        return [lane for lane in lanes if lane.id not in self._detours or not self._detours[lane.id].active]

    @property
    def stuck(self) -> bool:
        """Something waits that can't be written."""
        return any(detour.full and detour.waiting for detour in self._detours.values())

    @property
    def active(self) -> bool:
        return any(detour.active for detour in self._detours.values())

    def spilled(self) -> dict[str, str]:
        """How far each shard's batches are on disk, for the checkpoint."""
        return {str(key): str(detour.whole) for key, detour in self._detours.items() if detour.whole is not None}

    def as_json(self) -> dict[str, object]:
        size = sum(detour.spill.bytes for detour in self._detours.values())
        return {"bytes": size, "active": self.active, "full": self.stuck}

    def close(self) -> None:
        for detour in self._detours.values():
            detour.spill.close()


def _fills(lane: Lane, lanes: Sequence[Lane]) -> bool:
    """It holds half of its part of what all hold, or more."""
    (size, batches), (own_size, own_batches) = usage(lanes), usage([lane])
    return own_size * len(lanes) * 2 >= size or own_batches * len(lanes) * 2 >= batches


class SpillPlace:
    """Where the spills of a source are, for one capture."""

    def __init__(self, settings: Settings | None, source: str, epoch: int) -> None:
        self._folder = None if settings is None or settings.directory is None else settings.directory / source
        self._key = Key(b"" if settings is None else settings.key.get_secret_value().encode())
        self._budget = Budget(0 if settings is None else settings.max_bytes)
        self._epoch = epoch
        self._spills: dict[tuple[str, int], Spill] = {}

    def recover(self, pipeline: str, marks: Mapping[int, Mark], spilled: Mapping[str, str]) -> None:
        """Take over what an earlier capture left for the shards of a pipeline; `spilled` is the checkpoint's.

        Raises Halt when something that the source may have dropped is missing or can't be read.
        """
        for shard, mark in marks.items():
            text = spilled.get(f"{pipeline}/{shard}")
            required = None if text is None else Position.parse(text)
            if self._folder is None:
                if required is not None and required > mark.position:
                    raise locked(f"batches of {pipeline}/{shard} are on disk, and spill.key is not set any more")
                continue
            spill = Spill(self._folder / f"{pipeline}.{shard}", self._key, self._epoch, self._budget)
            try:
                spill.recover(mark.position, required)
            except OSError as error:
                raise Transient(f"{spill.directory}: {error.strerror or error}") from error
            self._spills[pipeline, shard] = spill

    def of(self, pipeline: str, shard: int) -> Spill | None:
        return self._spills.get((pipeline, shard))

    def forget_others(self, pipelines: Collection[str]) -> None:
        """Remove what belongs to pipelines that are not configured any more."""
        if self._folder is None or not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            if folder.name.rpartition(".")[0] not in pipelines:
                shutil.rmtree(folder, ignore_errors=True)
