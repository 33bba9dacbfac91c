"""Tables as PostgreSQL's catalog has them now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.postgres.types import TypeRef, load_types
from worker_sync.core.schema import Column, TableName, TableSchema, Type

ENGINE: Final = "postgresql"
#: Where Worker-Sync keeps what is its own in a database.
OWN_SCHEMA: Final = "worker_sync"
#: And what audit triggers write there.
AUDIT_SCHEMA: Final = "worker_sync_audit"

_RELATIONS_SQL: Final = """
SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relreplident::text, c.relpersistence::text, c.relhassubclass
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND {where}
ORDER BY n.nspname, c.relname
"""
#: Says of a table `c` in its namespace `n` that it is a user's, partitions aside; see `own_schemas`.
USER_TABLES: Final = """NOT c.relispartition AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'
  AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%s)"""
_NAMED: Final = "(n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"

_COLUMNS_SQL: Final = """
SELECT attrelid::bigint, attname::text, atttypid::bigint, atttypmod, NOT attnotnull, attnum
FROM pg_attribute
WHERE attrelid = ANY(%s) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attrelid, attnum
"""

_INDEXES_SQL: Final = """
SELECT i.indrelid::bigint, i.indisprimary, i.indisreplident, i.indimmediate,
       array_agg(a.attname::text ORDER BY k.place), bool_and(a.attnotnull)
FROM pg_index i
CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY(%s) AND i.indisunique AND i.indisvalid AND k.place <= i.indnkeyatts
  AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid, i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate
ORDER BY i.indisprimary DESC, i.indexrelid
"""


#: The versions of the catalog's rows: cheaper to read than what they say, and they change with it.
_FINGERPRINT_SQL: Final = f"""
WITH tables AS (
    SELECT c.oid, c.relname, c.relnamespace, c.relreplident, c.relpersistence
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND {USER_TABLES}
)
SELECT md5(concat_ws(' ',
    (SELECT string_agg(tables::text, ',' ORDER BY oid) FROM tables),
    (SELECT string_agg(concat(a.attrelid, '.', a.attnum, '=', a.xmin), ',' ORDER BY a.attrelid, a.attnum)
     FROM pg_attribute a JOIN tables ON tables.oid = a.attrelid WHERE a.attnum > 0),
    (SELECT string_agg(concat(i.indexrelid, '=', i.xmin), ',' ORDER BY i.indexrelid)
     FROM pg_index i JOIN tables ON tables.oid = i.indrelid WHERE i.indisunique),
    (SELECT string_agg(concat(e.oid, '=', e.xmin), ',' ORDER BY e.oid) FROM pg_enum e),
    (SELECT string_agg(concat(i.inhrelid, '=', i.xmin, '.', p.relfilenode), ',' ORDER BY i.inhrelid)
     FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid WHERE p.relispartition AND p.relkind IN ('r', 'p'))
))
"""


def own_schemas() -> tuple[list[str]]:
    """The parameter of USER_TABLES."""
    return ([OWN_SCHEMA, AUDIT_SCHEMA],)


class _ColumnRow(NamedTuple):
    name: str
    type: TypeRef
    nullable: bool
    number: int


class _Index(NamedTuple):
    primary: bool
    identity: bool
    immediate: bool
    columns: tuple[str, ...]
    not_null: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table in the catalog. `identity` is its replica identity (d, f, i or n), `permanent` False when unlogged,
    `parent` True when other tables inherit from it or are its partitions. A table whose default identity is nothing has
    the key in `schema` that it will have with the identity FULL (`needs_full`), which may be none."""

    oid: int
    identity: str
    permanent: bool
    parent: bool
    needs_full: bool
    schema: TableSchema

    @property
    def obstacle(self) -> str:
        """Why its changes can't be captured; empty when they can."""
        if not self.permanent:
            return "it is unlogged, so its changes are not in the log"
        if self.identity == "n":
            return "its replica identity is NOTHING"
        if self.parent and (self.needs_full or not self.schema.key):
            # A partition that is made later would not have the identity, and refuse its owner's updates.
            return "it has no primary key, and partitions or heirs"
        return "" if self.schema.key or self.needs_full or self.identity == "f" else "it has no primary key"

    @property
    def remedy(self) -> str:
        """The statement that takes the obstacle away."""
        if not self.permanent:
            return f"ALTER TABLE {quoted(self.schema.table)} SET LOGGED"
        if self.identity == "n":
            return f"ALTER TABLE {quoted(self.schema.table)} REPLICA IDENTITY DEFAULT"
        return no_key_remedy(self.schema.table)


