"""PostgreSQL as a source of which triggers write the changes down, because its log may not be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import ClassVar, Final

from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.base import Finding, Source, Stream, StreamStatus, TableReader
from connectors.postgres import catalog
from connectors.postgres.conn import READ_SETTINGS, connect, redact
from connectors.postgres.slot import CUT_OFF_MS
from connectors.postgres.triggers import checks, installed, windows
from connectors.postgres.triggers.names import LOCK, SCHEME_PREFIX, position
from connectors.postgres.triggers.reader import TriggerReader
from connectors.postgres.triggers.stream import TriggerStream
from worker_sync.core.errors import Halt, State
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema

# A promoted standby, or a server that was restored to a point in time, has another timeline: what it never had may be
# recorded already.
_IDENTITY_SQL: Final = """
SELECT c.system_identifier::text, d.oid::text, i.id::text, left(pg_walfile_name(pg_current_wal_lsn()), 8)
FROM pg_control_system() c, pg_database d, worker_sync_audit.installation i WHERE d.datname = current_database()
"""

# In one statement, so that exactly what its snapshot sees is forgotten. Numbers of a later stream are greater than all
# before, unless more windows were cut than microseconds went by.
_CREATE_SQL: Final = """
WITH forgotten AS (DELETE FROM worker_sync_audit.changes), uncut AS (DELETE FROM worker_sync_audit.windows),
     first AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS number)
INSERT INTO worker_sync_audit.stream (name, relations, namespaces, names, snapshot, number, head, confirmed)
SELECT %s, %s::oid[], %s::name[], %s::name[], pg_current_snapshot(), number, start, start
FROM (SELECT number, lpad(to_hex(number), 16, '0') || '00000000' AS start FROM first) f
RETURNING confirmed
"""
_CUT_OFF_SQL: Final = """
SELECT pg_terminate_backend(pid, %s) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = 1 AND objsubid = 2
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_RESYNC: Final = "worker-sync resync PIPELINE"


