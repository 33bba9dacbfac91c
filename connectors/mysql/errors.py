"""What the errors of MySQL and MariaDB mean to the runtime, in one place.

A failure to get in is Unreachable, whatever the reason: a wrong password must never make a worker park changes.
The server quotes values in some of its messages; they are cut out before anybody sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pymysql
from pymysql.constants import CR, ER

from worker_sync.core.errors import Halt, Permanent, State, TargetRejected, Transient, Unreachable, WorkerSyncError

DUPLICATE: Final = frozenset({ER.DUP_ENTRY, 1557, 1586, 1761, 1762})
#: A deadlock, or a wait for a lock that took too long: the transaction is gone or has to go.
_CONTENTION: Final = {ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT, 3572, 1020, 1637}
#: A statement that took longer than the server or the user's account allows (MariaDB, MySQL).
_TOO_SLOW: Final = {1969, 3024}
_GOING_DOWN: Final = {ER.SERVER_SHUTDOWN, ER.NORMAL_SHUTDOWN, ER.QUERY_INTERRUPTED, 3169, 4031, 1927, 1317}
#: Too many connections, out of memory, disk full, too many locks, file errors.
_RESOURCES: Final = {1040, 1203, 1226, 1041, 1037, 1038, 1021, 1114, 1206, 1135, 1194, 1195, 1030, 1026, 1015, 1180}
#: Read-only: a failover is under way.
_READ_ONLY: Final = {1290, 1792, 1836, 3100, 1874}
_LOST: Final = {
    CR.CR_SERVER_GONE_ERROR,
    CR.CR_SERVER_LOST,
    2055,
    1152,
    1153,
    1158,
    1159,
    1160,
    1161,
}
_TRANSIENT: Final = _CONTENTION | _TOO_SLOW | _GOING_DOWN | _RESOURCES | _READ_ONLY | _LOST
#: Unknown table, column, database; a NOT NULL column without a default that we don't write; wrong column count.
_SCHEMA: Final = {1146, 1054, 1049, 1051, 1109, 1364, 1136, 1091, 1412, 1072}
_PRIVILEGE: Final = {1044, 1045, 1142, 1143, 1227, 1370, 1095, 1419}
#: NULL, too long, out of range, incorrect, not JSON, refused by a constraint or a trigger's SIGNAL.
_REJECTED: Final = {
    *DUPLICATE, 1048, 1263, 1264, 1265, 1292, 1366, 1367, 1406, 1411, 1416, 1441, 1451, 1452, 1525, 1526, 1644, 1690,
    1748, 3140, 3141, 3144, 3156, 3819, 3903, 4025, 4038, 1118, 3850, 1300, 1977, 1071,
}  # fmt: skip
#: Their messages hold a value up to these words; nothing before the words is shown.
_QUOTING: Final = {
    **dict.fromkeys(DUPLICATE, " for key "),
    **dict.fromkeys((1292, 1366), " for column "),
    1411: " for function ",
    **dict.fromkeys((1064, 1300, 1367, 1416, 1525, 1526, 1644, 1690, 3140, 3141), "\0"),
}
_WORDS: Final = {
    1292: "incorrect value", 1366: "incorrect value", 1411: "incorrect value", 1064: "syntax error",
    1690: "value out of range", 1416: "not a geometry", 1300: "invalid character string", 3140: "not JSON",
    1526: "no partition for the value", 1644: "refused by a trigger or procedure",
}  # fmt: skip


def code_of(error: pymysql.Error) -> int:
    """The server's or the driver's number; 0 when there is none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def translate(error: pymysql.Error, where: str) -> WorkerSyncError:
    """The error as the runtime knows it; `where` names the database or table, without a password."""
    code = code_of(error)
    detail = f"{where}: {one_line(error)}"
    if code in _TRANSIENT or code == 0 or 2000 <= code < 3000:
        return Transient(detail)
    if code in _SCHEMA:
        return Halt(
            State.SCHEMA_MISMATCH, detail, "worker-sync check, mend the table, then worker-sync resume PIPELINE"
        )
    if code in _PRIVILEGE:
        return Halt(State.PREFLIGHT_FAILED, detail, "worker-sync check, which names the missing grant")
    if code in _REJECTED or (error.sqlstate or "")[:2] in ("22", "23", "45"):
        return TargetRejected(detail)
    return Permanent(detail)


def unreachable(error: BaseException, where: str) -> Unreachable:
    """The error of a failed attempt to connect."""
    text = one_line(error) if isinstance(error, pymysql.Error) else type(error).__name__
    return Unreachable(f"{where}: {text}")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Run the block with the driver's errors turned into the runtime's."""
    try:
        yield
    except pymysql.Error as error:
        raise translate(error, where) from error


def one_line(error: pymysql.Error) -> str:
    """The server's message with its number, without line breaks and without values of rows."""
    code = code_of(error)
    text = str(error.args[1]) if len(error.args) > 1 else str(error)
    if code in _QUOTING:
        text = _without_value(code, text)
    line = " ".join(text.split()) or type(error).__name__
    return f"{line} (error {code})" if code else line


def _without_value(code: int, text: str) -> str:
    words = _QUOTING[code]
    what = "duplicate entry" if code in DUPLICATE else _WORDS.get(code, "the server refused a value")
    _, found, rest = text.rpartition(words)
    return f"{what}{found}{rest}" if found else what
