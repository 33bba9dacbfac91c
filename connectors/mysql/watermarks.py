"""The table worker_sync_watermarks: how far each shard of each pipeline is applied to this database."""

from __future__ import annotations

import json
from typing import Any, Final

import pymysql

from connectors.base import Mark, SnapshotState
from connectors.mysql.conn import Connection, is_mariadb, query
from connectors.mysql.ddl import exact_collation
from connectors.mysql.errors import code_of
from connectors.mysql.sql import text
from worker_sync.core.change import Batch, SnapshotMark
from worker_sync.core.errors import Fenced, Halt, State
from worker_sync.core.parking import Parked, parked_text, parse_parked
from worker_sync.core.position import Position
from worker_sync.core.values import Key

TABLE: Final = "worker_sync_watermarks"
_NO_SUCH_TABLE: Final = 1146
_NO_SUCH_COLUMN: Final = 1054
_DUPLICATE_COLUMN: Final = 1060

_CREATE: Final = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    pipeline     varchar(255) NOT NULL,
    shard        int          NOT NULL,
    epoch        bigint       NOT NULL,
    position     text         NOT NULL,
    identity     text         NOT NULL,
    committed_at datetime(6),
    applied_at   datetime(6),
    changes      bigint       NOT NULL,
    batches      bigint       NOT NULL,
    snapshots    longtext     NOT NULL,
    parked       longtext,
    PRIMARY KEY (pipeline, shard)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE {{collation}}
"""
_EPOCH: Final = "'1970-01-01 00:00:00'"
_MARK: Final = f"""
    shard, epoch, position, identity, TIMESTAMPDIFF(MICROSECOND, {_EPOCH}, committed_at),
    TIMESTAMPDIFF(MICROSECOND, {_EPOCH}, applied_at), changes, batches, snapshots, parked
"""


def _where(pipeline: str, shard: int) -> str:
    return f"WHERE pipeline = {text(pipeline)} AND shard = {shard}"


def lock(batch: Batch) -> str:
    """The statement that locks the shard's row: epoch, position, parked keys, snapshots."""
    columns = "epoch, position, parked" + (", snapshots" if batch.snapshot else "")
    return f"SELECT {columns} FROM {TABLE} {_where(batch.pipeline, batch.shard)} FOR UPDATE"


def advance(batch: Batch, changes: int, snapshots: str, parked: str | None = None) -> str:
    """The statement that moves the shard's watermark to the end of `batch`; `snapshots` is what the row held, `parked`
    the keys that it holds from now on (None: as before)."""
    sets = [
        f"position = {text(str(batch.upto))}",
        "applied_at = UTC_TIMESTAMP(6)",
        f"changes = changes + {changes}",
        "batches = batches + 1",
    ]
    if parked is not None:
        sets.append(f"parked = {text(parked)}")
    if batch.snapshot is not None:
        sets.append(f"snapshots = {text(_with_snapshot(snapshots, batch.snapshot))}")
    elif batch.committed_at is not None:
        sets.append(f"committed_at = {_EPOCH} + INTERVAL {batch.committed_at} MICROSECOND")
    return f"UPDATE {TABLE} SET {', '.join(sets)} {_where(batch.pipeline, batch.shard)}"


def create(connection: Connection) -> None:
    """Create what is missing; two processes at once are no harm."""
    connection.query(_CREATE.format(collation=exact_collation(is_mariadb(connection))))
    if _has_parked(connection):
        return
    try:
        connection.query(f"ALTER TABLE {TABLE} ADD COLUMN parked longtext")
    except pymysql.Error as error:
        if code_of(error) != _DUPLICATE_COLUMN:
            raise


def _has_parked(connection: Connection) -> bool:
    """An installation that began without parked keys lacks the column."""
    return bool(query(connection, f"SHOW COLUMNS FROM {TABLE} LIKE 'parked'"))


def is_old(error: BaseException) -> bool:
    """The error of a table that lacks the column for parked keys."""
    return isinstance(error, pymysql.Error) and code_of(error) == _NO_SUCH_COLUMN and "'parked'" in str(error)


