"""Reads current rows, chunk by chunk, each chunk in one consistent snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec

from connectors.base import Chunk, Scan, TableReader
from connectors.mysql.catalog import TableInfo, load_table
from connectors.mysql.conn import Connection, close, connect, database_name, is_mariadb, query, redact
from connectors.mysql.errors import translated
from connectors.mysql.keys import among, beyond, in_order, key_columns
from connectors.mysql.plain_snapshots import MysqlChunk, PlainSnapshots, Snapshots
from connectors.mysql.scan import MysqlScan
from connectors.mysql.sql import quote, quote_table
from connectors.mysql.types import Converter, converters
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Kind, TableName, TableSchema
from worker_sync.core.values import Key, Row

#: Keys of one query in `rows`; MariaDB turns longer lists into a join of its own making.
_KEYS_PER_QUERY: Final = 500


class MysqlReader(TableReader):
    """Reads tables of the URL's database, or of the database that a table's namespace names.

    `locate` gives the place of a table; a target keeps all in one database.
    """

    def __init__(
        self,
        url: str,
        snapshots: Snapshots | None = None,
        locate: Callable[[TableName], TableName] = lambda table: table,
    ) -> None:
        self._url = url
        self._database = database_name(url)
        self._where = redact(url)
        self._snapshots = snapshots or PlainSnapshots()
        self._locate = locate
        self._connection: Connection | None = None

    def schema(self, table: TableName) -> TableSchema | None:
        with self._ready(table) as connection:
            info = self._load(connection, table)
        return msgspec.structs.replace(info.schema(""), table=table) if info else None

    def chunk(self, table: TableSchema, after: Key | None, limit: int) -> Chunk:
        with self._ready(table.table) as connection:
            info = self._info(connection, table.table)
            key = key_columns(table, info)
            where = "" if after is None else f" WHERE {beyond(key, after)}"
            sql = f"{_select(table, info)}{where} ORDER BY {in_order(key)} LIMIT {limit}"
            chunk = self._read(connection, table, info, [sql])
        chunk.done = len(chunk.rows) < limit
        return chunk

    def rows(self, table: TableSchema, keys: Sequence[Key]) -> Chunk:
        with self._ready(table.table) as connection:
            info = self._info(connection, table.table)
            key = key_columns(table, info)
            queries = []
            remaining = iter(keys)
            while some := list(islice(remaining, _KEYS_PER_QUERY)):
                queries.append(f"{_select(table, info)} WHERE {among(key, some)}")
            chunk = self._read(connection, table, info, queries)
        if any(column.loose for column in key):
            wanted = set(keys)
            chunk.rows = [row for row in chunk.rows if tuple(row[index] for index in table.key_indexes) in wanted]
        return chunk

    def scan(self, table: TableSchema, limit: int) -> Scan:
        # The server gives up on a reader that doesn't take the next row for net_write_timeout seconds.
        connection = connect(self._url, {"net_write_timeout": "86400"})
        where = f"{self._where} {table.table}"
        try:
            with translated(where):
                info = self._info(connection, table.table)
                convert = converters(table, {column.name: column.type.data_type for column in info.columns})
                return MysqlScan(
                    connection, self._snapshots, _select(table, info), partial(_converted, table, convert), limit, where
                )
        except BaseException:
            close(connection)
            raise

    def count(self, table: TableSchema) -> int:
        """The storage engine's estimate."""
        with self._ready(table.table) as connection, connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {_plain(connection)}SELECT * FROM {quote_table(self._locate(table.table))}")
            rows = [column[0] for column in cursor.description].index("rows")
            plan = cursor.fetchone()
        return int(plan[rows] or 0) if plan else 0

    def close(self) -> None:
        if self._connection is not None:
            close(self._connection)
            self._connection = None

    @contextmanager
    def _ready(self, table: TableName) -> Iterator[Connection]:
        """The connection, with driver errors in our terms; after any error it is opened anew."""
        if self._connection is None or not self._connection.open:
            self._connection = connect(self._url)
        try:
            with translated(f"{self._where} {table}"):
                yield self._connection
        except BaseException:
            self.close()
            raise

    def _load(self, connection: Connection, table: TableName) -> TableInfo | None:
        place = self._locate(table)
        return load_table(connection, place.namespace or self._database, place.name)

    def _info(self, connection: Connection, table: TableName) -> TableInfo:
        info = self._load(connection, table)
        if info is None:
            raise Halt(
                State.SCHEMA_MISMATCH,
                f"{self._where} has no table {table}",
                "create the table, then worker-sync resume PIPELINE",
            )
        return info

    def _read(self, connection: Connection, table: TableSchema, info: TableInfo, queries: Sequence[str]) -> MysqlChunk:
        types = {column.name: column.type.data_type for column in info.columns}
        convert = converters(table, types)
        with self._snapshots.open(connection) as chunk:
            for sql in queries:
                chunk.rows.extend(_converted(table, convert, query(connection, sql)))
        return chunk


def _plain(connection: Connection) -> str:
    # A MySQL may be set to explain as a tree; MariaDB has one form and no word for it.
    return "" if is_mariadb(connection) else "FORMAT=TRADITIONAL "


def _select(table: TableSchema, info: TableInfo) -> str:
    types = {column.name: column.type.data_type for column in info.columns}
    missing = [name for name in table.column_names if name not in types]
    if missing:
        raise Halt(
            State.SCHEMA_MISMATCH,
            f"table {table.table} has no column {missing[0]}",
            "mend the table, then worker-sync resume PIPELINE",
        )
    columns = ", ".join(_expression(name, types[name]) for name in table.column_names)
    return f"SELECT {columns} FROM {quote(info.database)}.{quote(info.name)}"


def _expression(name: str, data_type: str) -> str:
    # A float's own text has six digits; as a double it shows all that it holds.
    if data_type == "float":
        return f"CAST({quote(name)} AS DOUBLE)"
    # The driver takes a type that it doesn't know for text.
    return f"CAST({quote(name)} AS BINARY)" if data_type == "vector" else quote(name)


def _converted(table: TableSchema, convert: Sequence[Converter], rows: Sequence[tuple[Any, ...]]) -> list[Row]:
    """Column by column, which is faster than row by row."""
    if not rows or not any(convert):
        return list(rows)
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for index, function in enumerate(convert):
        if function is not None:
            try:
                columns[index] = [None if value is None else function(value) for value in columns[index]]
            except (ValueError, KeyError) as error:
                raise _unreadable(table, index) from error
    return list(zip(*columns, strict=True))


def _unreadable(table: TableSchema, index: int) -> Halt:
    column = table.columns[index]
    kind: Kind = column.type.kind
    detail = f"{table.table}.{column.name} holds a value that is no {kind}"
    return Halt(State.UNREPRESENTABLE_VALUE, detail, "correct the value, then worker-sync resume PIPELINE")
