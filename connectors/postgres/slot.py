"""The server side of a stream: one publication and one logical slot, both named after the database."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from connectors.base import StreamStatus
from connectors.postgres import catalog, comment, publication
from connectors.postgres.errors import one_line
from connectors.postgres.pgoutput import format_lsn
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.schema import TableName

log = logging.getLogger(__name__)

#: How long to wait for the end of a process that was cut off, in milliseconds.
CUT_OFF_MS: Final = 5000
#: How long to wait for transactions that are older than the stream, in seconds.
SETTLE_TIMEOUT: Final = 60.0
_SETTLE_POLL: Final = 0.05
_LONGEST_NAME: Final = 63

_RESYNC: Final = "worker-sync resync PIPELINE"

_STATUS_SQL: Final = """
SELECT to_jsonb(s), (pg_current_wal_flush_lsn() - '0/0')::bigint, (s.confirmed_flush_lsn - '0/0')::bigint,
       (pg_current_wal_lsn() - s.restart_lsn)::bigint
FROM (VALUES (%s)) AS wanted(name) LEFT JOIN pg_replication_slots s ON s.slot_name = wanted.name
"""

_WRITERS_SQL: Final = """
SELECT DISTINCT l.virtualtransaction
FROM pg_locks l
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND l.relation IN (
    SELECT pr.prrelid FROM pg_publication p JOIN pg_publication_rel pr ON pr.prpubid = p.oid WHERE p.pubname = %s
    UNION
    SELECT tree.relid FROM pg_publication p JOIN pg_publication_rel pr ON pr.prpubid = p.oid
    CROSS JOIN pg_partition_tree(pr.prrelid) AS tree WHERE p.pubname = %s)
"""


def stream_name(database: str) -> str:
    """The name of slot and publication: letters, digits and underscores, different for different databases."""
    name = "worker_sync_" + re.sub(r"[^a-z0-9_]", "_", database.lower())
    if name == "worker_sync_" + database and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(database.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}_{digest}"


def status(conn: Connection[TupleRow], name: str) -> StreamStatus:
    """The slot's state. Positions are one less than LSNs, as those of the stream. Raises psycopg.Error."""
    row = conn.execute(_STATUS_SQL, (name,)).fetchone()
    assert row is not None
    slot, head, confirmed, retained = row
    if slot is None:
        return StreamStatus(False, "", "", format_lsn(head - 1), None)
    lost = _lost(slot)
    position = format_lsn(confirmed - 1) if confirmed else ""
    return StreamStatus(
        True,
        lost or publication.altered(conn, name),
        position,
        format_lsn(head - 1),
        None if lost else retained,
        slot["active"],
        held=not lost,
        # What max_slot_wal_keep_size leaves; below zero the next checkpoint takes the log away.
        left_bytes=None if lost or slot["safe_wal_size"] is None else max(0, slot["safe_wal_size"]),
    )


def _lost(slot: dict[str, Any]) -> str:
    if slot["wal_status"] == "lost":
        return slot.get("invalidation_reason") or "the server removed the log that it needs (max_slot_wal_keep_size)"
    if slot.get("invalidation_reason"):
        return str(slot["invalidation_reason"])
    return "it conflicted with recovery" if slot.get("conflicting") else ""


def cut_off(conn: Connection[TupleRow], name: str) -> None:
    """End the process that reads the slot. A role may end its own processes; another role's reader stays."""
    query = "SELECT pg_terminate_backend(active_pid, %s) FROM pg_replication_slots WHERE slot_name = %s AND active"
    try:
        conn.execute(query, (CUT_OFF_MS, name))
    except psycopg.errors.InsufficientPrivilege:
        log.warning("slot %s is read by another role's process", name, extra={"action": "slot_kept"})


def require_healthy(found: StreamStatus, name: str) -> None:
    """Raises Halt when the slot can't be streamed from."""
    if not found.exists:
        raise Halt(State.SLOT_MISSING, f"replication slot {name} does not exist", _RESYNC)
    if found.lost:
        raise Halt(State.SLOT_INVALIDATED, f"replication slot {name} can't be continued: {found.lost}", _RESYNC)


def require_publication(conn: Connection[TupleRow], name: str) -> None:
    """Raises Halt when the publication of an existing slot is gone: what was written since is not in the stream."""
    if not publication.exists(conn, name):
        raise Halt(State.SLOT_MISSING, f"publication {name} does not exist", _RESYNC)


