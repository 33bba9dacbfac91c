"""Opens the targets of a session's pipelines and works out what of their tables is still to be copied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from connectors.base import Mark, Sink, Source
from worker_sync.capture.fence import Fence, Layout
from worker_sync.capture.fetcher import TableLoad
from worker_sync.capture.preparation import NO_RECORDS, create_target, open_target, target_function
from worker_sync.capture.routing import TargetOf
from worker_sync.capture.versions import Records, resolve
from worker_sync.core import markers
from worker_sync.core.change import SnapshotMark
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName
from worker_sync.core.sections import Pipeline, is_trail
from worker_sync.core.selection import Selected, select_known
from worker_sync.core.settings import Settings
from worker_sync.core.table_scope import scope_of
from worker_sync.store.signals import Signal, SignalKind
from worker_sync.store.versions import TableVersion


@dataclass(frozen=True, slots=True)
class Ready:
    """A pipeline whose target is open, fenced and complete.

    `selected`: its tables. `records`: which definitions of them the target has. `loads`: the tables to copy.
    `inherited`: finished snapshots that shards which are new here don't know of yet.
    """

    settings: Pipeline
    sink: Sink
    selected: list[Selected]
    records: Records
    target_of: TargetOf
    layout: Layout
    loads: list[TableLoad]
    inherited: list[SnapshotMark]


class Targets:
    """What it opens is closed by `stack`."""

    def __init__(self, settings: Settings, source: Source, fence: Fence, stack: ExitStack) -> None:
        self._settings = settings
        self._source = source
        self._fence = fence
        self._stack = stack

    def open(
        self,
        pipeline: Pipeline,
        selected: list[Selected],
        signals: Sequence[Signal],
        records: Records,
        save: Callable[[str, TableVersion], None],
    ) -> Ready:
        """Open the pipeline's target, fence its shards, and create what is missing there. `signals` are what people
        asked of this pipeline, `records` what is known of its tables, `save` writes that down. Raises Halt for what
        concerns this pipeline only."""
        sink = self._stack.enter_context(open_target(self._settings, pipeline))
        sink.prepare()
        anew = any(s.kind is SignalKind.RESYNC and s.table is None and s.started_at is None for s in signals)
        if anew:
            # While the marks are there: they tell how far an alteration came.
            records = self._resolved(pipeline, records, sink.marks(pipeline.name), save)
        layout = self._fence.pipeline(sink, pipeline, self._now() if anew else None)
        # Now that no older capture's batch can move them.
        records = self._resolved(pipeline, records, layout.before, save)
        create_target(self._source.home, sink, pipeline, selected, records)
        tables = [table.source.table for table in selected]
        loads = _loads(pipeline, tables, layout, signals)
        for load in loads:
            load.keyless = any(table.source.table == load.name and not table.source.key for table in selected)
        # At the end: while one of them is read, what other tables wait for would have to be kept in memory.
        loads.sort(key=lambda load: load.keyless)
        inherited = [] if layout.marks == layout.before else _inherited(tables, layout)
        pinned = records if pipeline.schema_changes == "ignore" else NO_RECORDS
        every = [*selected, *_dropped(pipeline, selected, records)]
        target_of = target_function(self._source.home, sink, every, pinned)
        if is_trail(pipeline.name):
            records = self._tell_scope(sink, pipeline, layout, every, records, save)
        return Ready(pipeline, sink, selected, records, target_of, layout, loads, inherited)

    def _resolved(
        self,
        pipeline: Pipeline,
        records: Records,
        marks: Mapping[int, Mark],
        save: Callable[[str, TableVersion], None],
    ) -> Records:
        resolved = resolve(records, marks[0].position if 0 in marks else None)
        for name, record in resolved.items():
            if record != records[name]:
                save(pipeline.name, record)
        return resolved

    def _tell_scope(
        self,
        sink: Sink,
        pipeline: Pipeline,
        layout: Layout,
        tables: Sequence[Selected],
        records: Records,
        save: Callable[[str, TableVersion], None],
    ) -> Records:
        """Let a trail say what it records from here on, and what of that was out of it; that is in it again then."""
        scopes = [scope_of(table) for table in tables]
        names = {scope.table for scope in scopes}
        back = {name: replace(found, absent=False) for name, found in records.items() if found.absent}
        back = {name: record for name, record in back.items() if str(name) in names}
        sink.record_scope(pipeline.name, layout.marks[0].epoch, scopes, [str(name) for name in back])
        for record in back.values():
            save(pipeline.name, record)
        return {**records, **back}

    def _now(self) -> Position:
        """Where a pipeline begins anew: what the log holds before is the snapshot's, however it came about. Without
        that a change that can't be applied would come again after every resync."""
        return Position(self._source.emit(markers.NUDGE, b""))


def _dropped(pipeline: Pipeline, selected: Sequence[Selected], records: Records) -> list[Selected]:
    """The tables of a trail that the source has no more. What the log holds of them is recorded all the same, also if
    it was read before and is read again."""
    if not is_trail(pipeline.name):
        return []
    there = {table.source.table for table in selected}
    gone = [record.version for name, record in records.items() if record.version is not None and name not in there]
    return select_known(pipeline, gone)


def _loads(
    pipeline: Pipeline, tables: Collection[TableName], layout: Layout, signals: Sequence[Signal]
) -> list[TableLoad]:
    loads = []
    for table in () if is_trail(pipeline.name) else tables:
        table_name = str(table)
        asked = next((s for s in signals if s.table is None or TableName.parse(s.table) == table), None)
        load = _load(table, layout.before.values(), asked)
        begun = any(table_name in mark.snapshots for mark in layout.before.values())
        if load is not None and (asked is not None or begun or pipeline.snapshot == "initial"):
            loads.append(load)
    return loads


def _load(table: TableName, marks: Collection[Mark], asked: Signal | None) -> TableLoad | None:
    """The load that a table needs, continued where the shard that is least far stands; None when it is loaded."""
    states = [mark.snapshots.get(str(table)) for mark in marks]
    if asked is None and all(state is not None and state.done for state in states):
        return None
    sweep = asked is not None and asked.kind is SignalKind.RESYNC
    signal = None if asked is None else asked.id
    known = [state for state in states if state is not None and not state.done]
    if len(known) < len(states) or (asked is not None and asked.started_at is None):
        return TableLoad(table, signal, sweep=sweep)
    least = min(known, key=lambda state: state.chunk)
    return TableLoad(table, signal, chunk=least.chunk, last_key=least.last_key, sweep=sweep)


def _inherited(tables: Collection[TableName], layout: Layout) -> list[SnapshotMark]:
    found = []
    for table in tables:
        states = [mark.snapshots.get(str(table)) for mark in layout.before.values()]
        last = states[0]
        if last is not None and all(state is not None and state.done for state in states):
            found.append(SnapshotMark(str(table), last.chunk, last.last_key, True))
    return found
