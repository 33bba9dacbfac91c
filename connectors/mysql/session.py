"""The sink's connection, with what it keeps between batches: the target's tables and its limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from connectors.mysql.catalog import load_table
from connectors.mysql.conn import Connection, close, connect, execute, is_mariadb, query
from connectors.mysql.sql import flat
from connectors.mysql.target import TargetTable
from worker_sync.core.errors import Halt, State, TargetRejected
from worker_sync.core.schema import TableSchema

#: Tables whose statements are kept; more start anew.
MAX_TABLES: Final = 2_000
#: Bytes of one statement, unless a single row is larger: more makes nothing faster (measured).
STATEMENT_BYTES: Final = 1 << 20
#: Room for the rest of a packet.
_MARGIN: Final = 1024

# READ COMMITTED locks the rows that are written and no gaps between them. Foreign keys hold in the source; here they
# would force an order on set-wise writes that cycles of tables don't have. A wait for a lock ends in a retry.
_SETTINGS: Final = {
    "foreign_key_checks": "0",
    "unique_checks": "1",
    "sql_safe_updates": "0",
    "innodb_lock_wait_timeout": "30",
    "lock_wait_timeout": "30",
    "wait_timeout": "604800",
}


class Session:
    """One connection to the target, opened on first use and again after it broke."""

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._database = database
        self._connection: Connection | None = None
        self._tables: dict[TableSchema, TargetTable] = {}
        self._fresh_tables = True
        self._asides: dict[TableSchema, str] = {}
        #: The server knows row aliases in INSERT (MySQL 8.0.19 and newer).
        self.row_alias = False
        self.max_packet = 0

    def connection(self) -> Connection:
        """The open connection; opens it when there is none."""
        if self._connection is None or not self._connection.open:
            self.close()
            self._connection = self._open()
        return self._connection

    def _open(self) -> Connection:
        connection = connect(self._url, _SETTINGS)
        connection.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        (row,) = query(connection, "SELECT @@max_allowed_packet, VERSION()")
        self.max_packet = int(row[0]) - _MARGIN
        self.row_alias = not is_mariadb(connection) and _version(row[1]) >= (8, 0, 19)
        return connection

    def another(self) -> Connection:
        """One more connection like this one, for the caller to close."""
        return connect(self._url, _SETTINGS)

    def close(self) -> None:
        """Close the connection, whatever its state, and forget what was kept for it."""
        if self._connection is not None:
            close(self._connection)
        self._connection = None
        self._asides.clear()
        self._tables.clear()

    def begin(self) -> None:
        """Note the start of a transaction."""
        self._fresh_tables = not self._tables

    def forget_tables(self) -> bool:
        """Read the target's tables anew from now on. False when all were read by the last transaction itself."""
        self._tables.clear()
        for aside in self._asides.values():
            self.connection().query(f"DROP TEMPORARY TABLE IF EXISTS {aside}")
        self._asides.clear()
        return not self._fresh_tables

    def table(self, schema: TableSchema) -> TargetTable:
        """The statements for a table. Raises Halt(schema-mismatch) when the target can't take it."""
        table = self._tables.get(schema)
        if table is None:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            info = load_table(self.connection(), self._database, flat(schema.table).name)
            if info is None:
                raise Halt(
                    State.SCHEMA_MISMATCH,
                    f"the target has no table {schema.table}",
                    f"create table {schema.table} in the target, or set create_tables: true",
                )
            table = self._tables[schema] = TargetTable(schema, info)
        return table

    def prepare_asides(self, tables: Iterable[TargetTable]) -> None:
        """Have a temporary table for each, before a transaction that takes rows of them out."""
        for table in tables:
            if table.schema not in self._asides:
                aside = f"worker_sync_aside_{len(self._asides) + 1}"
                self.connection().query(table.create_aside(aside))
                self._asides[table.schema] = aside

    def aside(self, table: TargetTable) -> str:
        return self._asides[table.schema]

    # Statements.

    def transaction(self, first: str) -> list[tuple[Any, ...]]:
        """Begin a transaction with a query, in one round trip; the query's rows."""
        with self.connection().cursor() as cursor:
            execute(cursor, f"START TRANSACTION; {first}")
            cursor.nextset()
            return list(cursor.fetchall())

    def rollback(self) -> None:
        """End a failed transaction. Nothing to do without a connection."""
        if self._connection is not None and self._connection.open:
            self._connection.rollback()

    def run(self, sql: str) -> int:
        """Run a statement; the number of rows that it found. Raises pymysql.Error."""
        with self.connection().cursor() as cursor:
            execute(cursor, sql)
            return int(cursor.rowcount)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return query(self.connection(), sql)

    def run_all(self, statements: Sequence[str], what: str) -> list[int]:
        """Run statements in as few round trips as their size allows; the number of rows that each found."""
        counts: list[int] = []
        with self.connection().cursor() as cursor:
            for some in packed(statements, "; ", self.max_packet, what):
                execute(cursor, some)
                counts.append(cursor.rowcount)
                while cursor.nextset():
                    counts.append(cursor.rowcount)
        return counts

    def insert(self, table: TargetTable, tuples: Sequence[str], tail: str) -> None:
        """Insert rows given as `TargetTable.tuples`, in statements of moderate size."""
        room = self.max_packet - size(table.insert_head) - size(tail)
        for some in packed(tuples, ",", room, f"{table.schema.table}: a row"):
            self.run(f"{table.insert_head}{some}{tail}")


def packed(parts: Sequence[str], between: str, room: int, what: str) -> Iterator[str]:
    """The parts joined to texts of at most STATEMENT_BYTES, or of one part. Raises TargetRejected for a part that
    needs more than `room` bytes."""
    collected: list[str] = []
    total = 0
    for part in parts:
        length = size(part)
        if length > room:
            raise TargetRejected(
                f"{what} of {length} bytes is larger than the server's max_allowed_packet takes ({room}); "
                f"SET GLOBAL max_allowed_packet = {_next_power(length + _MARGIN)}"
            )
        if collected and total + length > min(room, STATEMENT_BYTES):
            yield between.join(collected)
            collected, total = [], 0
        collected.append(part)
        total += length + len(between)
    if collected:
        yield between.join(collected)


def size(text: str) -> int:
    """Bytes that the text takes in a packet."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def _next_power(number: int) -> int:
    return int(min(1 << number.bit_length(), 1 << 30))


def _version(text: str) -> tuple[int, ...]:
    numbers = text.partition("-")[0].split(".")
    return tuple(int(number) for number in numbers if number.isdecimal())
