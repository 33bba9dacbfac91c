"""Gives an existing target table the columns of a later version, over a connection that holds no watermark.

A change of a definition commits whatever its connection has open. Every step looks at what the table has: what is done
already is left alone.
"""

from __future__ import annotations

import msgspec
import pymysql

from connectors.mysql.catalog import TableInfo, load_table
from connectors.mysql.conn import Connection
from connectors.mysql.ddl import column_definition
from connectors.mysql.errors import one_line, translate
from connectors.mysql.sql import flat, quote
from worker_sync.core.alteration import Alteration
from worker_sync.core.errors import Halt, State, TargetRejected, Transient
from worker_sync.core.schema import Column


def alter_table(connection: Connection, database: str, change: Alteration) -> None:
    """Raises Halt(schema-mismatch) when the table can't follow, pymysql.Error for what may pass by itself."""
    try:
        _alter(connection, database, change)
    except pymysql.Error as error:
        if isinstance(translate(error, ""), Transient):
            raise
        recovery = "mend the table in the target, then worker-sync resume PIPELINE"
        raise Halt(State.SCHEMA_MISMATCH, f"{change}; the target refuses it: {one_line(error)}", recovery) from error


def _alter(connection: Connection, database: str, change: Alteration) -> None:
    info = _require(connection, database, change)
    there = {column.name for column in info.columns}
    actions = [f"DROP COLUMN {quote(name)}" for name in change.dropped if name in there]
    for old, new in change.renamed.items():
        actions += _rename(info, there, old, new)
    there = there - set(change.dropped) | set(change.renamed.values())
    for column in change.after.columns:
        if column.name not in there:
            actions.append(f"ADD COLUMN {_definition(connection, change, column, nullable=True)}")
    _run(connection, info, actions)
    info = _require(connection, database, change)
    for name in change.loosened:
        _run(connection, info, _loosen(info, name))
    for column in change.retyped:
        _retype(connection, info, change, column)


def _require(connection: Connection, database: str, change: Alteration) -> TableInfo:
    info = load_table(connection, database, flat(change.after.table).name)
    if info is None:
        raise Halt(
            State.SCHEMA_MISMATCH,
            f"the target has no table {change.after.table}",
            f"create table {change.after.table} in the target, then worker-sync resume PIPELINE",
        )
    return info


def _run(connection: Connection, info: TableInfo, actions: list[str]) -> None:
    if actions:
        connection.query(f"ALTER TABLE {quote(info.name)} {', '.join(actions)}")


def _definition(connection: Connection, change: Alteration, column: Column, nullable: bool) -> str:
    return column_definition(connection, change.after, msgspec.structs.replace(column, nullable=nullable))


def _rename(info: TableInfo, there: set[str], old: str, new: str) -> list[str]:
    if old in there and new in there:
        detail = f"{old} of {info.name} is to be renamed {new}, and the target has both"
        raise Halt(State.SCHEMA_MISMATCH, detail, "drop one of them, then worker-sync resume PIPELINE")
    if old not in there and new not in there:
        raise Halt(State.SCHEMA_MISMATCH, f"{info.name} has neither {old} nor {new}", "add the column")
    return [f"RENAME COLUMN {quote(old)} TO {quote(new)}"] if old in there else []


def _loosen(info: TableInfo, name: str) -> list[str]:
    column = next((column for column in info.columns if column.name == name), None)
    if column is None or column.nullable:
        return []
    return [f"MODIFY COLUMN {quote(name)} {column.type.native} NULL"]


def _retype(connection: Connection, info: TableInfo, change: Alteration, column: Column) -> None:
    was = next((found for found in info.columns if found.name == column.name), None)
    nullable = was is None or was.nullable
    try:
        _run(connection, info, [f"MODIFY COLUMN {_definition(connection, change, column, nullable)}"])
    except pymysql.Error as error:
        if column.name in change.after.key or not isinstance(translate(error, ""), TargetRejected):
            raise
        # How the source converted its values is not known here: its rows are copied again.
        added = _definition(connection, change, column, nullable=True)
        _run(connection, info, [f"DROP COLUMN {quote(column.name)}", f"ADD COLUMN {added}"])
