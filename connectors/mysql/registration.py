"""The server side of streams: rows of one small table in the source database, and a named lock for each reader.

MySQL knows nothing of who reads its log. A stream exists when it has a row; the row with the empty name belongs to the
database: its id tells this log from that of a copy, and messages are written into it, which makes them part of the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

import pymysql

from connectors.mysql.conn import Connection, close, connect, query
from connectors.mysql.errors import code_of
from connectors.mysql.sql import text
from worker_sync.core.change import Change, Message
from worker_sync.core.errors import Transient, WorkerSyncError
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import UNCHANGED

TABLE: Final = "worker_sync_stream"
#: Seconds to wait for the end of a session that was told to end.
END_TIMEOUT_S: Final = 5.0
_PAUSE_S: Final = 0.01
_NO_TABLE: Final = 1146
_NO_SESSION: Final = 1094
#: Ids of replicas that people give are small; ours lie in the upper half.
_FIRST_SERVER_ID: Final = 1 << 31

_CREATE_SQL: Final = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
  name VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  id CHAR(32) CHARACTER SET ascii NOT NULL,
  started VARCHAR(64) CHARACTER SET ascii NOT NULL,
  sent BIGINT UNSIGNED NOT NULL DEFAULT 0,
  prefix VARCHAR(190) CHARACTER SET utf8mb4 NOT NULL DEFAULT '',
  content LONGBLOB NOT NULL
) ENGINE=InnoDB COMMENT='Streams of Worker-Sync that read the binary log'
"""


class Registered(NamedTuple):
    """A stream's row: its random id and where it began."""

    id: str
    started: str

    @property
    def server_id(self) -> int:
        """A replica's id that no other stream has, since its own id is random."""
        return _FIRST_SERVER_ID | int(self.id[:8], 16)


def prepare(conn: Connection) -> None:
    """Create the table with the database's own row. Raises pymysql.Error."""
    query(conn, _CREATE_SQL)
    query(conn, f"INSERT IGNORE INTO {TABLE} (name, id, started, content) VALUES ('', '{uuid.uuid4().hex}', '', '')")


def find(conn: Connection, name: str) -> Registered | None:
    """The row of that name; None when there is none, or no table. Raises pymysql.Error."""
    try:
        rows = query(conn, f"SELECT id, started FROM {TABLE} WHERE name = {text(name)}")
    except pymysql.Error as error:
        if code_of(error) == _NO_TABLE:
            return None
        raise
    return Registered(*rows[0]) if rows else None


def register(conn: Connection, name: str, started: str) -> None:
    """Add a stream's row. Raises pymysql.Error."""
    values = ", ".join(map(text, (name, uuid.uuid4().hex, started, "")))
    query(conn, f"INSERT INTO {TABLE} (name, id, started, content) VALUES ({values})")


def unregister(conn: Connection, name: str) -> None:
    """Remove a stream's row if it is there. The table stays, with the id of the database. Raises pymysql.Error."""
    if find(conn, name) is not None:
        query(conn, f"DELETE FROM {TABLE} WHERE name = {text(name)}")


def send(conn: Connection, prefix: str, content: bytes) -> None:
    """Write a message, which replaces the one before. Every column of it is assigned, so that row images of any kind
    hold it. Raises pymysql.Error."""
    query(
        conn,
        f"UPDATE {TABLE} SET prefix = {text(prefix)}, content = x'{content.hex()}', sent = sent + 1 WHERE name = ''",
    )


def messages_of(schema: TableSchema, changes: Sequence[Change]) -> list[Message]:
    """The messages in changes of the table."""
    found = []
    for change in changes:
        row = dict(zip(schema.column_names, change.after or (), strict=False))
        prefix, content = row.get("prefix", ""), row.get("content", UNCHANGED)
        if prefix is not UNCHANGED and prefix and isinstance(content, bytes):
            found.append(Message(prefix, content))
    return found


# -- one reader at a time


def lock_name(database: str, stream: str) -> str:
    """The lock of a stream's reader; the server's locks belong to no database."""
    digest = hashlib.sha256(f"{database}\0{stream}".encode()).hexdigest()[:32]
    return f"worker_sync.{digest}"


def take_lock(conn: Connection, lock: str, where: str) -> None:
    """Hold the lock as long as the session lives. Raises Transient while another session has it."""
    if query(conn, f"SELECT GET_LOCK({text(lock)}, 0)") != [("1",)]:
        raise Transient(f"{where}: the stream is being read by another process")


def holder(conn: Connection, lock: str) -> int | None:
    """The session that holds the lock; None when nobody does."""
    ((session,),) = query(conn, f"SELECT IS_USED_LOCK({text(lock)})")
    return None if session is None else int(session)


def kill(conn: Connection, session: int, lock: str) -> None:
    """End a session and wait, for a bounded time, until it has given its lock back. Raises pymysql.Error when this user
    may not."""
    try:
        query(conn, f"KILL {session}")
    except pymysql.Error as error:
        if code_of(error) != _NO_SESSION:
            raise
    deadline = time.monotonic() + END_TIMEOUT_S
    while holder(conn, lock) == session and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)


def end_session(url: str, session: int, lock: str) -> None:
    """The same over a connection of its own, as far as it can be done: without it the server does so a little later."""
    with contextlib.suppress(pymysql.Error, WorkerSyncError):
        conn = connect(url)
        try:
            if holder(conn, lock) == session:
                kill(conn, session, lock)
        finally:
            close(conn)
