"""The table worker_sync.watermarks: how far each shard of each pipeline is applied to this database."""

from __future__ import annotations

import json
from typing import Any, Final

from psycopg import Connection

from connectors.base import Mark, SnapshotState
from worker_sync.core.change import Batch, SnapshotMark
from worker_sync.core.errors import Fenced, Halt, State
from worker_sync.core.parking import Parked, parked_text, parse_parked
from worker_sync.core.position import Position
from worker_sync.core.values import Key

#: One number for everybody who creates our objects in a database, so that two processes never race.
ADVISORY_LOCK: Final = 0x77735F73796E63

SCHEMA: Final = "worker_sync"

# A row is updated by every batch: the free space keeps its versions on one page, without index writes.
_CREATE: Final = """
CREATE SCHEMA IF NOT EXISTS worker_sync;
CREATE TABLE IF NOT EXISTS worker_sync.watermarks (
    pipeline     text        NOT NULL,
    shard        integer     NOT NULL,
    epoch        bigint      NOT NULL,
    position     text        NOT NULL,
    identity     text        NOT NULL,
    committed_at timestamptz,
    applied_at   timestamptz,
    changes      bigint      NOT NULL DEFAULT 0,
    batches      bigint      NOT NULL DEFAULT 0,
    snapshots    jsonb       NOT NULL DEFAULT '{}',
    parked       text        NOT NULL DEFAULT '',
    PRIMARY KEY (pipeline, shard)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
"""

_MARK: Final = """
    shard, epoch, position, identity,
    (extract(epoch FROM committed_at) * 1000000)::bigint, (extract(epoch FROM applied_at) * 1000000)::bigint,
    changes, batches, snapshots, parked
"""

#: An installation that began without parked keys lacks the column.
_HAS_PARKED: Final = """
SELECT EXISTS (SELECT FROM pg_attribute
               WHERE attrelid = 'worker_sync.watermarks'::regclass AND attname = 'parked' AND NOT attisdropped)
"""
_ADD_PARKED: Final = "ALTER TABLE worker_sync.watermarks ADD COLUMN IF NOT EXISTS parked text NOT NULL DEFAULT ''"

LOCK: Final = """
SELECT epoch, position, parked FROM worker_sync.watermarks WHERE pipeline = $1 AND shard = $2::int FOR UPDATE
"""

PARK: Final = "UPDATE worker_sync.watermarks SET parked = $3 WHERE pipeline = $1 AND shard = $2::int"

ADVANCE: Final = """
UPDATE worker_sync.watermarks
SET position = $3,
    committed_at = coalesce(timestamptz 'epoch' + $4::bigint * interval '1 microsecond', committed_at),
    applied_at = clock_timestamp(), changes = changes + $5::bigint, batches = batches + 1
WHERE pipeline = $1 AND shard = $2::int
"""

ADVANCE_SNAPSHOT: Final = """
UPDATE worker_sync.watermarks
SET position = $3, applied_at = clock_timestamp(), changes = changes + $4::bigint, batches = batches + 1,
    snapshots = snapshots || $5::jsonb
WHERE pipeline = $1 AND shard = $2::int
"""

_FENCE: Final = f"""
INSERT INTO worker_sync.watermarks AS w (pipeline, shard, epoch, position, identity)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (pipeline, shard) DO UPDATE SET epoch = EXCLUDED.epoch
WHERE w.epoch <= EXCLUDED.epoch AND w.identity = EXCLUDED.identity
RETURNING {_MARK}
"""

_MARKS: Final = f"SELECT {_MARK} FROM worker_sync.watermarks WHERE pipeline = $1 ORDER BY shard"


def _encode_part(value: Any) -> Any:
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def _decode_part(value: Any) -> Any:
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value


def encode_snapshot(mark: SnapshotMark) -> str:
    """The JSON object to merge into `snapshots`."""
    key = None if mark.last_key is None else [_encode_part(value) for value in mark.last_key]
    return json.dumps({mark.table: {"chunk": mark.chunk, "last_key": key, "done": mark.done}})


def _decode_snapshot(state: dict[str, Any]) -> SnapshotState:
    raw = state["last_key"]
    key: Key | None = None if raw is None else tuple(_decode_part(value) for value in raw)
    return SnapshotState(state["chunk"], key, state["done"])


def _mark(row: tuple[Any, ...]) -> Mark:
    _, epoch, position, identity, committed_at, applied_at, changes, batches, snapshots, parked = row
    states = {table: _decode_snapshot(state) for table, state in snapshots.items()}
    times = committed_at, applied_at
    return Mark(epoch, Position.parse(position), identity, *times, changes, batches, states, parse_parked(parked))


def create(connection: Connection[Any]) -> None:
    """Create what is missing. Two processes at once wait for each other."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock($1)", [ADVISORY_LOCK])
        # IF NOT EXISTS asks for the right to create even when nothing is to be created.
        if connection.execute("SELECT to_regclass('worker_sync.watermarks')").fetchone() == (None,):
            for statement in _CREATE.split(";"):
                connection.execute(statement)
        elif connection.execute(_HAS_PARKED).fetchone() == (False,):
            connection.execute(_ADD_PARKED)


def fence(connection: Connection[Any], pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
    """See `connectors.base.Sink.fence`."""
    row = connection.execute(_FENCE, [pipeline, shard, epoch, str(start), identity]).fetchone()
    if row is not None:
        return _mark(row)
    there = marks(connection, pipeline)[shard]
    if there.epoch > epoch:
        raise Fenced(f"{pipeline}/{shard} is at epoch {there.epoch}, this process has {epoch}")
    raise Halt(
        State.IDENTITY_CHANGED,
        f"{pipeline}/{shard} holds a position of source {there.identity}, now the source is {identity}",
        f"worker-sync resync {pipeline}",
    )


def held(connection: Connection[Any], pipeline: str, shard: int, epoch: int) -> Mark:
    """Lock a shard until the transaction's end, and return where it stands. Raises Fenced when it was fenced by another
    epoch since."""
    connection.execute(LOCK, [pipeline, str(shard)])
    mark = marks(connection, pipeline).get(shard)
    if mark is None or mark.epoch != epoch:
        there = "not there any more" if mark is None else f"at epoch {mark.epoch}"
        raise Fenced(f"{pipeline}/{shard} is {there}, this process has {epoch}")
    return mark


def marks(connection: Connection[Any], pipeline: str) -> dict[int, Mark]:
    """The marks of all shards of a pipeline, read without waiting for locks."""
    return {row[0]: _mark(row) for row in connection.execute(_MARKS, [pipeline])}


def forget(connection: Connection[Any], pipeline: str) -> None:
    """Remove the marks of a pipeline."""
    connection.execute("DELETE FROM worker_sync.watermarks WHERE pipeline = $1", [pipeline])


def park(connection: Connection[Any], pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
    """See `connectors.base.Sink.park`."""
    values = [pipeline, str(shard), parked_text(parked), str(epoch)]
    connection.execute(f"{PARK} AND epoch = $4::bigint", values)


def advance(batch: Batch, changes: int) -> tuple[str, list[Any]]:
    """The statement and parameters that move the shard's watermark to the end of `batch`."""
    head = [batch.pipeline, str(batch.shard), str(batch.upto)]
    if batch.snapshot is not None:
        return ADVANCE_SNAPSHOT, [*head, str(changes), encode_snapshot(batch.snapshot)]
    committed_at = batch.committed_at
    return ADVANCE, [*head, None if committed_at is None else str(committed_at), str(changes)]
