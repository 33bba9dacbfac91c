"""Creates target tables from the schemas of their sources. Foreign keys, defaults and sequences are never created."""

from __future__ import annotations

from typing import Any, Final

from psycopg import Connection, errors

from connectors.postgres.statements import TableSql, quote, quote_table
from connectors.postgres.target import load_target
from connectors.postgres.watermarks import ADVISORY_LOCK
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Kind, TableSchema, Type

ENGINE: Final = "postgresql"

_FIXED: Final = {
    Kind.BOOL: "boolean",
    Kind.TEXT: "text",
    Kind.ENUM: "text",
    Kind.BYTES: "bytea",
    Kind.UUID: "uuid",
    Kind.DATE: "date",
    # jsonb would change numbers, drop doubled names and reorder the rest.
    Kind.JSON: "json",
    Kind.NATIVE: "text",
}
_TEMPORAL: Final = {
    Kind.TIME: "time{}",
    Kind.TIMETZ: "time{} with time zone",
    Kind.TIMESTAMP: "timestamp{}",
    Kind.TIMESTAMPTZ: "timestamp{} with time zone",
    Kind.INTERVAL: "interval{}",
}


def type_name(type_: Type, engine: str) -> str:
    """The SQL name of the type that holds every value of `type_`."""
    if engine == ENGINE and type_.native:
        return type_.native
    if type_.kind in _FIXED:
        return _FIXED[type_.kind]
    if type_.kind in _TEMPORAL:
        # PostgreSQL keeps six digits at most.
        precise = type_.precision is not None and type_.precision < 6
        return _TEMPORAL[type_.kind].format(f"({type_.precision})" if precise else "")
    if type_.kind is Kind.ARRAY:
        return f"{type_name(type_.element, engine) if type_.element else 'text'}[]"
    return _sized(type_)


def _sized(type_: Type) -> str:
    match type_.kind:
        case Kind.INT:
            return _integer((type_.size or 64) + (1 if type_.unsigned else 0))
        case Kind.FLOAT:
            return "real" if type_.size is not None and type_.size <= 32 else "double precision"
        case Kind.DECIMAL:
            return "numeric" if type_.precision is None else f"numeric({type_.precision},{type_.scale or 0})"
        case Kind.BIT:
            return "bit varying" if type_.size is None else f"bit({type_.size})"
        case _:
            raise AssertionError(type_.kind)


def _integer(bits: int) -> str:
    for size, name in ((16, "smallint"), (32, "integer"), (64, "bigint")):
        if bits <= size:
            return name
    return "numeric(20,0)"


def create_table(connection: Connection[Any], table: TableSchema) -> bool:
    """See `connectors.base.Sink.create_table`. Two processes at once wait for each other."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock($1)", [ADVISORY_LOCK])
        target = load_target(connection, table.table)
        if target is not None:
            TableSql(table, target)
            return False
        _ensure_schema(connection, table.table.namespace)
        for column in table.columns:
            ensure_type(connection, table, column.type)
        connection.execute(_create(table))
        return True


def _ensure_schema(connection: Connection[Any], name: str) -> None:
    # IF NOT EXISTS would ask for the right to create one even when it is there.
    if connection.execute("SELECT FROM pg_namespace WHERE nspname = $1", [name]).fetchone() is None:
        connection.execute(f"CREATE SCHEMA {quote(name)}")


def _create(table: TableSchema) -> str:
    columns = [
        f"{quote(column.name)} {type_name(column.type, table.engine)}{'' if column.nullable else ' NOT NULL'}"
        for column in table.columns
    ]
    if table.key:
        columns.append(f"PRIMARY KEY ({', '.join(map(quote, table.key))})")
    return f"CREATE TABLE {quote_table(table.table)} ({', '.join(columns)})"


def ensure_type(connection: Connection[Any], table: TableSchema, type_: Type) -> None:
    """Create a missing enum; any other missing type is for a person to bring (an extension, mostly)."""
    if table.engine != ENGINE or not type_.native:
        return
    element = type_.element if type_.kind is Kind.ARRAY and type_.element else type_
    if _exists(connection, element.native):
        _check_labels(connection, table, element)
    elif element.kind is Kind.ENUM:
        _create_enum(connection, element)
    else:
        raise Halt(
            State.SCHEMA_MISMATCH,
            f"the target has no type {element.native}, which {table.table} needs",
            "create the type, or the extension that brings it (CREATE EXTENSION ...), in the target",
        )


def _exists(connection: Connection[Any], name: str) -> bool:
    try:
        with connection.transaction():
            row = connection.execute("SELECT to_regtype($1) IS NOT NULL", [name]).fetchone()
    except (errors.SyntaxError, errors.InvalidSchemaName):
        return False
    return row is not None and bool(row[0])


def _create_enum(connection: Connection[Any], type_: Type) -> None:
    labels = ", ".join("'" + label.replace("'", "''") + "'" for label in type_.labels)
    row = connection.execute("SELECT parse_ident($1)", [type_.native]).fetchone()
    assert row is not None
    parts = row[0]
    if len(parts) > 1:
        _ensure_schema(connection, parts[0])
    connection.execute(f"CREATE TYPE {'.'.join(map(quote, parts))} AS ENUM ({labels})")


_LABELS: Final = "SELECT enumlabel::text FROM pg_enum WHERE enumtypid = to_regtype($1)"


def _check_labels(connection: Connection[Any], table: TableSchema, type_: Type) -> None:
    if type_.kind is not Kind.ENUM:
        return
    there = {row[0] for row in connection.execute(_LABELS, [type_.native])}
    missing = [label for label in type_.labels if label not in there]
    if missing:
        label = missing[0].replace("'", "''")
        raise Halt(
            State.SCHEMA_MISMATCH,
            f"type {type_.native} of the target lacks {len(missing)} labels that {table.table} needs",
            f"ALTER TYPE {type_.native} ADD VALUE '{label}'" + ("; and the others" if missing[1:] else ""),
        )