def park(connection: Connection, pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
    """See `connectors.base.Sink.park`."""
    where = f"{_where(pipeline, shard)} AND epoch = {epoch}"
    connection.query(f"UPDATE {TABLE} SET parked = {text(parked_text(parked))} {where}")


def exists(connection: Connection) -> bool:
    """Whether the table is there."""
    sql = f"SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = {text(TABLE)}"
    return bool(query(connection, sql))


def fence(connection: Connection, pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
    """See `connectors.base.Sink.fence`."""
    values = f"{text(pipeline)}, {shard}, {epoch}, {text(str(start))}, {text(identity)}, 0, 0, '{{}}'"
    columns = "pipeline, shard, epoch, position, identity, changes, batches, snapshots"
    connection.begin()
    try:
        # Two fences of a new shard meet here: one waits for the other's row.
        connection.query(
            f"INSERT INTO {TABLE} ({columns}) VALUES ({values}) ON DUPLICATE KEY UPDATE pipeline = {TABLE}.pipeline"
        )
        sql = f"SELECT {_MARK} FROM {TABLE} {_where(pipeline, shard)} FOR UPDATE"
        there = _mark(query(connection, sql)[0])
        _check(pipeline, shard, epoch, identity, there)
        connection.query(f"UPDATE {TABLE} SET epoch = {epoch} {_where(pipeline, shard)}")
        mark = _mark(query(connection, sql)[0])
        connection.commit()
    except BaseException:
        if connection.open:
            connection.rollback()
        raise
    return mark


def _check(pipeline: str, shard: int, epoch: int, identity: str, there: Mark) -> None:
    if there.epoch > epoch:
        raise Fenced(f"{pipeline}/{shard} is at epoch {there.epoch}, this process has {epoch}")
    if there.identity != identity:
        raise Halt(
            State.IDENTITY_CHANGED,
            f"{pipeline}/{shard} holds a position of source {there.identity}, now the source is {identity}",
            f"worker-sync resync {pipeline}",
        )


def marks(connection: Connection, pipeline: str) -> dict[int, Mark]:
    """The marks of all shards of a pipeline, read without waiting for locks; none before `create`."""
    try:
        rows = query(connection, f"SELECT {_MARK} FROM {TABLE} WHERE pipeline = {text(pipeline)} ORDER BY shard")
    except pymysql.Error as error:
        if code_of(error) == _NO_SUCH_TABLE:
            return {}
        raise
    return {int(row[0]): _mark(row) for row in rows}


def forget(connection: Connection, pipeline: str) -> None:
    """Remove the marks of a pipeline."""
    connection.query(f"DELETE FROM {TABLE} WHERE pipeline = {text(pipeline)}")


def _mark(row: tuple[Any, ...]) -> Mark:
    _, epoch, position, identity, committed_at, applied_at, changes, batches, snapshots, parked = row
    states = {table: _decode(state) for table, state in json.loads(snapshots).items()}
    committed, applied = (None if value is None else int(value) for value in (committed_at, applied_at))
    return Mark(
        int(epoch),
        Position.parse(position),
        identity,
        committed,
        applied,
        int(changes),
        int(batches),
        states,
        parse_parked(parked),
    )


def _with_snapshot(snapshots: str, mark: SnapshotMark) -> str:
    key = None if mark.last_key is None else [_encode_part(value) for value in mark.last_key]
    return json.dumps(json.loads(snapshots) | {mark.table: {"chunk": mark.chunk, "last_key": key, "done": mark.done}})


def _encode_part(value: Any) -> Any:
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def _decode(state: dict[str, Any]) -> SnapshotState:
    raw = state["last_key"]
    parts = [bytes.fromhex(part["bytes"]) if isinstance(part, dict) else part for part in raw or ()]
    key: Key | None = None if raw is None else tuple(parts)
    return SnapshotState(state["chunk"], key, state["done"])
