"""Snapshots of a source's reader, each in relation to the log.

MariaDB says which position of its log a snapshot is: whatever begins before is in it. MySQL says which transactions
were in effect before the snapshot was taken (`gtid_executed` is extended after a commit has become visible, in log
order as long as `binlog_order_commits` is on), so they are in it. One that came between is taken not to be in it: its
changes, and all that follow, are laid over the chunk once more, which leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from connectors.mysql import log
from connectors.mysql.conn import Connection, is_mariadb, query
from connectors.mysql.gtid_set import GtidSet
from connectors.mysql.plain_snapshots import MysqlChunk, Snapshots
from connectors.mysql.position import boundary, file_number
from worker_sync.core.change import TransactionInfo
from worker_sync.core.errors import Halt, State


class PositionChunk(MysqlChunk):
    """MariaDB: sees what begins before its position."""

    def sees(self, info: TransactionInfo) -> bool:
        return info.commit < self.horizon


class GtidChunk(MysqlChunk):
    """MySQL: sees the transactions of its set."""

    def __init__(self, executed: str) -> None:
        super().__init__()
        self._executed = GtidSet(executed)

    def sees(self, info: TransactionInfo) -> bool:
        if not info.xid:
            detail = "the log has a transaction without a GTID, so no snapshot can be told from it"
            raise Halt(State.PREFLIGHT_FAILED, detail, "SET PERSIST gtid_mode = ON, then worker-sync resync PIPELINE")
        return info.xid in self._executed


class LoggedSnapshots(Snapshots):
    """See the module."""

    @contextmanager
    def open(self, connection: Connection) -> Iterator[MysqlChunk]:
        mariadb = is_mariadb(connection)
        executed = "" if mariadb else query(connection, "SELECT @@GLOBAL.gtid_executed")[0][0]
        connection.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        yield _mariadb_chunk(connection) if mariadb else _mysql_chunk(connection, executed)
        # After an error the reader closes the connection.
        connection.query("COMMIT")


def _mariadb_chunk(connection: Connection) -> PositionChunk:
    found = dict(query(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'"))
    chunk = PositionChunk()
    chunk.horizon = boundary(file_number(found["Binlog_snapshot_file"]), int(found["Binlog_snapshot_position"]))
    return chunk


def _mysql_chunk(connection: Connection, executed: str) -> GtidChunk:
    chunk = GtidChunk(executed.replace("\n", ""))
    # After the snapshot: whatever it sees was in the log before.
    end = log.head(connection)
    chunk.horizon = str(end) if end else ""
    return chunk
