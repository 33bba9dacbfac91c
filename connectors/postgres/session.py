"""The sink's connection, with what it keeps between batches: table statements and staging tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import psycopg
from psycopg import Connection, Pipeline

from connectors.postgres.conn import connect
from connectors.postgres.statements import TableSql
from connectors.postgres.target import require_target
from worker_sync.core.schema import TableName, TableSchema

#: Every commit empties all staging tables of the session, used or not: keep their number small.
MAX_STAGING: Final = 32
#: Server-side statements kept by a connection.
MAX_PREPARED: Final = 500
#: A copy that collides is done twice; this many sets of rows are upserted before the next try.
UPSERTS_AFTER_COLLISION: Final = 100
#: Tables whose statements are kept; more start anew.
MAX_TABLES: Final = 2_000

# Staging tables have no statistics, and a prepared plan outlives the size of its table. Only joins that look up each
# staged row in the target's index stay right at every size. Compilation costs more than any statement here takes.
_SETTINGS: Final = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "jit": "off",
    "lock_timeout": "30s",
}


class Session:
    """One connection to the target, opened on first use and again after it broke."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection[Any] | None = None
        self.silent = False
        self.merges = False
        self._upserts: dict[TableName, int] = {}
        self._tables: dict[TableSchema, TableSql] = {}
        self._fresh_tables = True
        self._staging_is_old = False
        self._staging: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        self._used: dict[tuple[str, tuple[str, ...]], int] = {}
        self._created: list[tuple[str, tuple[str, ...]]] = []
        self._counter = 0

    def connection(self) -> Connection[Any]:
        """The open connection; opens it when there is none."""
        if self._connection is None or self._connection.closed:
            self.close()
            self._connection = self._open()
        return self._connection

    def _open(self) -> Connection[Any]:
        connection = connect(self._url, _SETTINGS)
        connection.cursor_factory = psycopg.RawCursor
        connection.prepared_max = MAX_PREPARED
        self.silent = _silence(connection)
        self.merges = connection.info.server_version >= 150_000
        return connection

    def close(self) -> None:
        """Close the connection, whatever its state, and forget what was kept for it."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
        self._staging.clear()
        self._counter = 0
        self.forget_tables()

    def begin(self) -> None:
        """Note the start of a transaction; call it before the BEGIN."""
        self._used.clear()
        self._created.clear()
        self._fresh_tables = not self._tables
        if self._staging_is_old or sum(map(len, self._staging.values())) > MAX_STAGING:
            self.connection().execute("DISCARD TEMP")
            self._staging.clear()
            self._staging_is_old = False

    def rollback(self) -> None:
        """End a failed transaction; the staging tables that it made are gone with it."""
        for key in self._created:
            self._staging[key].pop()
        self._created.clear()
        if self._connection is not None and not self._connection.closed:
            self._connection.rollback()

    def forget_tables(self) -> bool:
        """Read the target's tables anew from now on. False when all were read by the last transaction itself."""
        self._tables.clear()
        # Staging tables have the types that the target's columns had.
        self._staging_is_old = bool(self._staging)
        return not self._fresh_tables

    def table(self, schema: TableSchema) -> TableSql:
        """The statements for a table. Raises Halt(schema-mismatch) when the target can't take it."""
        table = self._tables.get(schema)
        if table is None:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            target = require_target(self.connection(), schema.table)
            table = self._tables[schema] = TableSql(schema, target)
        return table

    def copies(self, table: TableName) -> bool:
        """See `connectors.postgres.merge.Workspace`."""
        left = self._upserts.pop(table, 0)
        if left > 1:
            self._upserts[table] = left - 1
        return left == 0

    def expect_collisions(self, tables: Iterable[TableName]) -> None:
        """Rows of inserts turned out to be in these tables already: upsert for a while."""
        self._upserts.update(dict.fromkeys(tables, UPSERTS_AFTER_COLLISION))

    def staging(self, table: TableSql, names: Sequence[str]) -> str:
        """See `connectors.postgres.merge.Workspace`."""
        key = (table.table, tuple(names))
        pool = self._staging.setdefault(key, [])
        used = self._used.get(key, 0)
        self._used[key] = used + 1
        if used == len(pool):
            self._counter += 1
            name = f"pg_temp.worker_sync_{self._counter}"
            self.connection().execute(table.create_staging(name, names))
            self._created.append(key)
            pool.append(name)
        return pool[used]


@contextlib.contextmanager
def pipelined(connection: Connection[Any]) -> Iterator[Pipeline]:
    """The connection in pipeline mode. After an error the driver would log, for everyday collisions too, that the
    statements behind it were aborted; here they are taken out first, and only the error is left."""
    with connection.pipeline() as pipeline:
        try:
            yield pipeline
        except psycopg.Error:
            with contextlib.suppress(psycopg.Error):
                pipeline.sync()
            raise


def _silence(connection: Connection[Any]) -> bool:
    """Turn foreign keys and triggers off for this session; False when the role may not."""
    try:
        connection.execute("SET session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
