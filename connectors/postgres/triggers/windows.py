"""The windows of a stream in the source database: read in order, and deleted once all of them is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.postgres.triggers.names import parse, position
from worker_sync.core.change import TransactionInfo

#: Changes that are deleted in one transaction, and windows whose changes are.
DELETE_ROWS: Final = 20_000
DELETE_WINDOWS: Final = 50

_NEXT_SQL: Final = """
SELECT number, xids::text[], counts, sizes, times FROM worker_sync_audit.windows
WHERE number > %s OR (number = %s AND cardinality(xids) > %s) ORDER BY number LIMIT 1
"""
_ROWS_SQL: Final = """
SELECT xid::text, id, op::text, layout, context, old, new, usename, role, application_name, host(client_addr)
FROM worker_sync_audit.changes
WHERE xid = ANY (%s::xid8[]) AND id > %s ORDER BY xid, id LIMIT %s
"""
_DONE_SQL: Final = """
SELECT number, xids::text[] FROM worker_sync_audit.windows
WHERE number < %s OR (number = %s AND cardinality(xids) <= %s) ORDER BY number LIMIT %s
"""
_DELETE_SQL: Final = """
DELETE FROM worker_sync_audit.changes WHERE (xid, id) IN (
    SELECT xid, id FROM worker_sync_audit.changes WHERE xid = ANY (%s::xid8[]) LIMIT %s)
"""


class Transaction(NamedTuple):
    """A transaction of a window: how many `changes` it recorded, and about how many bytes they have."""

    info: TransactionInfo
    xid: str
    changes: int
    size: int


def cut(conn: Connection[TupleRow]) -> str | None:
    """Put what has committed into windows; the newest position, None without a stream. What is in a window is on the
    server's disk, so no crash can take back what is delivered of it. Raises psycopg.Error."""
    row = conn.execute("SELECT worker_sync_audit.cut()").fetchone()
    assert row is not None
    found: str | None = row[0]
    return found


def following(conn: Connection[TupleRow], commit: str) -> list[Transaction]:
    """The transactions behind a position, up to the end of one window; none when there are no more."""
    number, place = parse(commit)
    row = conn.execute(_NEXT_SQL, (number, number, place)).fetchone()
    if row is None:
        return []
    found, xids, counts, sizes, times = row
    skip = place if found == number else 0
    return [
        Transaction(_info(position(found, at), xid, time), xid, count, size)
        for at, (xid, count, size, time) in enumerate(zip(xids, counts, sizes, times, strict=True), 1)
        if at > skip
    ]


def _info(commit: str, xid: str, time: int) -> TransactionInfo:
    # As in the log, which has no more of it.
    return TransactionInfo(commit, time, str(int(xid) & 0xFFFFFFFF))


def rows(conn: Connection[TupleRow], xids: list[str], limit: int) -> Iterator[list[tuple[Any, ...]]]:
    """What these transactions have recorded, ordered by transaction and number, in pages of so many rows: of one
    transaction any number of pages, of several one."""
    after = -1
    while True:
        page = conn.execute(_ROWS_SQL, (xids, after, limit)).fetchall()
        if page:
            yield page
        if len(page) < limit or len(xids) > 1:
            return
        after = page[-1][1]


def delete(conn: Connection[TupleRow], confirmed: str) -> bool:
    """Delete some of what is recorded: whole windows, and their changes before them, so that what is left after a crash
    is deleted later. False when there is nothing more."""
    number, place = parse(confirmed)
    found = conn.execute(_DONE_SQL, (number, number, place, DELETE_WINDOWS)).fetchall()
    if not found:
        return False
    xids = [xid for _, some in found for xid in some]
    if conn.execute(_DELETE_SQL, (xids, DELETE_ROWS)).rowcount < DELETE_ROWS:
        conn.execute("DELETE FROM worker_sync_audit.windows WHERE number = ANY (%s)", ([n for n, _ in found],))
    return True
