"""What the commands work with: the settings with real addresses, connections that are opened when asked for and closed
at the end."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Self

from connectors.base import Sink, Source, TableReader
from connectors.registry import open_sink, open_source
from worker_sync.capture.preparation import (
    all_tables,
    choose_tables,
    chosen_of,
    create_target,
    new_stream,
    target_function,
)
from worker_sync.capture.routing import Route
from worker_sync.capture.versions import Records
from worker_sync.core.errors import Halt, WorkerSyncError
from worker_sync.core.errors import State as HaltState
from worker_sync.core.parking import Parked
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.secrets import Url
from worker_sync.core.sections import LEDGER, Pipeline
from worker_sync.core.selection import Selected
from worker_sync.core.settings import Settings
from worker_sync.embedded import EmbeddedServers
from worker_sync.store import ControlStore
from worker_sync.store.errors import NotInitialized
from worker_sync.store.pipelines import Status
from worker_sync.store.versions import TableVersion
from worker_sync.verification import ShapedReader, Shaping, TablePair, Waiter

#: Table that a source has, its route to the target.
Routed = list[Route]


class Workspace:
    """Everything a command needs of one configuration. Used by one thread; `close` gives all back.

    A second thread may close it too (a worker whose grace is over). Who comes second returns when all is given back,
    not before: the process ends next, and would leave embedded servers running.
    """

    def __init__(self, settings: Settings) -> None:
        self._stack = ExitStack()
        self._closing = threading.Lock()
        self._given = settings
        self._sources: dict[str, Source] = {}
        self._tables: dict[str, list[TableSchema]] = {}
        self._sinks: dict[str, Sink] = {}
        self._records: dict[str, Records] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._closing:
            self._stack.close()

    @cached_property
    def servers(self) -> EmbeddedServers:
        """The embedded servers of the state directory, of which this process becomes a user."""
        return self._stack.enter_context(EmbeddedServers(Path(self._given.state_dir)))

    @cached_property
    def settings(self) -> Settings:
        """The settings with the addresses of embedded servers in place of what was left out."""
        found = {}
        if self._given.control is None:
            found["control"] = Url(self.servers.postgres())
        if self._given.broker is None:
            found["broker"] = Url(self.servers.redis())
        return self._given.model_copy(update=found)

    @property
    def given_broker(self) -> Url | None:
        """The broker that the configuration names; None for the embedded one."""
        return self._given.broker

    @property
    def broker(self) -> Url:
        """Where the broker is."""
        assert self.settings.broker is not None
        return self.settings.broker

    @cached_property
    def store(self) -> ControlStore:
        """The control store."""
        assert self.settings.control is not None
        return self._stack.enter_context(ControlStore(self.settings.control))

    def source(self, name: str) -> Source:
        """The source database called `name`."""
        if name not in self._sources:
            url = self._given.source(name).url.reveal()
            self._sources[name] = self._stack.enter_context(open_source(name, url))
        return self._sources[name]

    def sink(self, name: str) -> Sink:
        """The target database called `name`."""
        if name not in self._sinks:
            self._sinks[name] = self.own_sink(name)
        return self._sinks[name]

    def own_sink(self, name: str) -> Sink:
        """A connection of its own to the target called `name`, for another thread."""
        settings = self.settings if name == LEDGER else self._given
        return self._stack.enter_context(open_sink(name, settings.database(name).url.reveal()))

    def tables(self, source: str) -> list[TableSchema]:
        """The source's tables, asked once."""
        if source not in self._tables:
            self._tables[source] = self.source(source).tables()
        return self._tables[source]

    def records(self, pipeline: str) -> Records:
        """What is known of a pipeline's tables; nothing before `init`."""
        if pipeline not in self._records:
            try:
                self._records[pipeline] = self.store.versions.of(pipeline)
            except NotInitialized:
                return {}
        return self._records[pipeline]

    def selected(self, pipeline: Pipeline) -> list[Selected]:
        """The tables that a pipeline carries. Raises ConfigError for names that aren't there."""
        tables = self._given.select(pipeline, self.tables(pipeline.source))
        return chosen_of(pipeline, tables, self.records(pipeline.name))

    def routes(self, pipeline: Pipeline) -> Routed:
        """The tables that a pipeline carries, each with its target. Raises ConfigError for names that aren't there."""
        chosen = self.selected(pipeline)
        pinned = self.records(pipeline.name) if pipeline.schema_changes == "ignore" else {}
        target_of = target_function(self.source(pipeline.source).home, self.sink(pipeline.target), chosen, pinned)
        return [route for table in chosen if (route := target_of(table.source)) is not None]

    def source_tables(self, source: str) -> list[TableName]:
        """The tables of a source that any pipeline carries, in name order."""
        names = {
            chosen.source.table for pipeline in self._given.pipelines_from(source) for chosen in self.selected(pipeline)
        }
        return sorted(names)

    # -- what has to exist

    def create_target(self, pipeline: Pipeline) -> list[TableName]:
        """Create the place of watermarks and missing tables; returns the tables that were created."""
        chosen, home = self.selected(pipeline), self.source(pipeline.source).home
        records = self.records(pipeline.name)
        created = create_target(home, self.sink(pipeline.target), pipeline, chosen, records)
        if not records and self.store.checkpoints.load(pipeline.source) is None:
            # The stream begins after this: whatever it brings is not older.
            found = [TableVersion(table.source.table, table.source) for table in chosen]
            self.store.versions.save_all(pipeline.name, found, token=0)
        return created

    def create_stream(self, name: str) -> bool:
        """Create a source's stream unless it was created before; True when it was created now.

        One that was is its capture's: only there is known whether a person asked to begin anew.
        """
        if self.store.checkpoints.load(name) is not None:
            return False
        source = self.source(name)
        pipelines = self._given.pipelines_from(name)
        records = {pipeline.name: self.records(pipeline.name) for pipeline in pipelines}
        tables = all_tables(choose_tables(self._given, source, pipelines, records))
        self.store.checkpoints.save(new_stream(source, name, tables))
        return True

    # -- is it applied, is it the same

    def waiter(self, pipeline: Pipeline, stop: threading.Event | None = None) -> Waiter:
        """Waits for a pipeline; raises Halt as soon as it stands in a named state. `stop` ends a wait early."""
        copied = [str(chosen.source.table) for chosen in self.selected(pipeline)]
        return Waiter(
            pipeline.name,
            self.source(pipeline.source),
            self.sink(pipeline.target),
            pipeline.shards,
            tables=copied if pipeline.snapshot == "initial" else (),
            check=lambda: self.check_running(pipeline.name),
            stop=stop,
        )

    def parked(self, pipeline: Pipeline) -> Parked:
        """The keys of a pipeline whose changes are parked, by what its target says."""
        marks = self.sink(pipeline.target).marks(pipeline.name)
        return frozenset(key for mark in marks.values() for key in mark.parked)

    def check_running(self, pipeline: str) -> None:
        """Raises Halt for a halted pipeline, WorkerSyncError for a paused one."""
        standing = self.store.pipelines.get(pipeline)
        if standing.status is Status.HALTED:
            raise Halt(HaltState(standing.reason), standing.detail, standing.recovery)
        if standing.status is Status.PAUSED:
            raise WorkerSyncError(f"{pipeline} is paused; run `worker-sync resume {pipeline}`")

    def source_reader(self, pipeline: Pipeline) -> TableReader:
        """A reader of the source's rows as they travel to the pipeline's target."""
        chosen = self._given.select(pipeline, self.tables(pipeline.source))
        shapings = {table.source.table: Shaping(table.source, table.shape) for table in chosen}
        return ShapedReader(self.source(pipeline.source).reader(), shapings)

    def pairs(self, pipeline: Pipeline) -> list[TablePair]:
        """What a comparison of the pipeline's two sides reads."""
        return [TablePair(_as_it_travels(route), route.target) for route in self.routes(pipeline)]


def _as_it_travels(route: Route) -> TableSchema:
    """The source table under its own name with the columns that travel."""
    source, target = route.source, route.target
    return TableSchema(source.table, target.columns, target.key, source.engine)
