"""The publication of a stream: made, kept to exactly the tables that are wanted, and watched.

The log has only what the publication had at the time. Somebody else who takes a table out of it, or publishes less of
it, makes changes go missing without a word, and putting it right again hides that. So its comment says of which rows
of the catalog it consists since we altered it last: every later alteration leaves others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from connectors.postgres import comment, identity
from connectors.postgres.comment import SETTLED, SETTLING, Note
from worker_sync.core.schema import TableName

_OPTIONS: Final = sql.SQL("(publish = 'insert, update, delete, truncate', publish_via_partition_root = true)")
_HAS_OPTIONS: Final = """
SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot FROM pg_publication WHERE pubname = %s
"""
# A row's xmin is the transaction that wrote it; what is taken out and put back is another row.
_ROWS: Final = """
SELECT obj_description(p.oid, 'pg_publication'), concat(p.oid, '.', p.xmin),
       (SELECT coalesce(jsonb_object_agg(r.prrelid::text, r.xmin::text), '{}')
        FROM pg_publication_rel r WHERE r.prpubid = p.oid)
FROM pg_publication p WHERE p.pubname = %s
"""
_NAMES: Final = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY(%s::oid[])
"""
_PUBLISHED: Final = """
SELECT n.nspname::text, c.relname::text FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = %s
"""


def exists(conn: Connection[TupleRow], name: str) -> bool:
    return bool(conn.execute("SELECT FROM pg_publication WHERE pubname = %s", (name,)).fetchall())


def altered(conn: Connection[TupleRow], name: str) -> str:
    """What somebody else did to the publication, by which changes may be missing in its stream; empty when nobody did
    anything, and when there is no publication. A table that was dropped has no more changes. Raises psycopg.Error."""
    row = conn.execute(_ROWS, (name,)).fetchone()
    if row is None:
        return ""
    note, version, tables = comment.parse(row[0]), row[1], row[2]
    if not note.state:
        return f"publication {name} was made anew by somebody else"
    if not note.version:
        return ""
    if version != note.version:
        return f"somebody else altered publication {name}"
    if names := _existing(conn, [oid for oid, xmin in note.tables.items() if tables.get(oid) != xmin]):
        return f"somebody else altered what publication {name} has of {', '.join(map(str, names))}"
    return ""


def _existing(conn: Connection[TupleRow], oids: Sequence[str]) -> list[TableName]:
    return _tables(conn, _NAMES, [int(oid) for oid in oids]) if oids else []


def _published(conn: Connection[TupleRow], name: str) -> list[TableName]:
    return _tables(conn, _PUBLISHED, name)


def _tables(conn: Connection[TupleRow], query: str, parameter: object) -> list[TableName]:
    # `query` is one of the constants above.
    return sorted(TableName(namespace, table) for namespace, table in conn.execute(query.encode(), (parameter,)))


def publish(conn: Connection[TupleRow], name: str, tables: Sequence[TableName]) -> bool:
    """Make the publication hold exactly the tables; True when it is new. It is SETTLING afterwards when it holds tables
    that it did not hold, until `settled`. Raises Halt when a table can't be had for it, psycopg.Error for the
    unexpected."""
    created = not exists(conn, name)
    if created:
        with conn.transaction():
            conn.execute(sql.SQL("CREATE PUBLICATION {} WITH {}").format(sql.Identifier(name), _OPTIONS))
            comment.write(conn, name, Note(SETTLED))
    identity.make_full(conn, name, tables)
    with conn.transaction():
        _alter(conn, name, tables)
    identity.put_back(conn, name, tables)
    return created


def _alter(conn: Connection[TupleRow], name: str, tables: Sequence[TableName]) -> None:
    """All or nothing: the comment outlives a crash before the older writers are gone."""
    publication, before, present = sql.Identifier(name), comment.read(conn, name), _published(conn, name)
    note = before
    if set(present) != set(tables):
        note = replace(note, state=SETTLING)
        verb, listed = ("SET", tables) if tables else ("DROP", present)
        conn.execute(sql.SQL("ALTER PUBLICATION {} {} TABLE {}").format(publication, sql.SQL(verb), _names(listed)))
    if conn.execute(_HAS_OPTIONS, (name,)).fetchone() != (True,):
        conn.execute(sql.SQL("ALTER PUBLICATION {} SET {}").format(publication, _OPTIONS))
    version, rows = _rows(conn, name)
    note = replace(note, version=version, tables=rows)
    if note != before:
        comment.write(conn, name, note)


def _rows(conn: Connection[TupleRow], name: str) -> tuple[str, Mapping[str, str]]:
    row = conn.execute(_ROWS, (name,)).fetchone()
    assert row is not None
    return row[1], row[2]


def _names(tables: Sequence[TableName]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(table.namespace, table.name) for table in tables)


def is_settling(conn: Connection[TupleRow], name: str) -> bool:
    return comment.read(conn, name).state == SETTLING


def settled(conn: Connection[TupleRow], name: str) -> None:
    """Note that nobody writes to the tables any more whom the stream doesn't see."""
    comment.write(conn, name, replace(comment.read(conn, name), state=SETTLED))


def drop(conn: Connection[TupleRow], name: str) -> None:
    """Drop the publication if there is one, and put back what was changed for it."""
    if not exists(conn, name):
        return
    # In this order: without the identity a published table refuses its owner's updates.
    if present := _published(conn, name):
        conn.execute(sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(sql.Identifier(name), _names(present)))
    identity.put_back(conn, name, ())
    conn.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)))
