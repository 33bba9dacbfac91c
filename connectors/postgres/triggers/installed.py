"""What of audit triggers a database has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.base import StreamStatus
from connectors.postgres.errors import translate
from connectors.postgres.triggers.names import LOCK, ROW_TRIGGER, TRUNCATE_TRIGGER, VERSION, install_command
from worker_sync.core.errors import Halt, State, WorkerSyncError
from worker_sync.core.schema import TableName

_FUNCTION: Final = "worker_sync_audit.record()"

# Every partition has the row trigger of its table, and may have it turned off. `tgtype`: 1 for each row, 4 insert,
# 8 delete, 16 update, 32 truncate; without 2 (before) and 64 (instead of) it fires behind the change.
_TRIGGERS_SQL: Final = """
WITH wanted AS (SELECT unnest(%s::oid[]) AS root), tree AS (
    SELECT root, root AS relid FROM wanted
  UNION
    SELECT root, t.relid::oid FROM wanted JOIN pg_class c ON c.oid = root AND c.relkind = 'p'
    CROSS JOIN pg_partition_tree(root) t
), needed AS (
    SELECT root, relid, %s::name AS name, 29 AS type FROM tree
  UNION ALL
    SELECT root, root, %s::name, 32 FROM wanted
)
SELECT n.root::bigint, format('%%I.%%I', s.nspname, c.relname),
       CASE WHEN t.oid IS NULL OR t.tgtype <> n.type OR t.tgqual IS NOT NULL OR t.tgfoid IS DISTINCT FROM
                 to_regprocedure('worker_sync_audit.record()') OR cardinality(t.tgattr) > 0 THEN 'missing'
            WHEN t.tgenabled = 'D' THEN 'disabled'
            WHEN t.tgenabled <> 'A' THEN 'not always enabled'
            ELSE 'enabled' END
FROM needed n JOIN pg_class c ON c.oid = n.relid JOIN pg_namespace s ON s.oid = c.relnamespace
LEFT JOIN pg_trigger t ON t.tgrelid = n.relid AND t.tgname = n.name
ORDER BY 1, 2
"""

_ALL_SQL: Final = """
SELECT DISTINCT coalesce(pg_partition_root(t.tgrelid)::oid, t.tgrelid)::bigint
FROM pg_trigger t WHERE t.tgfoid = to_regprocedure('worker_sync_audit.record()')
"""

_STATUS_SQL: Final = """
SELECT s.head, s.confirmed, (SELECT coalesce(sum(bytes), 0) FROM worker_sync_audit.windows)::bigint,
       EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = 1
               AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
FROM worker_sync_audit.stream s
"""

_READY_SQL: Final = """
SELECT to_regclass('worker_sync_audit.installation') IS NOT NULL,
       coalesce(has_schema_privilege(to_regnamespace('worker_sync_audit')::oid, 'USAGE'), false)
"""


class Triggered(NamedTuple):
    """A table, or a partition of it, whose trigger is not as it has to be: missing, disabled, not always enabled."""

    relation: str
    state: str


def version(conn: Connection[TupleRow]) -> int | None:
    """The version of what is installed; None when nothing is, or when this role can't see it. Raises psycopg.Error."""
    if conn.execute(_READY_SQL).fetchone() != (True, True):
        return None
    row = conn.execute("SELECT version FROM worker_sync_audit.installation").fetchone()
    return row[0] if row else None


def removing(conn: Connection[TupleRow]) -> bool:
    """The triggers of what is installed are being removed. Raises psycopg.Error."""
    return conn.execute("SELECT removing FROM worker_sync_audit.installation").fetchone() == (True,)


def require(conn: Connection[TupleRow], source: str) -> None:
    """Raises Halt unless this version is installed."""
    found = version(conn)
    if found != VERSION:
        detail = "audit triggers are not installed" if found is None else f"audit triggers have version {found}"
        recovery = f"{install_command(source)}; then worker-sync resume PIPELINE"
        raise Halt(State.PREFLIGHT_FAILED, f"{source}: {detail}", recovery)


