"""The state of a server's binary log, asked over an ordinary connection."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pymysql

from connectors.mysql.binlog import events
from connectors.mysql.binlog.link import ANNOTATE, NON_BLOCKING, Link
from connectors.mysql.conn import Connection, query
from connectors.mysql.errors import code_of
from connectors.mysql.position import LogPosition, file_number

_SYNTAX: Final = 1064
#: The first event of a file stands behind its magic number.
FIRST_EVENT: Final = 4
DAY_S: Final = 86_400.0


class LogFile(NamedTuple):
    number: int
    size: int


def variable(conn: Connection, name: str) -> str | None:
    """A global variable's value; None when the server doesn't know it. Raises pymysql.Error."""
    rows = query(conn, f"SHOW GLOBAL VARIABLES WHERE variable_name = '{name}'")
    return rows[0][1] if rows else None


def _status(conn: Connection) -> list[tuple[Any, ...]]:
    try:
        return query(conn, "SHOW MASTER STATUS")
    except pymysql.Error as error:
        if code_of(error) != _SYNTAX:
            raise
        return query(conn, "SHOW BINARY LOG STATUS")  # MySQL from 8.4 on


def filters(conn: Connection) -> tuple[set[str], set[str]]:
    """The databases that alone are logged (empty: all), and those that are not. Raises pymysql.Error."""
    rows = _status(conn)
    if not rows:
        return set(), set()
    only, never = (set(filter(None, (rows[0][column] or "").split(","))) for column in (2, 3))
    return only, never


def head(conn: Connection) -> LogPosition | None:
    """The end of the log; None when the server writes none. Raises pymysql.Error."""
    rows = _status(conn)
    return LogPosition(file_number(rows[0][0]), int(rows[0][1]), False, None) if rows else None


def base_name(conn: Connection) -> str:
    """What the names of the log's files begin with. Raises pymysql.Error."""
    return (variable(conn, "log_bin_basename") or "").rpartition("/")[2].rpartition("\\")[2]


def files(conn: Connection) -> list[LogFile]:
    """The files of the log that the server still has, in order. Raises pymysql.Error."""
    return [LogFile(file_number(row[0]), int(row[1])) for row in query(conn, "SHOW BINARY LOGS")]


def retained(found: list[LogFile], position: LogPosition) -> int:
    """Bytes of the log behind a position."""
    size = sum(file.size for file in found if file.number > position.file)
    return size + sum(max(0, file.size - position.offset) for file in found if file.number == position.file)


def lost(found: list[LogFile], position: LogPosition) -> str:
    """Why the log can't be read from a position, as far as names and sizes of files tell; empty when it can."""
    sizes = {file.number: file.size for file in found}
    size = sizes.get(position.file)
    if size is None:
        return f"the server has no binary log file {position.file} any more"
    return f"binary log file {position.file} is shorter than {position.offset}" if size < position.offset else ""


def kept_s(conn: Connection) -> float | None:
    """Seconds for which the server keeps a file of the log after its end; None when it purges none by age. Raises
    pymysql.Error."""
    if (variable(conn, "binlog_expire_logs_auto_purge") or "ON") == "OFF":
        return None
    seconds = float(variable(conn, "binlog_expire_logs_seconds") or 0)
    days = float(variable(conn, "expire_logs_days") or 0)
    return seconds or days * DAY_S or None


def clock(conn: Connection) -> float:
    """The server's time, in seconds since 1970. Raises pymysql.Error."""
    return float(query(conn, "SELECT UNIX_TIMESTAMP(NOW(6))")[0][0])


def created(conn: Connection, base: str, file: int, server_id: int) -> int:
    """When the server began a file, in seconds since 1970: the time of the event that describes it. Uses the connection
    up. Raises pymysql.Error."""
    link = Link(conn, server_id)
    link.request(f"{base}.{file:06}", FIRST_EVENT, flags=NON_BLOCKING | ANNOTATE)
    while True:
        event = link.event()
        if event is None:
            link.wait(1.0)
        elif event.type == events.FORMAT_DESCRIPTION:
            return event.time
