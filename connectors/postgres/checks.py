"""What must hold of a database before a pipeline can write to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from connectors.base import Finding
from connectors.postgres.statements import TableSql, quote, quote_table
from connectors.postgres.target import load_target
from worker_sync.core.errors import Halt
from worker_sync.core.schema import TableSchema


def preflight(connection: Connection[Any], tables: Sequence[TableSchema], silent: bool) -> list[Finding]:
    """See `connectors.base.Sink.preflight`."""
    findings = [_version(connection), *_privileges(connection), _replica_role(connection, silent)]
    return findings + [_table(connection, table) for table in tables]


def _one(connection: Connection[Any], sql: str) -> tuple[Any, ...]:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def _version(connection: Connection[Any]) -> Finding:
    number, text = _one(
        connection, "SELECT current_setting('server_version_num')::int, current_setting('server_version')"
    )
    return Finding("server-version", number >= 140000, f"PostgreSQL {text}", "use PostgreSQL 14 or newer")


def _privileges(connection: Connection[Any]) -> list[Finding]:
    database, user, temporary, create, read_only = _one(
        connection,
        "SELECT current_database(), current_user, has_database_privilege(current_database(), 'TEMPORARY'), "
        "has_database_privilege(current_database(), 'CREATE') OR to_regclass('worker_sync.watermarks') IS NOT NULL, "
        "current_setting('transaction_read_only') = 'on'",
    )
    grant = "GRANT {} ON DATABASE " + f"{quote(database)} TO {quote(user)}"
    return [
        Finding("writable", not read_only, "read-only" if read_only else "accepts writes", "connect to the primary"),
        Finding("temporary-tables", temporary, f"role {user} stages large batches", grant.format("TEMPORARY")),
        Finding("watermark-table", create, f"role {user} keeps watermarks in worker_sync", grant.format("CREATE")),
    ]


def _replica_role(connection: Connection[Any], silent: bool) -> Finding:
    """Needed for tables with foreign keys or triggers only, so a missing right is not a failure by itself."""
    if silent:
        return Finding("replica-role", True, "foreign keys and triggers don't fire for applied changes")
    (user,) = _one(connection, "SELECT current_user")
    return Finding(
        "replica-role",
        True,
        f"role {user} may not set session_replication_role: triggers and cascades of the target fire for our writes",
        f"GRANT SET ON PARAMETER session_replication_role TO {quote(user)}",
    )


def _table(connection: Connection[Any], table: TableSchema) -> Finding:
    check = f"table {table.table}"
    target = load_target(connection, table.table)
    if target is None:
        return Finding(check, True, "will be created")
    try:
        TableSql(table, target)
    except Halt as halt:
        return Finding(check, False, halt.detail, halt.recovery)
    sql = "SELECT " + " AND ".join(
        f"has_table_privilege({target.oid}, '{right}')" for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
    )
    (allowed,) = _one(connection, sql)
    (user,) = _one(connection, "SELECT current_user")
    fix = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {quote_table(target.name)} TO {quote(user)}"
    return Finding(check, allowed, "exists" if allowed else f"role {user} may not write to it", fix)
