"""Brings a source and its targets to the state in which a session can begin, or says in a named state why not.

Both `worker-sync init` and every start of a capture run this; what is there already is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from connectors.base import Sink, Source
from connectors.registry import open_sink
from worker_sync.capture.routing import Route, TargetOf
from worker_sync.capture.versions import Records, carried
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.sections import Pipeline
from worker_sync.core.selection import Selected
from worker_sync.core.selection import names as is_named
from worker_sync.core.settings import Settings
from worker_sync.store.checkpoints import Checkpoint
from worker_sync.store.versions import TableVersion

NO_RECORDS: Final[Records] = {}
_RESYNC: Final = "worker-sync resync PIPELINE"


def choose_tables(
    settings: Settings, source: Source, pipelines: Sequence[Pipeline], records: Mapping[str, Records]
) -> dict[str, list[Selected]]:
    """The tables of each pipeline; `records` are what is known of those that it carried before. Raises ConfigError for
    names that match nothing."""
    tables = source.tables()
    return {
        pipeline.name: chosen_of(pipeline, settings.select(pipeline, tables), records[pipeline.name])
        for pipeline in pipelines
    }


def chosen_of(pipeline: Pipeline, selected: Sequence[Selected], records: Records) -> list[Selected]:
    """Those of the tables that the pipeline's rules mean that it takes; see `carried`."""
    names = [table.source.table for table in selected]
    taken = carried(pipeline.schema_changes, records, names, lambda name: is_named(pipeline, name))
    return [table for table in selected if table.source.table in taken]


def all_tables(chosen: dict[str, list[Selected]]) -> list[TableName]:
    """What the source's stream must deliver."""
    return sorted({table.source.table for selected in chosen.values() for table in selected})


# -- the source's stream


def check_identity(source: Source, checkpoint: Checkpoint) -> None:
    """Raises Halt when the checkpoint is of another server."""
    identity = source.identity()
    if identity != checkpoint.identity:
        raise Halt(
            State.IDENTITY_CHANGED,
            f"the source was {checkpoint.identity} and is {identity} now",
            "point the URL at the right server, then worker-sync resume PIPELINE; or, to start anew from this one, "
            + _RESYNC,
        )


def check_stream(source: Source, checkpoint: Checkpoint) -> None:
    """Raises Halt when the source can't continue exactly where the checkpoint is: its stream is gone, was invalidated,
    or moved on without us."""
    status = source.stream_status(checkpoint.confirmed)
    if not status.exists:
        raise Halt(State.SLOT_MISSING, "the source's stream was dropped", _RESYNC)
    if status.lost:
        raise lacks_changes(status.lost)
    if status.confirmed > checkpoint.confirmed:
        raise Halt(
            State.POSITION_LOST,
            f"the source's stream stands at {status.confirmed}, but only {checkpoint.confirmed} was confirmed",
            _RESYNC,
        )


def lacks_changes(why: str) -> Halt:
    return Halt(State.SLOT_INVALIDATED, f"the source's stream lacks changes: {why}", _RESYNC)


def new_stream(source: Source, name: str, tables: Sequence[TableName]) -> Checkpoint:
    """Create the source's stream, replacing one that can't be continued, and begin at its start."""
    status = source.stream_status()
    if status.exists and status.lost:
        source.drop_stream()
    start = source.create_stream(tables)
    return Checkpoint(name, source.identity(), start.commit, {}, 0)


# -- the targets


def target_function(home: str, sink: Sink, selected: Sequence[Selected], pinned: Records = NO_RECORDS) -> TargetOf:
    """How the selected tables are called and what they hold in the target; `home` is that of the source. Of a table
    that is `pinned`, columns that its recorded version lacks stay behind."""
    by_name = {table.source.table: table for table in selected}

    def target_of(schema: TableSchema) -> Route | None:
        table = by_name.get(schema.table)
        if table is None:
            return None
        shaper = table.shape.without(_unknown(schema, pinned.get(schema.table))).compile(schema)
        shaped = schema if shaper is None else shaper.table
        named = shaped if sink.keeps_namespaces else _at_home(shaped, home)
        return Route(schema, sink.map_table(named, table.to), shaper)

    return target_of


def _unknown(schema: TableSchema, record: TableVersion | None) -> list[str]:
    if record is None or record.version is None:
        return []
    unknown = [name for name in schema.column_names if name not in record.version.column_names]
    if not set(unknown).isdisjoint(schema.key):
        detail = f"the key of {schema.table} is ({', '.join(schema.key)}) now"
        recovery = "worker-sync resync PIPELINE, or set schema_changes: apply"
        raise Halt(State.SCHEMA_CHANGED, detail, recovery)
    return unknown


def _at_home(schema: TableSchema, home: str) -> TableSchema:
    if schema.table.namespace != home:
        return schema
    return msgspec.structs.replace(schema, table=TableName("", schema.table.name))


def open_target(settings: Settings, pipeline: Pipeline) -> Sink:
    database = settings.database(pipeline.target)
    return open_sink(database.name, database.url.reveal())


def create_target(
    home: str, sink: Sink, pipeline: Pipeline, selected: Sequence[Selected], records: Records
) -> list[TableName]:
    """Create the place for watermarks and (unless the pipeline says no) the missing tables; returns those. A table is
    created as it is recorded: the log behind has rows of that definition."""
    sink.prepare()
    if not pipeline.create_tables:
        return []
    target_of = target_function(home, sink, selected)
    created = []
    for table in selected:
        record = records.get(table.source.table)
        route = target_of(_expected(pipeline, table.source, record))
        if route is not None and _create(sink, route, halfway=_is_halfway(pipeline, record)):
            created.append(route.target.table)
    return created


def _expected(pipeline: Pipeline, source: TableSchema, record: TableVersion | None) -> TableSchema:
    """The definition that the target should have: the recorded one, or the one that a person has made there."""
    if record is None:
        return source
    consented = record.next if pipeline.schema_changes == "halt" else None
    return consented or record.version or source


def _is_halfway(pipeline: Pipeline, record: TableVersion | None) -> bool:
    """An alteration was under way; where it can't be undone the target may have it."""
    return pipeline.schema_changes == "apply" and record is not None and record.next is not None


def _create(sink: Sink, route: Route, *, halfway: bool) -> bool:
    try:
        return sink.create_table(route.target)
    except Halt as halt:
        if halfway and halt.state is State.SCHEMA_MISMATCH:
            return False
        raise
