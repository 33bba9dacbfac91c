"""Reads current rows, chunk by chunk, each chunk in a snapshot of its own that knows which transactions it saw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow
from psycopg.types.string import TextLoader

from connectors.base import Chunk, Scan, TableReader
from connectors.postgres import catalog
from connectors.postgres.conn import READ_SETTINGS, connect, redact
from connectors.postgres.errors import translated
from connectors.postgres.pgoutput import format_lsn
from connectors.postgres.types import Converter, converters, to_text
from worker_sync.core.change import TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row

#: Keys of one query in `rows`.
_KEYS_PER_QUERY: Final = 500
#: Room for the header of a log page.
_PAGE_HEADER: Final = 40

_PARTITIONED_SQL: Final = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)"
_SNAPSHOT_SQL: Final = """
SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint,
       ARRAY(SELECT x::text::bigint FROM pg_snapshot_xip(s) AS x),
       CASE WHEN pg_is_in_recovery() THEN NULL ELSE (pg_current_wal_insert_lsn() - '0/0')::bigint END,
       current_setting('wal_block_size')::int
FROM pg_current_snapshot() AS s
"""


class PostgresChunk(Chunk):
    """Rows and the snapshot (64-bit transaction ids) that they were read in."""

    def __init__(self, xmin: int, xmax: int, running: frozenset[int], horizon: str) -> None:
        self.rows: list[Row] = []
        self.done = True
        self.horizon = horizon
        self._xmin = xmin
        self._xmax = xmax
        self._running = running

    def beside(self) -> PostgresChunk:
        """An empty chunk of the same snapshot."""
        return PostgresChunk(self._xmin, self._xmax, self._running, self.horizon)

    def sees(self, info: TransactionInfo) -> bool:
        """See `Chunk.sees`. The log has the low 32 bits of a transaction id: of the ids that end so, the nearest to
        the snapshot is meant, since a server never has ids in use that are 2**31 apart."""
        distance = (int(info.xid) - self._xmax) & 0xFFFFFFFF
        if distance >= 1 << 31:
            distance -= 1 << 32
        xid = self._xmax + distance
        return xid < self._xmin or (xid < self._xmax and xid not in self._running)


class PostgresReader(TableReader):
    def __init__(self, url: str) -> None:
        self._url = url
        self._where = redact(url)
        self._conn: Connection[TupleRow] | None = None
        self._texts: psycopg.RawCursor[TupleRow] | None = None

    def schema(self, table: TableName) -> TableSchema | None:
        with translated(self._where):
            relation = catalog.named_relations(self._connection(), [table]).get(table)
        return relation.schema if relation else None

    def chunk(self, table: TableSchema, after: Key | None, limit: int) -> Chunk:
        key = _columns(table.key)
        with translated(f"{self._where} {table.table}"):
            query = _select(table, self._connection())
            if after is not None:
                query += sql.SQL(" WHERE ({}) > ({})").format(key, _placeholders(len(after)))
            query += sql.SQL(" ORDER BY {} LIMIT {}").format(key, sql.Literal(limit))
            chunk = self._read(table, [(query, [to_text(value) for value in after or ()])])
        chunk.done = len(chunk.rows) < limit
        return chunk

    def rows(self, table: TableSchema, keys: Sequence[Key]) -> Chunk:
        with translated(f"{self._where} {table.table}"):
            head = sql.SQL("{} WHERE ({}) IN ").format(_select(table, self._connection()), _columns(table.key))
            queries = []
            remaining = iter(keys)
            while some := list(islice(remaining, _KEYS_PER_QUERY)):
                parameters = [to_text(value) for key in some for value in key]
                queries.append((head + _tuples(len(some), len(table.key)), parameters))
            return self._read(table, queries)

    def scan(self, table: TableSchema, limit: int) -> Scan:
        """See `TableReader.scan`. The snapshot keeps VACUUM from removing what it can still see."""
        with translated(f"{self._where} {table.table}"):
            return PostgresScan(connect(self._url, READ_SETTINGS), self._where, table, limit)

    def count(self, table: TableSchema) -> int:
        """The planner's estimate, which needs no statistics to be there and knows partitions."""
        with translated(f"{self._where} {table.table}"):
            query = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {}").format(_own_rows(table, self._connection()))
            row = self._connection().execute(query).fetchone()
        assert row is not None
        return int(row[0][0]["Plan"]["Plan Rows"])

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = self._texts = None

    def _connection(self) -> Connection[TupleRow]:
        if self._conn is None or self._conn.closed or self._conn.broken:
            self._conn = connect(self._url, READ_SETTINGS)
            # The server refuses a prepared query once a column's type has changed, for as long as it is prepared.
            self._conn.prepare_threshold = None
            self._texts = _text_cursor(self._conn)
        return self._conn

    def _read(self, table: TableSchema, queries: Sequence[tuple[sql.Composed, list[str]]]) -> PostgresChunk:
        conn = self._connection()
        assert self._texts is not None
        with conn.transaction():
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            chunk = _snapshot(conn)
            convert = converters(table)
            for query, parameters in queries:
                found = self._texts.execute(query, parameters).fetchall()
                chunk.rows.extend(_converted(table, convert, found))
        return chunk


