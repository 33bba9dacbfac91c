"""Brings a source and its targets to the state in which a session can begin, or says in a named state why not.

Both `worker-sync init` and every start of a capture run this; what is there already is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.base import Sink, Source
from connectors.registry import open_sink
from worker_sync.capture.routing import Route, TargetOf, make_route
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.selection import Selected
from worker_sync.core.settings import Pipeline, Settings
from worker_sync.store.checkpoints import Checkpoint

_RESYNC = "worker-sync resync PIPELINE"


def choose_tables(settings: Settings, source: Source, pipelines: Sequence[Pipeline]) -> dict[str, list[Selected]]:
    """The tables of each pipeline. Raises ConfigError for names that match nothing, Halt for tables without a key."""
    tables = source.tables()
    chosen = {pipeline.name: settings.select(pipeline, tables) for pipeline in pipelines}
    keyless = sorted({str(s.source.table) for selected in chosen.values() for s in selected if not s.source.key})
    if keyless:
        raise Halt(
            State.TABLE_UNSUPPORTED,
            f"{', '.join(keyless)} has no key that identifies its rows",
            "ALTER TABLE ... ADD PRIMARY KEY, or name the other tables in the pipeline, then start again",
        )
    return chosen


def all_tables(chosen: dict[str, list[Selected]]) -> list[TableName]:
    """What the source's stream must deliver."""
    return sorted({table.source.table for selected in chosen.values() for table in selected})


# -- the source's stream


def check_stream(source: Source, checkpoint: Checkpoint) -> None:
    """Raises Halt when the source can't continue exactly where the checkpoint is: another server, or a stream that is
    gone, was invalidated, or moved on without us."""
    identity = source.identity()
    if identity != checkpoint.identity:
        raise Halt(
            State.IDENTITY_CHANGED,
            f"the source was {checkpoint.identity} and is {identity} now",
            "point the URL at the right server, then worker-sync resume PIPELINE; or, to start anew from this one, "
            + _RESYNC,
        )
    status = source.stream_status(checkpoint.confirmed)
    if not status.exists:
        raise Halt(State.SLOT_MISSING, "the source's stream was dropped", _RESYNC)
    if status.lost:
        raise Halt(State.SLOT_INVALIDATED, f"the source dropped log that we need: {status.lost}", _RESYNC)
    if status.confirmed > checkpoint.confirmed:
        raise Halt(
            State.POSITION_LOST,
            f"the source's stream stands at {status.confirmed}, but only {checkpoint.confirmed} was confirmed",
            _RESYNC,
        )


def new_stream(source: Source, name: str, tables: Sequence[TableName]) -> Checkpoint:
    """Create the source's stream, replacing one that can't be continued, and begin at its start."""
    status = source.stream_status()
    if status.exists and status.lost:
        source.drop_stream()
    start = source.create_stream(tables)
    return Checkpoint(name, source.identity(), start.commit, {}, 0)


# -- the targets


def target_function(home: str, sink: Sink, selected: Sequence[Selected]) -> TargetOf:
    """How the selected tables are called and what they hold in the target; `home` is that of the source."""
    by_name = {table.source.table: table for table in selected}

    def target_of(schema: TableSchema) -> Route | None:
        table = by_name.get(schema.table)
        if table is None:
            return None
        return make_route(schema, sink.map_table(_at_home(schema, home), table.to), table.excluded)

    return target_of


def _at_home(schema: TableSchema, home: str) -> TableSchema:
    if schema.table.namespace != home:
        return schema
    return msgspec.structs.replace(schema, table=TableName("", schema.table.name))


def open_target(settings: Settings, pipeline: Pipeline) -> Sink:
    database = settings.database(pipeline.target)
    return open_sink(database.name, database.url.reveal())


def create_target(home: str, sink: Sink, pipeline: Pipeline, selected: Sequence[Selected]) -> list[TableName]:
    """Create the place for watermarks and (unless the pipeline says no) the missing tables; returns those."""
    sink.prepare()
    if not pipeline.create_tables:
        return []
    target_of = target_function(home, sink, selected)
    routes = [route for table in selected if (route := target_of(table.source)) is not None]
    return [route.target.table for route in routes if sink.create_table(route.target)]
