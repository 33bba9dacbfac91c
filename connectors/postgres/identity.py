"""REPLICA IDENTITY FULL for published tables without a key, and putting back what was there.

PostgreSQL refuses the application's own UPDATE and DELETE on a published table whose rows the log can't identify. So a
table without a key gets the identity before it joins the publication, and loses it after it has left. The publication's
comment says which tables those are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from connectors.postgres import catalog, comment
from connectors.postgres.errors import one_line
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName

log = logging.getLogger(__name__)

#: ALTER TABLE needs the table for itself for a moment, and whoever comes behind it waits too: so long each time, in
#: milliseconds, so often, with a pause in seconds that lets the others through.
LOCK_MS: Final = 1_000
LOCK_TRIES: Final = 5
_PAUSE_S: Final = 0.3
_LOCK_NOT_AVAILABLE: Final = "55P03"

# A publication of others that needs the identity that we would take away.
_PUBLISHED_BY_OTHERS: Final = """
SELECT EXISTS (
    SELECT FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname
    WHERE t.schemaname = %s AND t.tablename = %s AND p.pubname <> %s AND (p.pubupdate OR p.pubdelete))
"""


def make_full(conn: Connection[TupleRow], name: str, tables: Sequence[TableName]) -> None:
    """Give the tables that need it REPLICA IDENTITY FULL, and note that in the publication's comment.

    Raises Halt with the statement when a table can't be had for it, psycopg.Error for the unexpected."""
    relations = catalog.named_relations(conn, tables)
    for table in tables:
        if table in relations and relations[table].needs_full:
            _make_full(conn, name, table)


def _make_full(conn: Connection[TupleRow], name: str, table: TableName) -> None:
    for attempt in range(LOCK_TRIES):
        time.sleep(_PAUSE_S if attempt else 0)
        try:
            with conn.transaction():
                _alter(conn, table, "FULL")
                note = comment.read(conn, name)
                comment.write(conn, name, replace(note, full=note.full | {table}))
        except psycopg.errors.LockNotAvailable:
            continue
        except psycopg.errors.InsufficientPrivilege as error:
            raise _halt(table, one_line(error)) from error
        log.info(
            "set REPLICA IDENTITY FULL on %s, which has no primary key", table, extra={"action": "replica_identity_set"}
        )
        return
    raise _halt(table, f"{LOCK_TRIES} times in a row another transaction held the table for {LOCK_MS} ms")


def _halt(table: TableName, why: str) -> Halt:
    detail = f"{table} has no primary key and needs REPLICA IDENTITY FULL, which could not be set: {why}"
    return Halt(State.PREFLIGHT_FAILED, detail, catalog.full_remedy(table))


def _alter(conn: Connection[TupleRow], table: TableName, identity: str) -> None:
    conn.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_MS)))
    name = sql.Identifier(table.namespace, table.name)
    conn.execute(sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY {}").format(name, sql.SQL(identity)))


def put_back(conn: Connection[TupleRow], name: str, published: Collection[TableName]) -> None:
    """Undo what `make_full` did to tables that are not in the publication any more.

    A table that another publication needs as it is, or that can't be had, keeps the identity, and the log says so."""
    note = comment.read(conn, name)
    gone = sorted(note.full - set(published))
    if not gone:
        return
    relations = catalog.named_relations(conn, gone)
    for table in gone:
        if table in relations and relations[table].identity == "f":
            _put_back(conn, name, table)
    comment.write(conn, name, replace(note, full=note.full - set(gone)))


def _put_back(conn: Connection[TupleRow], name: str, table: TableName) -> None:
    if conn.execute(_PUBLISHED_BY_OTHERS, (table.namespace, table.name, name)).fetchone() == (True,):
        log.info("%s keeps REPLICA IDENTITY FULL for another publication", table, extra={"action": "identity_kept"})
        return
    try:
        with conn.transaction():
            _alter(conn, table, "DEFAULT")
    except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
        statement = f"ALTER TABLE {catalog.quoted(table)} REPLICA IDENTITY DEFAULT"
        log.warning(
            "%s keeps REPLICA IDENTITY FULL (%s); %s takes it away",
            table,
            one_line(error),
            statement,
            extra={"action": "identity_kept"},
        )
        return
    log.info("set REPLICA IDENTITY DEFAULT on %s again", table, extra={"action": "replica_identity_put_back"})
