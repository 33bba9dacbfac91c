"""Connects what a session consists of: stream, lanes, snapshots, replays and what watches them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from connectors.base import Source, Stream
from worker_sync.capture.absent import AbsentTargets
from worker_sync.capture.alterer import Alterer
from worker_sync.capture.catalogue import Catalogue
from worker_sync.capture.fetcher import Fetcher
from worker_sync.capture.housekeeping import Housekeeper
from worker_sync.capture.lane import Cut, Lane, LaneId
from worker_sync.capture.pipeline import BatchLimits, Pipeline
from worker_sync.capture.preparation import open_target
from worker_sync.capture.publisher import Publisher
from worker_sync.capture.replay import Replayer
from worker_sync.capture.requests import requests_of
from worker_sync.capture.retention import LogGuard
from worker_sync.capture.routing import Routes
from worker_sync.capture.session import Running, Session
from worker_sync.capture.snapshot import Loader
from worker_sync.capture.spilling import Spilling, SpillPlace, Spills
from worker_sync.capture.targets import Ready
from worker_sync.capture.versions import Versions
from worker_sync.capture.watcher import Watcher
from worker_sync.capture.window import Retransmission, WindowLimits
from worker_sync.core import markers
from worker_sync.core.change import TransactionInfo
from worker_sync.core.partitions import Partitions
from worker_sync.core.schema import TableName
from worker_sync.core.sections import is_trail
from worker_sync.core.selection import carries
from worker_sync.core.settings import Settings
from worker_sync.store import ControlStore
from worker_sync.store.checkpoints import Checkpoint
from worker_sync.store.held import HeldLease
from worker_sync.store.signals import Signal, SignalKind

REPLAYING: Final = (SignalKind.REPLAY, SignalKind.RELEASE)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every part of a capture works with. `name`: the source's; `publish` hands a batch to the broker; what is
    opened is closed by `stack`."""

    settings: Settings
    source: Source
    name: str
    store: ControlStore
    lease: HeldLease
    publish: Callable[[Cut], None]
    guard: LogGuard
    stack: ExitStack


class Wiring:
    """Makes one session of the pipelines that are `ready`. `frozen`: another one of the source stands still."""

    def __init__(
        self,
        at: Surroundings,
        ready: Sequence[Ready],
        checkpoint: Checkpoint,
        signals: Sequence[Signal],
        spills: SpillPlace,
        *,
        frozen: bool,
    ) -> None:
        self._at = at
        self._tuning = at.settings.capture
        self._ready = ready
        self._checkpoint = checkpoint
        self._must_see = [TransactionInfo(*entry) for entry in checkpoint.unseen]
        self._signals = signals
        self._spills = spills
        self._frozen = frozen
        self._changed = threading.Event()
        self._publisher = Publisher(at.publish)
        self._detours: list[Spilling] = []

    def session(
        self,
        housekeeper: Housekeeper,
        absent: AbsentTargets,
        partitions: Mapping[TableName, Partitions],
        stop: threading.Event,
    ) -> Session:
        """`partitions`: what is recorded of them. Raises Halt when the source's stream can't be opened."""
        at = self._at
        stream = at.stack.enter_context(at.source.open_stream(self._checkpoint.confirmed))
        catalogue = Catalogue(at.source, at.name, at.store, at.lease.token, partitions)
        running = [self._running(entry, stream, catalogue) for entry in self._ready]
        return Session(
            stream,
            running,
            self._publisher,
            housekeeper,
            absent,
            catalogue,
            Spills(self._detours, lambda: at.guard.spill),
            WindowLimits(self._tuning.window_bytes, self._tuning.window_batches),
            self._tuning.batch_changes,
            self._checkpoint.confirmed,
            self._frozen,
            # While something stands still nothing is confirmed, so the shards could never be seen to be drained.
            any(entry.layout.draining for entry in self._ready) and not self._frozen,
            self._changed,
            stop,
        )

    # -- a pipeline

    def _running(self, entry: Ready, stream: Stream, catalogue: Catalogue) -> Running:
        alterer = _alterer(entry, stream, catalogue)
        lanes = [self._lane(entry, shard) for shard in sorted(entry.layout.marks)]
        routes = Routes(stream.schemas, entry.target_of)
        pipeline = Pipeline(entry.settings.name, lanes, routes, self._batch_limits(), alterer)
        begin = max(lane.tail.commit for lane in lanes)
        fetcher = self._fetcher(entry)
        loader = self._at.stack.enter_context(Loader(pipeline, fetcher, self._must_see, begin))
        alterer.copy_again = loader.copy_again
        for mark in entry.inherited:
            for lane in lanes:
                lane.inherit(mark)
        for load in entry.loads:
            loader.add(load)
        return Running(
            pipeline,
            Watcher(entry.sink, [pipeline.name], self._changed),
            loader,
            fetcher,
            [Retransmission(lane, self._tuning.resend_after_s) for lane in lanes],
            self._replayer(entry, pipeline, begin),
        )

    def _batch_limits(self) -> BatchLimits:
        tuning = self._tuning
        return BatchLimits(
            tuning.batch_changes, tuning.batch_bytes, tuning.linger_ms / 1000, tuning.max_linger_ms / 1000
        )

    def _lane(self, entry: Ready, shard: int) -> Lane:
        """A lane, behind what it has on the disk."""
        identity = LaneId(self._at.name, entry.settings.name, shard, self._at.lease.token)
        lane = Lane(identity, entry.layout.marks[shard], self._checkpoint.confirmed, self._publisher.put)
        if (spill := self._spills.of(entry.settings.name, shard)) is not None:
            self._detours.append(Spilling(lane, spill, self._room))
        return lane

    def _fetcher(self, entry: Ready) -> Fetcher:
        at = self._at
        return Fetcher(
            at.source.reader,
            lambda: open_target(at.settings, entry.settings).reader(),
            entry.target_of,
            self._tuning.snapshot_rows,
            self._nudge,
        )

    def _nudge(self) -> str:
        return self._at.source.emit(markers.NUDGE, b"")

    def _replayer(self, entry: Ready, pipeline: Pipeline, begin: str) -> Replayer | None:
        signals = [s for s in self._signals if s.pipeline == pipeline.name and s.kind in REPLAYING]
        requests = [request for signal in signals for request in requests_of(signal, entry)]
        if not requests:
            return None
        if any(request.read for request in requests):
            # What was committed before and was not visible yet, for a standby's sake, is visible once this is.
            self._nudge()
        return Replayer(pipeline, self._fetcher(entry), requests, self._must_see, begin)

    @cached_property
    def _room(self) -> WindowLimits:
        """How much a lane may have pending while its batches go over the disk: all of them share half of a window."""
        tuning, share = self._tuning, 2 * sum(len(entry.layout.marks) for entry in self._ready)
        return WindowLimits(max(1, tuning.window_bytes // share), max(1, tuning.window_batches // share))


def _alterer(entry: Ready, stream: Stream, catalogue: Catalogue) -> Alterer:
    pipeline = entry.settings
    versions = Versions(
        pipeline.schema_changes,
        entry.target_of,
        entry.sink.alters_rows,
        entry.records,
        {table.source.table: table.shape.guarded for table in entry.selected},
        lambda name: carries(pipeline, name),
        is_trail(pipeline.name),
    )
    return Alterer(pipeline.name, pipeline.schema_changes, versions, stream.schemas, stream.truncated, catalogue)