def now(connection: Connection[TupleRow]) -> datetime:
    """The server's clock, in UTC. Raises psycopg's errors."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None
    return datetime.fromtimestamp(row[0], UTC)


def full_remedy(table: TableName) -> str:
    return f"ALTER TABLE {quoted(table)} REPLICA IDENTITY FULL"


def no_key_remedy(table: TableName) -> str:
    return f"ALTER TABLE {quoted(table)} ADD PRIMARY KEY (...), or exclude the table"


def quoted(table: TableName) -> str:
    """The name as SQL, for texts that a person runs."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in (table.namespace, table.name))


def all_relations(conn: Connection[TupleRow]) -> list[Relation]:
    """All user tables, in name order, partitioned ones as one. Raises psycopg.Error."""
    return _load(conn, USER_TABLES, own_schemas())


def fingerprint(conn: Connection[TupleRow]) -> str:
    """Another text whenever a user table may look different: one query, whose answer is short. Raises psycopg.Error."""
    row = conn.execute(_FINGERPRINT_SQL, own_schemas()).fetchone()
    assert row is not None
    return str(row[0])


def named_relations(conn: Connection[TupleRow], tables: Sequence[TableName]) -> dict[TableName, Relation]:
    """Those of the tables that exist. Raises psycopg.Error."""
    names = ([table.namespace for table in tables], [table.name for table in tables])
    return {relation.schema.table: relation for relation in _load(conn, _NAMED, names)}


def relation_by_oid(conn: Connection[TupleRow], oid: int) -> Relation | None:
    """Raises psycopg.Error."""
    found = _load(conn, "c.oid = %s", (oid,))
    return found[0] if found else None


def _load(conn: Connection[TupleRow], where: str, parameters: Sequence[object]) -> list[Relation]:
    # `where` is one of the constants above.
    heads = conn.execute(_RELATIONS_SQL.format(where=where).encode(), parameters).fetchall()
    oids = [head[0] for head in heads]
    columns = _columns(conn, oids)
    indexes = _indexes(conn, oids)
    types = load_types(conn, (column.type for rows in columns.values() for column in rows))
    relations = []
    for oid, namespace, name, identity, persistence, parent in heads:
        key = key_of(identity, indexes[oid])
        needs_full = identity == "d" and not key
        if needs_full:
            key = key_of("f", indexes[oid])
        schema = _schema(oid, TableName(namespace, name), columns[oid], key, types)
        relations.append(Relation(oid, identity, persistence == "p", parent, needs_full, schema))
    return relations


def _columns(conn: Connection[TupleRow], oids: list[int]) -> dict[int, list[_ColumnRow]]:
    found: dict[int, list[_ColumnRow]] = {oid: [] for oid in oids}
    for oid, name, type_oid, typmod, nullable, number in conn.execute(_COLUMNS_SQL, (oids,)):
        found[oid].append(_ColumnRow(name, (type_oid, typmod), nullable, number))
    return found


def _indexes(conn: Connection[TupleRow], oids: list[int]) -> dict[int, list[_Index]]:
    found: dict[int, list[_Index]] = {oid: [] for oid in oids}
    for oid, primary, identity, immediate, names, not_null in conn.execute(_INDEXES_SQL, (oids,)):
        found[oid].append(_Index(primary, identity, immediate, tuple(names), not_null))
    return found


def key_of(identity: str, indexes: Sequence[_Index]) -> tuple[str, ...]:
    """The columns that identify a row both in the table and in the log; empty when there are none."""
    for index in indexes:
        # The server leaves a deferrable primary key out of the log, as if there were none.
        by_default = identity == "d" and index.primary and index.immediate
        by_index = identity == "i" and index.identity
        by_row = identity == "f" and (index.primary or (index.immediate and index.not_null))
        if by_default or by_index or by_row:
            return index.columns
    return ()


def _schema(
    oid: int, table: TableName, columns: list[_ColumnRow], key: tuple[str, ...], types: Mapping[TypeRef, Type]
) -> TableSchema:
    names = {column.name for column in columns}
    return TableSchema(
        table,
        tuple(Column(column.name, types[column.type], column.nullable, column.number) for column in columns),
        # A generated column of a key is not in the log.
        key if names.issuperset(key) else (),
        ENGINE,
        oid,
    )