class TriggerSource(Source):
    """The database at `url`, in front of which the scheme's prefix may stand. It has one stream."""

    engine: ClassVar[str] = catalog.ENGINE
    home = "public"

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url.removeprefix(SCHEME_PREFIX)
        self._where = redact(self._url)

    def identity(self) -> str:
        """The cluster's system identifier, the database's OID, the installation and the server's timeline."""
        with self._connected() as conn:
            installed.require(conn, self.name)
            row = conn.execute(_IDENTITY_SQL).fetchone()
        assert row is not None
        return "/".join(row)

    def now(self) -> datetime:
        with self._connected() as conn:
            return catalog.now(conn)

    def tables(self) -> list[TableSchema]:
        with self._connected() as conn:
            return [relation.schema for relation in catalog.all_relations(conn)]

    def fingerprint(self) -> str:
        with self._connected() as conn:
            return catalog.fingerprint(conn)

    def preflight(self, tables: Sequence[TableName]) -> list[Finding]:
        return checks.check_source(self._url, self.name, tables)

    def create_stream(self, tables: Sequence[TableName]) -> Position:
        """See `Source.create_stream`. Triggers are not made here: they take locks and rights that a capture need not
        have. Raises Halt with the command for tables that lack them."""
        with self._connected() as conn:
            installed.require(conn, self.name)
            found = catalog.named_relations(conn, tables)
            for table in tables:
                if table not in found:
                    detail = f"table {table} does not exist"
                    raise Halt(State.SCHEMA_MISMATCH, detail, "correct the tables in the config")
            wanted = {found[table].oid: table for table in tables}
            installed.require_triggers(conn, self.name, wanted)
            with conn.transaction():
                return Position(self._set_up(conn, wanted))

    def _set_up(self, conn: Connection[TupleRow], wanted: dict[int, TableName]) -> str:
        conn.execute("SELECT pg_advisory_xact_lock(%s, 2)", (LOCK,))
        row = conn.execute("SELECT name, confirmed FROM worker_sync_audit.stream").fetchone()
        if row is None:
            row = conn.execute(_CREATE_SQL, (self.name, *installed.named(wanted))).fetchone()
            assert row is not None
            return str(row[0])
        name, confirmed = row
        if name != self.name:
            detail = f"what audit triggers record is read for the database {name!r} of another configuration already"
            raise Halt(State.PREFLIGHT_FAILED, detail, f"let only one read it; DELETE FROM {_STREAM} gives it up")
        # What was recorded of a table that is gone may not have been read yet, or is read again.
        listed = installed.named(installed.dropped_tables(conn, self.name) | wanted)
        conn.execute(f"UPDATE {_STREAM} SET relations = %s::oid[], namespaces = %s::name[], names = %s::name[]", listed)
        return str(confirmed)

    def drop_stream(self) -> None:
        """Forget what was not read. The triggers stay, and go on recording until they are removed."""
        with self._connected() as conn:
            if installed.version(conn) is None:
                return
            with conn.transaction():
                conn.execute("SELECT pg_advisory_xact_lock(%s, 2)", (LOCK,))
                for table in ("stream", "windows", "changes"):
                    conn.execute(f"DELETE FROM worker_sync_audit.{table}")

    def stream_status(self, confirmed: str = "") -> StreamStatus:
        with self._connected() as conn:
            return installed.status(conn)

    def cut_off(self) -> None:
        with self._connected() as conn:
            conn.execute(_CUT_OFF_SQL, (CUT_OFF_MS, LOCK))

    def open_stream(self, start: str) -> Stream:
        with installed.translated(self._where, self.name):
            stream = TriggerStream(self._url, self.name, start, self.remembered)
        try:
            # Only now that it is ours can nobody else move it.
            self._require_position(start)
        except BaseException:
            stream.close()
            raise
        return stream

    def _require_position(self, start: str) -> None:
        found = self.stream_status()
        if not found.exists:
            raise installed.no_stream(self.name)
        if not found.confirmed <= start <= found.head:
            detail = (
                f"{self._where} has recorded changes from {found.confirmed} to {found.head}, not from {start or '0'}"
            )
            raise Halt(State.POSITION_LOST, detail, _RESYNC)

    def reader(self) -> TableReader:
        return TriggerReader(self._url)

    def emit(self, prefix: str, content: bytes) -> str:
        """See `Source.emit`. The message is a recorded change, and cut into a window here: its own place in it is
        behind whatever had committed before, because that was recorded before."""
        insert = (
            "INSERT INTO worker_sync_audit.changes (op, context, new) SELECT 'm', %s, %s FROM worker_sync_audit.stream "
            "RETURNING xid::text"
        )
        with self._connected() as conn:
            row = conn.execute(insert, (prefix, content.hex())).fetchone() if installed.version(conn) else None
            if row is None or windows.cut(conn) is None:
                raise installed.no_stream(self.name)
            return self._place_of(conn, row[0])

    def _place_of(self, conn: Connection[TupleRow], xid: str) -> str:
        query = (
            "SELECT number, array_position(xids, %(xid)s::xid8) FROM worker_sync_audit.windows "
            "WHERE xids @> ARRAY[%(xid)s::xid8] ORDER BY number DESC LIMIT 1"
        )
        row = conn.execute(query, {"xid": xid}).fetchone()
        if row is not None:
            return position(*row)
        # Recorded, confirmed and deleted since: what is confirmed is not before it.
        return installed.status(conn).confirmed

    def close(self) -> None:
        """Nothing is kept open."""

    @contextmanager
    def _connected(self) -> Iterator[Connection[TupleRow]]:
        with installed.translated(self._where, self.name), connect(self._url, READ_SETTINGS) as conn:
            conn.execute("SET default_transaction_isolation = 'read committed'")
            yield conn


_STREAM: Final = "worker_sync_audit.stream"
