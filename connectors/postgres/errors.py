"""What PostgreSQL's errors mean to the runtime, in one place.

A failure to get in is Unreachable, whatever the reason: a wrong password must never make a worker park changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from worker_sync.core.errors import (
    Halt,
    Permanent,
    State,
    TargetRejected,
    Transient,
    Unreachable,
    WorkerSyncError,
)

#: Connection, resources, concurrency, operator intervention, system and internal errors ("tuple concurrently updated").
_TRANSIENT_CLASSES: Final = {"08", "25", "40", "53", "57", "58", "XX"}
#: Object in use, lock not available, read-only transaction (a failover is under way).
_TRANSIENT_CODES: Final = {"55006", "55P03", "25006"}
#: Data exception and integrity constraint violation.
_REJECTED_CLASSES: Final = {"22", "23"}
#: Data exceptions, whose messages quote the value.
_QUOTING_CLASS: Final = "22"
#: Undefined table, column, schema, object.
_SCHEMA_CODES: Final = {"42P01", "42703", "3F000", "42704"}
_PRIVILEGE_CODES: Final = {"42501"}


def translate(error: psycopg.Error, where: str) -> WorkerSyncError:
    """The error as the runtime knows it; `where` names the database or table, without a password."""
    code = error.sqlstate or ""
    detail = f"{where}: {one_line(error)}"
    if not code:
        return Transient(detail) if isinstance(error, psycopg.OperationalError) else Permanent(detail)
    if code in _TRANSIENT_CODES or code[:2] in _TRANSIENT_CLASSES:
        return Transient(detail)
    if code in _SCHEMA_CODES:
        return Halt(
            State.SCHEMA_MISMATCH, detail, "worker-sync check, mend the table, then worker-sync resume PIPELINE"
        )
    if code in _PRIVILEGE_CODES:
        return Halt(State.PREFLIGHT_FAILED, detail, "worker-sync check, which names the missing grant")
    if code[:2] in _REJECTED_CLASSES:
        return TargetRejected(detail)
    return Permanent(detail)


def unreachable(error: psycopg.Error, where: str) -> Unreachable:
    """The error of a failed attempt to connect."""
    return Unreachable(f"{where}: {one_line(error)}")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Run the block with psycopg's errors turned into the runtime's."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, where) from error


def one_line(error: psycopg.Error) -> str:
    """The server's message without driver prefixes, hints, line breaks and values of rows."""
    text = error.diag.message_primary or str(error)
    if (error.sqlstate or "").startswith(_QUOTING_CLASS):
        # From the first quotation mark to the last: a value may hold some, and line breaks.
        text = re.sub(r'".*("|\Z)', '"..."', text, flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    # libpq repeats "connection to server at ..." per address; the last part says what went wrong.
    line = line.removeprefix("connection failed: ").removeprefix("connection is bad: ")
    return line.replace("FATAL:  ", "").replace("ERROR:  ", "")
