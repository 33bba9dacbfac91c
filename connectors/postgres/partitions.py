"""Which partitions tables have, by PostgreSQL's catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from connectors.postgres.catalog import USER_TABLES, own_schemas
from worker_sync.core.partitions import Partition, Partitions
from worker_sync.core.schema import TableName

#: Milliseconds for a question about one partition's rows. Without an answer rows have come, or gone.
_LOOK_MS: Final = 5_000

# Also those that have no partition, or have none any more.
_ROOTS_SQL: Final = f"""
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'p' AND {USER_TABLES}
"""
# CREATE TABLE ... PARTITION OF makes table, columns and link in one command. ATTACH makes the link in another
# transaction, or writes the columns once more in the same one.
_TREE_SQL: Final = f"""
WITH RECURSIVE tree AS (
    SELECT c.oid AS root, n.nspname::text AS namespace, c.relname::text AS name,
           i.inhrelid, i.inhparent, i.xmin AS linked_by, ''::text AS above
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_inherits i ON i.inhparent = c.oid
    WHERE c.relkind = 'p' AND {USER_TABLES}
  UNION ALL
    SELECT t.root, t.namespace, t.name, i.inhrelid, i.inhparent, i.xmin, concat(t.above, t.linked_by, '/')
    FROM tree t JOIN pg_inherits i ON i.inhparent = t.inhrelid
)
SELECT t.namespace, t.name, t.inhrelid::text, t.inhparent::text, c.oid::regclass::text,
       concat(t.above, t.linked_by), c.relkind = 'r', c.relfilenode::text, c.xmin::text,
       EXISTS (SELECT FROM pg_attribute made JOIN pg_attribute a ON a.attrelid = made.attrelid AND a.attnum > 0
               WHERE made.attrelid = c.oid AND made.attnum = -6 AND made.xmin = t.linked_by
                 AND a.xmin = made.xmin AND a.cmin = made.cmin)
FROM tree t JOIN pg_class c ON c.oid = t.inhrelid
"""
_ENDED_SQL: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
# These wait for whoever holds the partition for itself; the catalog does not.
_EMPTY_SQL: Final = "SELECT coalesce(pg_relation_size(%s::oid), 0) = 0"
_OLD_ROW_SQL: Final = "SELECT EXISTS (SELECT FROM ONLY {} WHERE age(xmin) > age(xid({}::xid8)))"


class _Found(NamedTuple):
    namespace: str
    table: str
    oid: str
    parent: str
    name: str
    link: str
    holds_rows: bool
    file: str
    by: str
    born: bool


def partitions(conn: Connection[TupleRow], before: Mapping[TableName, Partitions]) -> dict[TableName, Partitions]:
    """The partitions of every partitioned user table, in view of what they were `before`. Raises psycopg.Error."""
    moment = ended(conn)
    roots = conn.execute(_ROOTS_SQL, own_schemas()).fetchall()
    trees: dict[TableName, dict[str, _Found]] = {TableName(*root): {} for root in roots}
    for row in conn.execute(_TREE_SQL, own_schemas()):
        found = _Found(*row)
        trees.setdefault(TableName(found.namespace, found.table), {})[found.oid] = found
    nothing = Partitions(moment, {})
    return {
        table: Partitions(moment, {oid: _member(conn, oid, tree, before.get(table, nothing)) for oid in tree})
        for table, tree in trees.items()
    }


def ended(conn: Connection[TupleRow]) -> str:
    """See `Partitions.ended`; asked before the catalog is, which then has all that had ended. Raises psycopg.Error."""
    (number,) = conn.execute(_ENDED_SQL).fetchone() or ("",)
    return str(number)


def _member(conn: Connection[TupleRow], oid: str, tree: Mapping[str, _Found], before: Partitions) -> Partition:
    found, was = tree[oid], before.members.get(oid)
    linked = was is not None and was.link == found.link
    # Asked once: who has not recorded it yet is to get the same answer.
    told = was.told if was is not None and linked else _is_born(oid, tree, before) or _is_empty(conn, oid)
    if not found.holds_rows:
        return Partition(found.name, found.link, told=told)
    rows = found.file
    if was is not None and (was.file == found.file or _has_old_row(conn, found.name, before.ended)):
        rows = was.rows
    return Partition(found.name, found.link, found.file, rows, found.by, told)


def _is_born(oid: str, tree: Mapping[str, _Found], before: Partitions) -> bool:
    """It, and every partition above it that was not there before, was made as one."""
    if oid not in tree:
        return True
    found, was = tree[oid], before.members.get(oid)
    if was is not None and was.link == found.link:
        return True
    return found.born and _is_born(found.parent, tree, before)


def _has_old_row(conn: Connection[TupleRow], name: str, ended: str) -> bool:
    """Whether a partition has a row of a transaction that had ended by the last look. TRUNCATE leaves none, and nobody
    can add one; VACUUM FULL and its like leave all of them."""
    # As PostgreSQL has written the name.
    return _is_so(conn, sql.SQL(_OLD_ROW_SQL).format(sql.SQL(name), sql.Literal(ended)))


def _is_empty(conn: Connection[TupleRow], oid: str) -> bool:
    return _is_so(conn, sql.SQL(_EMPTY_SQL), [oid])


def _is_so(conn: Connection[TupleRow], query: sql.SQL | sql.Composed, parameters: Sequence[str] | None = None) -> bool:
    try:
        with conn.transaction():
            conn.execute(f"SET LOCAL statement_timeout = {_LOOK_MS}")
            (answer,) = conn.execute(query, parameters).fetchone() or (False,)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable, psycopg.errors.QueryCanceled):
        return False
    return bool(answer)
