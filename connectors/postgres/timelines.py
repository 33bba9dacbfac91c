"""Timelines: the histories of a server's log.

A promoted standby and a recovery to a point in time begin a new timeline, whose log goes on from a position that the
old one may have passed: there the same position means something else. A new timeline's history file lists those that
it came from, each as a line "timeline TAB position at which it was left TAB reason" (PostgreSQL's documentation,
chapter Continuous Archiving, and the replication command TIMELINE_HISTORY).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from connectors.base import ENDLESS
from connectors.postgres.conn import connect
from connectors.postgres.pgoutput import format_lsn
from worker_sync.core.errors import Transient

# A server that is promoted has a checkpoint of its new timeline in its control file only later.
_CURRENT: Final = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"


def current(conn: Connection[TupleRow]) -> int:
    """The timeline that the server writes. Raises psycopg.Error."""
    row = conn.execute(_CURRENT).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def on_a_primary(conn: Connection[TupleRow], where: str) -> Iterator[None]:
    """Run the block; what fails in it because the server is a standby raises Transient."""
    try:
        yield
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        if conn.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
            text = "the server is a standby; waiting until it is promoted, or another one is there"
            raise Transient(f"{where}: {text}") from error
        raise


def shared(url: str, before: int, now: int) -> str:
    """The last commit position that timeline `before` has in common with `now`, whose history file the server has; see
    `connectors.base.Source.shared`. Raises psycopg.Error."""
    if before == now:
        return ENDLESS
    try:
        with connect(url, replication=True) as conn:
            row = conn.execute(sql.SQL("TIMELINE_HISTORY {}").format(sql.Literal(now))).fetchone()
    except psycopg.errors.UndefinedFile:
        # The first timeline has none.
        return ""
    assert row is not None
    # Until version 14 the server calls the text bytea.
    content = row[1] if isinstance(row[1], str) else bytes(row[1]).decode()
    left = left_at(content, before)
    return format_lsn(left - 1) if left else ""


def left_at(history: str, timeline: int) -> int:
    """The LSN at which `timeline` was left by those of a history file; 0 when they don't come from it."""
    for line in history.splitlines():
        parent, _, rest = line.strip().partition("\t")
        if parent == str(timeline):
            high, low = rest.split()[0].split("/")
            return (int(high, 16) << 32) + int(low, 16)
    return 0
