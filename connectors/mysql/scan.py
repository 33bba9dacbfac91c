"""All rows of one table in one snapshot, for tables without a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import copy
from typing import Any

from pymysql.cursors import SSCursor

from connectors.base import Chunk, Scan
from connectors.mysql.conn import Connection, abandon, execute
from connectors.mysql.errors import translated
from connectors.mysql.plain_snapshots import Snapshots
from worker_sync.core.values import Row


class MysqlScan(Scan):
    """Reads `sql` from the server as it is asked for. Closes the connection, which must be its own.

    `convert` makes canonical rows of the driver's; `where` names the table in errors.
    """

    def __init__(
        self,
        connection: Connection,
        snapshots: Snapshots,
        sql: str,
        convert: Callable[[Sequence[tuple[Any, ...]]], list[Row]],
        limit: int,
        where: str,
    ) -> None:
        self._connection = connection
        self._convert = convert
        self._limit = limit
        self._where = where
        # Never left in the orderly way: the end of the connection ends the snapshot, wherever reading was.
        self._seen = ExitStack().enter_context(snapshots.open(connection))
        self._cursor = connection.cursor(SSCursor)
        execute(self._cursor, sql)

    def chunk(self) -> Chunk:
        with translated(self._where):
            rows = self._cursor.fetchmany(self._limit)
        chunk = copy(self._seen)
        chunk.rows = self._convert(rows)
        chunk.done = len(rows) < self._limit
        return chunk

    def close(self) -> None:
        abandon(self._connection)
