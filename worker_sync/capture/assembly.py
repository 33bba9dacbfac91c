"""Decides what a session is to be: which pipelines run, with which snapshots, from where."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from worker_sync.capture.absences import Absences
from worker_sync.capture.absent import AbsentTargets
from worker_sync.capture.fence import Fence
from worker_sync.capture.halts import halt_of
from worker_sync.capture.housekeeping import Housekeeper
from worker_sync.capture.lineage import Lineage
from worker_sync.capture.partitioned import Partitioned
from worker_sync.capture.preparation import (
    all_tables,
    check_identity,
    check_stream,
    choose_tables,
    new_stream,
    open_target,
)
from worker_sync.capture.session import Session
from worker_sync.capture.spilling import SpillPlace
from worker_sync.capture.targets import Ready, Targets
from worker_sync.capture.versions import Records
from worker_sync.capture.wiring import REPLAYING, Surroundings, Wiring
from worker_sync.core import markers, sections
from worker_sync.core.errors import Halt, Permanent, State, Transient
from worker_sync.core.log import event
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.sections import is_trail
from worker_sync.core.selection import Selected, carries
from worker_sync.store.checkpoints import OF_LOG, Checkpoint
from worker_sync.store.dead_letters import LetterStatus
from worker_sync.store.pipelines import Status
from worker_sync.store.signals import Signal, SignalKind
from worker_sync.store.versions import TableVersion

log = logging.getLogger(__name__)

_LOADING: Final = (SignalKind.RESYNC, SignalKind.SNAPSHOT)
_TAKEN_UP: Final = (*_LOADING, *REPLAYING)


class Assembler:
    """Builds the session of one source under one lease."""

    def __init__(self, at: Surroundings) -> None:
        self._at = at
        self._settings = at.settings
        self._source = at.source
        self._name = at.name
        self._store = at.store
        self._token = at.lease.token
        self._pipelines = at.settings.pipelines_from(at.name)
        self._signals: list[Signal] = []
        self._absent = AbsentTargets({})
        self._spills = SpillPlace(at.settings.spill, at.name, at.lease.token)

    def wanted(self) -> object:
        """What should run; a session ends when this is no longer what it was built for."""
        requests = {signal.id for signal in self._store.signals.pending(self._name) if signal.kind in _TAKEN_UP}
        return {pipeline.name: self._runs(pipeline) for pipeline in self._pipelines}, requests

    def _built_for(self, names: Collection[str]) -> object:
        """What `wanted` says as long as nobody asks for something else: people may have while this was being built."""
        return {pipeline.name: pipeline.name in names for pipeline in self._pipelines}, {s.id for s in self._signals}

    def _runs(self, pipeline: sections.Pipeline) -> bool:
        if pipeline.name in self._absent.awaited:
            return False
        return self._store.pipelines.get(pipeline.name).status is Status.RUNNING

    def session(self, stop: threading.Event) -> Session | None:
        """The session, or None when no pipeline is to run. Raises Halt for what concerns the whole source."""
        running = [p for p in self._pipelines if self._runs(p)]
        if not running:
            return None
        # After the states: whoever resumes a pipeline by a request has left the request before.
        self._signals = [signal for signal in self._store.signals.pending(self._name) if signal.kind in _TAKEN_UP]
        self._source.cut_off()
        found = self._store.checkpoints.load(self._name)
        lineage = Lineage(self._source, {} if found is None else found.histories)
        records = self._records()
        self._source.remembered = _remembered(self._pipelines, records)
        chosen = choose_tables(self._settings, self._source, self._pipelines, records)
        if Absences(self._name, self._store, self._token).note(self._pipelines, chosen, records):
            return self.session(stop)
        # Before the stream delivers new tables: what it brings of them must not be older than what is recorded.
        seen = {p.name: self._first_seen(p, chosen[p.name], records[p.name]) for p in running}
        partitioned = Partitioned(self._source, seen, self._signals, self._store.versions, self._token)
        checkpoint = self._checkpoint(found, all_tables(chosen), lineage)
        self._store.checkpoints.save(checkpoint)
        targets = Targets(self._settings, self._source, Fence(self._token, checkpoint, lineage), self._at.stack)
        ready = self._open_targets(
            [p for p in running if self._runs(p)], chosen, partitioned.records, checkpoint, targets
        )
        if not ready:
            return None
        names = {pipeline.name for pipeline in self._pipelines}
        self._spills.forget_others(names)
        spilled = {key: text for key, text in checkpoint.spilled.items() if key.rpartition("/")[0] in names}
        checkpoint = replace(checkpoint, lanes=self._lanes_of(checkpoint, ready), spilled=spilled)
        checkpoint = lineage.begun(checkpoint, [entry.settings.name for entry in ready])
        self._store.checkpoints.save(checkpoint)
        frozen = len(ready) < len(self._pipelines)
        wiring = Wiring(self._at, ready, checkpoint, self._signals, self._spills, frozen=frozen)
        return wiring.session(self._housekeeper(ready, checkpoint), self._absent, partitioned.known, stop)

    # -- what the targets have of the tables

    def _records(self) -> dict[str, Records]:
        """What is known of each pipeline's tables. What a person has asked to be copied anew is taken as it is now."""
        return {pipeline.name: self._renewed(pipeline.name) for pipeline in self._pipelines}

    def _renewed(self, pipeline: str) -> Records:
        asked = {s.table for s in self._signals if s.pipeline == pipeline and s.kind is SignalKind.RESYNC}
        return {
            name: TableVersion(name, None)
            if not asked.isdisjoint((None, str(name))) and not record.place and (record.next or record.gone)
            else record
            for name, record in self._store.versions.of(pipeline).items()
        }

    def _first_seen(self, pipeline: sections.Pipeline, selected: list[Selected], records: Records) -> Records:
        """Record the definitions of tables that the pipeline takes for the first time."""
        new = [s.source for s in selected if s.source.table not in records or not records[s.source.table].version]
        if not new:
            return records
        since = self._now()
        change = f"{', '.join(str(table.table) for table in new)} was added" if records else ""
        found = {table.table: TableVersion(table.table, table, since=since, change=change) for table in new}
        self._store.versions.save_all(pipeline.name, found.values(), self._token)
        return {**records, **found}

    def _now(self) -> str:
        """A position after all that is committed; without a stream, of which all that comes is later, the beginning."""
        try:
            return self._source.emit(markers.NUDGE, b"")
        except Halt as halt:
            if halt.state is not State.SLOT_MISSING:
                raise
            return ""

    def _save(self, pipeline: str, version: TableVersion) -> None:
        self._store.versions.save(pipeline, version, self._token)

    # -- the targets

    def _open_targets(
        self,
        running: list[sections.Pipeline],
        chosen: dict[str, list[Selected]],
        records: Mapping[str, Records],
        checkpoint: Checkpoint,
        targets: Targets,
    ) -> list[Ready]:
        """The pipelines that can run now. One whose target does not answer waits until it does, unless none can run:
        then the error says so. One that can't run at all is halted."""
        ready: list[Ready] = []
        away: dict[str, Transient] = {}
        for pipeline in running:
            signals = [signal for signal in self._signals if signal.pipeline == pipeline.name]
            try:
                known = records[pipeline.name]
                loading = [signal for signal in signals if signal.kind in _LOADING]
                entry = targets.open(pipeline, chosen[pipeline.name], loading, known, self._save)
                self._spills.recover(pipeline.name, entry.layout.marks, checkpoint.spilled)
                ready.append(entry)
            except (Halt, Permanent) as error:
                halt = halt_of(error).about(pipeline.name)
                extra = event("pipeline_halted", pipeline=pipeline.name, state=str(halt.state))
                log.error("%s: %s", pipeline.name, halt, extra=extra)
                self._store.pipelines.halt(pipeline.name, halt)
                continue
            except Transient as error:
                away[pipeline.name] = error
                continue
            if pipeline.name in self._begun_anew():
                self._supersede(pipeline.name)
            for signal in signals:
                self._store.signals.start(signal.id)
        self._await_targets(away, ready)
        return ready

    def _supersede(self, pipeline: str) -> None:
        """All rows are copied anew, and no worker holds keys of before any more."""
        letters = [place.id for place in self._store.dead_letters.places(pipeline)]
        note = "all of the pipeline is copied anew"
        self._store.dead_letters.resolve(letters, LetterStatus.DISCARDED, "resync", note)

    def _await_targets(self, away: dict[str, Transient], ready: list[Ready]) -> None:
        for name, error in away.items():
            if not ready:
                raise error
            log.warning("%s; the other pipelines go on without it", error, extra=event("target_away", pipeline=name))
        pipelines = [self._settings.pipeline(name) for name in away]
        self._absent = AbsentTargets({p.name: partial(open_target, self._settings, p) for p in pipelines})

    def _lanes_of(self, checkpoint: Checkpoint, ready: list[Ready]) -> dict[str, str]:
        """What the checkpoint knows of shards: those that run, and those of pipelines that stand still. A pipeline
        that left the configuration is forgotten: from here on log that it lacks may be confirmed."""
        opened = {entry.settings.name for entry in ready}
        still = {pipeline.name for pipeline in self._pipelines} - opened
        kept = {key: text for key, text in checkpoint.lanes.items() if key.rpartition("/")[0] in still}
        for entry in ready:
            kept |= {f"{entry.settings.name}/{shard}": str(mark.position) for shard, mark in entry.layout.marks.items()}
        return kept

    # -- the source

    def _checkpoint(self, found: Checkpoint | None, tables: list[TableName], lineage: Lineage) -> Checkpoint:
        """The checkpoint to begin from, with the source's stream behind it; `found` is the saved one."""
        names = {pipeline.name for pipeline in self._pipelines}
        if found is None:
            return lineage.begun(self._new_stream(tables, set()), {OF_LOG})
        if self._begun_anew() >= names:
            # Nobody needs the old stream, and what it would deliver next may be what can't be read.
            self._source.drop_stream()
            return lineage.begun(self._new_stream(tables, set()), {OF_LOG})
        try:
            check_identity(self._source, found)
            checkpoint = lineage.taken_up(found, names)
            check_stream(self._source, checkpoint)
        except Halt as halt:
            renewed = {s.pipeline for s in self._signals if s.kind is SignalKind.RESYNC and s.table is None}
            if not renewed:
                raise
            log.warning("starting a new stream: %s", halt.detail, extra={"action": "stream_renewed"})
            checkpoint = replace(self._new_stream(tables, names - renewed), histories=found.histories)
            return lineage.begun(checkpoint, {OF_LOG})
        self._source.create_stream(tables)
        return replace(checkpoint, token=self._token)

    def _begun_anew(self) -> set[str]:
        """The pipelines that are to begin anew as a whole and have not begun."""
        asked = (s for s in self._signals if s.kind is SignalKind.RESYNC and s.table is None and s.started_at is None)
        return {signal.pipeline for signal in asked}

    def _new_stream(self, tables: list[TableName], others: set[str]) -> Checkpoint:
        """A new stream. `others` are pipelines that nobody asked to begin anew: what lies between their position and
        the new start is lost to them, so they are taken to have been at that start, where no shard of theirs is."""
        checkpoint = new_stream(self._source, self._name, tables)
        start = str(Position(checkpoint.confirmed))
        lanes = {f"{p.name}/{n}": start for p in self._pipelines if p.name in others for n in range(p.shards)}
        return replace(checkpoint, lanes=lanes, token=self._token)

    # -- what is told to the store and asked of it

    def _housekeeper(self, ready: Sequence[Ready], checkpoint: Checkpoint) -> Housekeeper:
        names = {entry.settings.name for entry in ready}
        return Housekeeper(
            self._store,
            self._at.lease,
            self._name,
            checkpoint,
            [signal for signal in self._signals if signal.pipeline in names],
            self._built_for(names),
            self.wanted,
            self.look_at_log,
            self._settings.capture.confirm_every_s,
            self._settings.state_dir,
        )

    def look_at_log(self, confirmed: str) -> Mapping[str, Any]:
        """What the source says of the log that it keeps for us. Raises Halt(log-limit) when it is to be given up."""
        return self._at.guard.look(self._source, confirmed, time.monotonic())


def _remembered(pipelines: Iterable[sections.Pipeline], records: Mapping[str, Records]) -> list[TableSchema]:
    """What trails have recorded and their rules still mean: nobody else asks for tables that are gone."""
    trails = [pipeline for pipeline in pipelines if is_trail(pipeline.name)]
    known = [record.version for trail in trails for name, record in records[trail.name].items() if carries(trail, name)]
    return [version for version in known if version is not None]