def broken(conn: Connection[TupleRow], relations: Iterable[int]) -> dict[int, list[Triggered]]:
    """Tables (OIDs) among these that are not recorded completely; ones that don't exist are none. Raises
    psycopg.Error."""
    found: dict[int, list[Triggered]] = {}
    for root, relation, state in conn.execute(_TRIGGERS_SQL, (list(relations), ROW_TRIGGER, TRUNCATE_TRIGGER)):
        if state != "enabled":
            found.setdefault(root, []).append(Triggered(relation, state))
    return found


def require_triggers(conn: Connection[TupleRow], source: str, tables: Mapping[int, TableName]) -> None:
    """Raises Halt when changes of one of the tables (by OID) are not recorded, unless that is what was asked for."""
    found = broken(conn, tables)
    if found and not removing(conn):
        named = ", ".join(f"{one.relation} ({one.state})" for some in found.values() for one in dict.fromkeys(some))
        detail = f"{source}: changes are not recorded, because of audit triggers of {named}"
        raise Halt(State.PREFLIGHT_FAILED, detail, f"{install_command(source)}; then worker-sync resume PIPELINE")


def triggered(conn: Connection[TupleRow]) -> list[int]:
    """The tables (OIDs) that have audit triggers, partitioned ones as one. Raises psycopg.Error."""
    return [oid for (oid,) in conn.execute(_ALL_SQL)]


# -- the stream


def status(conn: Connection[TupleRow]) -> StreamStatus:
    """The stream's state; `retained_bytes` are those of all that stands in windows. Raises psycopg.Error."""
    row = conn.execute(_STATUS_SQL, (LOCK,)).fetchone() if version(conn) is not None else None
    if row is None:
        return StreamStatus(False, "", "", "", None)
    head, confirmed, retained, active = row
    return StreamStatus(True, "", confirmed, head, retained, active, held=True)


def stream_tables(conn: Connection[TupleRow], source: str) -> dict[int, TableName]:
    """The tables that the stream is about, by their OIDs. Raises Halt when there is no stream, psycopg.Error."""
    row = None
    if version(conn) is not None:
        query = "SELECT relations::bigint[], namespaces::text[], names::text[] FROM worker_sync_audit.stream"
        row = conn.execute(query).fetchone()
    if row is None:
        raise no_stream(source)
    relations, namespaces, names = row
    return {oid: TableName(*name) for oid, *name in zip(relations, namespaces, names, strict=True)}


def dropped_tables(conn: Connection[TupleRow], source: str) -> dict[int, TableName]:
    """Those of them that the database has no more. Raises as `stream_tables` does."""
    tables = stream_tables(conn, source)
    query = "SELECT oid::bigint FROM pg_class WHERE oid = ANY (%s::oid[])"
    there = {oid for (oid,) in conn.execute(query, (list(tables),))}
    return {oid: table for oid, table in tables.items() if oid not in there}


def no_stream(source: str) -> Halt:
    detail = f"{source}: what audit triggers recorded was removed, or nobody has begun to read it"
    return Halt(State.SLOT_MISSING, detail, f"{install_command(source)}; then worker-sync resync PIPELINE")


def failure(error: psycopg.Error, where: str, source: str) -> WorkerSyncError:
    """The error as the runtime knows it; what was removed under a reader is no table that somebody should mend."""
    gone = isinstance(error, psycopg.errors.InvalidSchemaName | psycopg.errors.UndefinedTable)
    if not gone or "worker_sync_audit" not in (error.diag.message_primary or ""):
        return translate(error, where)
    return no_stream(source)


@contextmanager
def translated(where: str, source: str) -> Iterator[None]:
    """Run the block with psycopg's errors turned into the runtime's."""
    try:
        yield
    except psycopg.Error as error:
        raise failure(error, where, source) from error


def named(tables: Mapping[int, TableName]) -> tuple[Sequence[int], Sequence[str], Sequence[str]]:
    """OIDs, namespaces and names, as the stream's row has them."""
    return list(tables), [table.namespace for table in tables.values()], [table.name for table in tables.values()]