def require_position(found: StreamStatus, name: str, start: str) -> None:
    """Raises Halt unless the slot can deliver everything after commit position `start`.

    The server itself would begin silently at what the slot has confirmed.
    """
    if found.confirmed > start:
        detail = f"slot {name} has been confirmed up to {found.confirmed}, streaming was to start at {start or '0'}"
        raise Halt(State.POSITION_LOST, detail, _RESYNC)
    if start > found.head:
        detail = f"the server's log ends at {found.head}, before {start} where streaming was to start"
        raise Halt(State.POSITION_LOST, detail, _RESYNC)


@contextmanager
def exclusive(conn: Connection[TupleRow], name: str) -> Iterator[None]:
    """One process at a time sets up or removes a stream."""
    conn.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
    try:
        yield
    finally:
        if not conn.closed and not conn.broken:
            conn.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


def set_up(conn: Connection[TupleRow], name: str, tables: Sequence[TableName]) -> str:
    """Publication and slot for exactly these tables; returns the confirmed position. Raises Halt before it changes
    anything when a table or the server can't be captured from, psycopg.Error for the unexpected."""
    require_supported(conn, tables)
    found = status(conn, name)
    if found.exists:
        require_healthy(found, name)
        require_publication(conn, name)
    created = publication.publish(conn, name, tables)
    if not found.exists:
        _create_slot(conn, name, drop_publication=created and not comment.read(conn, name).full)
        publication.settled(conn, name)
        found = status(conn, name)
    elif publication.is_settling(conn, name):
        _await_older_writers(conn, name)
        publication.settled(conn, name)
    return found.confirmed


def require_supported(conn: Connection[TupleRow], tables: Sequence[TableName]) -> None:
    """Publishing updates of a table without replica identity would make the owner's own updates fail."""
    level = conn.execute("SELECT current_setting('wal_level')").fetchone()
    if level != ("logical",):
        fix = "ALTER SYSTEM SET wal_level = logical, then restart the server"
        raise Halt(State.PREFLIGHT_FAILED, "wal_level is not logical", fix)
    relations = catalog.named_relations(conn, tables)
    for table in tables:
        relation = relations.get(table)
        if relation is None:
            raise Halt(State.SCHEMA_MISMATCH, f"table {table} does not exist", "correct the tables in the config")
        if relation.obstacle:
            raise Halt(State.TABLE_UNSUPPORTED, f"{table} can't be captured: {relation.obstacle}", relation.remedy)


def _create_slot(conn: Connection[TupleRow], name: str, *, drop_publication: bool) -> None:
    """The slot comes after its publication: decoding begins at the slot and looks the publication up as of then.

    Creating it waits for every transaction that is running now.
    """
    try:
        conn.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(int(SETTLE_TIMEOUT * 1000))))
        conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
    except psycopg.Error as error:
        if drop_publication and not conn.broken:
            conn.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)))
        if error.sqlstate == "57014":
            raise _older_transactions(name) from error
        if error.sqlstate in ("53400", "42501"):
            fix = "worker-sync check, which names the statement that mends it"
            raise Halt(State.PREFLIGHT_FAILED, f"slot {name}: {one_line(error)}", fix) from error
        raise
    finally:
        if not conn.broken:
            conn.execute("RESET statement_timeout")


def _await_older_writers(conn: Connection[TupleRow], name: str) -> None:
    """Wait for the transactions that were writing to the tables when the publication got them.

    What they wrote before is not in the stream, so whoever copies the tables' rows must do it after their commits.
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT
    waiting = _writers(conn, name)
    while waiting := waiting & _writers(conn, name):
        if time.monotonic() > deadline:
            raise _older_transactions(name)
        time.sleep(_SETTLE_POLL)


def _writers(conn: Connection[TupleRow], name: str) -> set[str]:
    return {row[0] for row in conn.execute(_WRITERS_SQL, (name, name))}


def _older_transactions(name: str) -> Transient:
    return Transient(
        f"stream {name}: transactions that are older than it are still running after {SETTLE_TIMEOUT:.0f} s "
        "(see pg_stat_activity, pg_prepared_xacts)"
    )


def tear_down(conn: Connection[TupleRow], name: str) -> None:
    """Drop slot and publication, and put back what was changed for them. Raises Transient while another process reads
    the slot."""
    found = status(conn, name)
    if found.active:
        raise Transient(f"replication slot {name} is being read by another process: stop that capture first")
    if found.exists:
        conn.execute("SELECT pg_drop_replication_slot(%s)", (name,))
    publication.drop(conn, name)
