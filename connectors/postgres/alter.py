"""Gives an existing target table the columns of a later version, inside the caller's transaction.

Every step looks at what the table has: what is done already is left alone.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import Connection

from connectors.postgres.ddl import ENGINE, ensure_type, type_name
from connectors.postgres.errors import one_line, translate
from connectors.postgres.statements import quote, quote_table
from connectors.postgres.target import TargetTable, require_target
from worker_sync.core.alteration import Alteration
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.schema import Column, Kind, Type


def alter_table(connection: Connection[Any], change: Alteration) -> None:
    """Raises Halt(schema-mismatch) when the table can't follow, psycopg.Error for what may pass by itself."""
    try:
        _alter(connection, change)
    except psycopg.Error as error:
        if isinstance(translate(error, ""), Transient):
            raise
        recovery = "mend the table in the target, then worker-sync resume PIPELINE"
        raise Halt(State.SCHEMA_MISMATCH, f"{change}; the target refuses it: {one_line(error)}", recovery) from error


def _alter(connection: Connection[Any], change: Alteration) -> None:
    target = require_target(connection, change.after.table)
    for name in change.dropped:
        if name in target.columns:
            _run(connection, target, f"DROP COLUMN {quote(name)}")
    for old, new in change.renamed.items():
        _rename(connection, target, old, new)
    there = set(target.columns) - set(change.dropped) | set(change.renamed.values())
    for column in change.after.columns:
        if column.name not in there:
            ensure_type(connection, change.after, column.type)
            type_ = type_name(column.type, change.after.engine)
            _run(connection, target, f"ADD COLUMN {quote(column.name)} {type_}")
    for name in change.loosened:
        _run(connection, target, f"ALTER COLUMN {quote(name)} DROP NOT NULL")
    for column in change.retyped:
        _retype(connection, target, change, column)


def _run(connection: Connection[Any], target: TargetTable, action: str) -> None:
    connection.execute(f"ALTER TABLE {quote_table(target.name)} {action}")


def _rename(connection: Connection[Any], target: TargetTable, old: str, new: str) -> None:
    if old in target.columns and new in target.columns:
        detail = f"{old} of {target.name} is to be renamed {new}, and the target has both"
        raise Halt(State.SCHEMA_MISMATCH, detail, "drop one of them, then worker-sync resume PIPELINE")
    if old in target.columns:
        _run(connection, target, f"RENAME COLUMN {quote(old)} TO {quote(new)}")
    elif new not in target.columns:
        raise Halt(State.SCHEMA_MISMATCH, f"{target.name} has neither {old} nor {new}", "add the column")


def _retype(connection: Connection[Any], target: TargetTable, change: Alteration, column: Column) -> None:
    engine = change.after.engine
    if engine == ENGINE and column.type.kind is Kind.ENUM:
        _add_labels(connection, column.type)
    ensure_type(connection, change.after, column.type)
    wanted = type_name(column.type, engine)
    old = next((was for was, now in change.renamed.items() if now == column.name), column.name)
    there = target.columns.get(column.name) or target.columns.get(old)
    if there is not None and there.type == wanted:
        return
    name = quote(column.name)
    try:
        with connection.transaction():
            _run(connection, target, f"ALTER COLUMN {name} TYPE {wanted} USING {name}::text::{wanted}")
    except psycopg.DataError:
        if column.name in change.after.key:
            raise
        # How the source converted its values is not known here: its rows are copied again.
        _run(connection, target, f"ALTER COLUMN {name} DROP NOT NULL, ALTER COLUMN {name} TYPE {wanted} USING NULL")


def _add_labels(connection: Connection[Any], type_: Type) -> None:
    row = connection.execute("SELECT to_regtype($1) IS NOT NULL", [type_.native]).fetchone()
    if row is not None and row[0]:
        for label in type_.labels:
            text = label.replace("'", "''")
            connection.execute(f"ALTER TYPE {type_.native} ADD VALUE IF NOT EXISTS '{text}'")
