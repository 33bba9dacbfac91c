"""Schemas for the tables of the log stream: what a Relation message leaves out is looked up in the catalog."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.postgres import catalog
from connectors.postgres.conn import READ_SETTINGS, connect, redact
from connectors.postgres.errors import translated
from connectors.postgres.pgoutput import Relation
from connectors.postgres.types import load_types
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Column, TableSchema


class Relations:
    """Gives each version of each table an id of its own.

    The server repeats Relation messages for many reasons; only a schema that differs makes a new version. The
    catalog may be ahead of the log, so names, types and key columns come from the message where it has them.
    """

    def __init__(self, url: str, remembered: Sequence[TableSchema] = ()) -> None:
        """`remembered` are tables as they were; of one that the catalog has no more they say the key."""
        self._url = url
        self._keys = {schema.number: schema.key for schema in remembered}
        self._conn: Connection[TupleRow] | None = None
        self._current: dict[int, int] = {}
        self.schemas: dict[int, TableSchema] = {}

    def describe(self, relation: Relation) -> tuple[int, TableSchema]:
        """The id and schema of the table. Raises Halt for one that can't be followed, Transient without a catalog."""
        schema = self._schema(relation)
        current = self._current.get(relation.oid)
        if current is None or self.schemas[current] != schema:
            current = self._current[relation.oid] = len(self.schemas) + 1
            self.schemas[current] = schema
        return current, schema

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _schema(self, relation: Relation) -> TableSchema:
        with translated(redact(self._url)):
            conn = self._connection()
            types = load_types(conn, (column.type for column in relation.columns))
            known = catalog.relation_by_oid(conn, relation.oid)
        in_catalog = {column.name: column for column in known.schema.columns} if known else {}
        # Only where the catalog has just these columns can it tell which of them a name means.
        same = list(in_catalog) == [column.name for column in relation.columns]
        columns = tuple(
            Column(
                column.name,
                types[column.type],
                in_catalog[column.name].nullable if column.name in in_catalog else True,
                in_catalog[column.name].number if same else 0,
            )
            for column in relation.columns
        )
        key = known.schema.key if known else self._keys.get(relation.oid, ())
        return TableSchema(relation.table, columns, _key(relation, key), catalog.ENGINE, relation.oid)

    def _connection(self) -> Connection[TupleRow]:
        if self._conn is None or self._conn.broken or self._conn.closed:
            self._conn = connect(self._url, READ_SETTINGS)
        return self._conn


def _key(relation: Relation, known: tuple[str, ...]) -> tuple[str, ...]:
    """The key's columns, in the order of the key's index where that is `known`. With the identity FULL a table may have
    none: then a row stands for itself."""
    names = {column.name for column in relation.columns}
    if relation.identity == "f":
        return known if names.issuperset(known) else ()
    if relation.identity != "n":
        flagged = tuple(column.name for column in relation.columns if column.identity)
        if flagged:
            return known if set(known) == set(flagged) else flagged
    raise Halt(
        State.TABLE_UNSUPPORTED,
        f"{relation.table} has no key that identifies its rows in the log",
        f"{catalog.no_key_remedy(relation.table)}; then worker-sync resync PIPELINE",
    )