class PostgresScan(Scan):
    """A cursor on the server, in a transaction that stays open. Takes over the connection."""

    def __init__(self, conn: Connection[TupleRow], where: str, table: TableSchema, limit: int) -> None:
        self._conn = conn
        self._where = f"{where} {table.table}"
        self._table = table
        self._limit = limit
        try:
            query = _select(table, conn)
            conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            self._snapshot = _snapshot(conn)
            conn.execute(sql.SQL("DECLARE rows NO SCROLL CURSOR FOR {}").format(query))
            self._texts = _text_cursor(conn)
        except BaseException:
            conn.close()
            raise

    def chunk(self) -> Chunk:
        chunk = self._snapshot.beside()
        with translated(self._where):
            found = self._texts.execute(f"FETCH FORWARD {self._limit} FROM rows").fetchall()
        chunk.rows = _converted(self._table, converters(self._table), found)
        chunk.done = len(found) < self._limit
        return chunk

    def close(self) -> None:
        self._conn.close()


def _snapshot(conn: Connection[TupleRow]) -> PostgresChunk:
    """The snapshot that the transaction's first query takes, and the log's end after it was taken.

    The order matters: whatever the snapshot sees had written its commit record before, so before that end.
    """
    row = conn.execute(_SNAPSHOT_SQL).fetchone()
    assert row is not None
    xmin, xmax, running, end, page = row
    # A standby has no end of its own, and nothing is captured from it.
    horizon = "" if end is None else format_lsn(_end_of_record(end, page) - 1)
    return PostgresChunk(xmin, xmax, frozenset(running), horizon)


def _end_of_record(lsn: int, page: int) -> int:
    """The insert position is behind a page's header when the last record filled the page before; an idle log stream
    would never get there."""
    return lsn - lsn % page if lsn % page <= _PAGE_HEADER else lsn


def _text_cursor(conn: Connection[TupleRow]) -> psycopg.RawCursor[TupleRow]:
    """A cursor that leaves every value as the server's text, and any % in a name alone."""
    cursor = psycopg.RawCursor(conn)
    for known in psycopg.adapters.types:
        cursor.adapters.register_loader(known.oid, TextLoader)
        if known.array_oid:
            cursor.adapters.register_loader(known.array_oid, TextLoader)
    return cursor


def _converted(table: TableSchema, convert: Sequence[Converter], rows: list[TupleRow]) -> list[Row]:
    """Column by column, which is faster than row by row."""
    if not rows or not any(convert):
        return rows
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for index, function in enumerate(convert):
        if function is not None:
            try:
                columns[index] = [None if text is None else function(text) for text in columns[index]]
            except (ValueError, KeyError) as error:
                column = table.columns[index]
                detail = f"{table.table}.{column.name} holds a value that is no {column.type.kind}"
                raise Halt(
                    State.UNREPRESENTABLE_VALUE, detail, "correct the value, then worker-sync resume PIPELINE"
                ) from error
    return list(zip(*columns, strict=True))


def _select(table: TableSchema, conn: Connection[TupleRow]) -> sql.Composed:
    """Built before the transaction that it is for: that one's first query takes the snapshot."""
    return sql.SQL("SELECT {} FROM {}").format(_columns(table.column_names), _own_rows(table, conn))


def _own_rows(table: TableSchema, conn: Connection[TupleRow]) -> sql.Composed:
    """The table with the rows of its partitions, as the log has them, and without those of tables that inherit from it,
    which in the log are tables of their own. Asked anew each time: one that is created anew may be partitioned."""
    name = _name(table.table)
    row = conn.execute(_PARTITIONED_SQL, (name.as_string(conn),)).fetchone()
    return sql.SQL("{}" if row is not None and row[0] else "ONLY {}").format(name)


def _name(table: TableName) -> sql.Identifier:
    return sql.Identifier(table.namespace, table.name) if table.namespace else sql.Identifier("public", table.name)


def _columns(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _placeholders(count: int, first: int = 1) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(f"${number}") for number in range(first, first + count))


def _tuples(count: int, width: int) -> sql.Composed:
    each = (sql.SQL("({})").format(_placeholders(width, 1 + number * width)) for number in range(count))
    return sql.SQL("({})").format(sql.SQL(", ").join(each))
