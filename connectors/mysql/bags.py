"""Tables without a key: rows are found by all of their values, each compared exactly."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.mysql.catalog import ColumnInfo
from connectors.mysql.keys import KeyColumn, column_of
from connectors.mysql.session import Session
from connectors.mysql.sql import quote
from connectors.mysql.target import TargetTable
from connectors.mysql.types import GEOMETRIES
from worker_sync.core.bags import BagWrites, exact
from worker_sync.core.errors import TargetRejected
from worker_sync.core.values import Row

_OPAQUE = GEOMETRIES | {"vector"}


def write_bag(session: Session, table: TargetTable, writes: BagWrites) -> None:
    """Deletes first, then inserts. Raises TargetRejected when an old row isn't there as often as it has to go,
    Unrepresentable and pymysql.Error; the caller rolls back."""
    _delete(session, table, writes.deletes)
    if writes.inserts:
        session.insert(table, table.tuples(writes.inserts), "")


def _delete(session: Session, table: TargetTable, rows: Iterable[Row]) -> None:
    wanted: dict[bytes, tuple[Row, int]] = {}
    for row in rows:
        form = exact(row)
        wanted[form] = (row, wanted[form][1] + 1 if form in wanted else 1)
    columns = _columns(table)
    statements = [
        f"DELETE FROM {table.name} WHERE {_where(table, columns, row)} LIMIT {count}" for row, count in wanted.values()
    ]
    found = sum(session.run_all(statements, f"{table.schema.table}: a row"))
    missing = sum(count for _, count in wanted.values()) - found
    if missing:
        raise TargetRejected(f"{table.schema.table}: {missing} of {missing + found} rows to delete or replace are gone")


def _columns(table: TargetTable) -> list[tuple[int, ColumnInfo, KeyColumn]]:
    there = {column.name: column for column in table.info.columns}
    found = ((index, there[table.schema.column_names[index]]) for index in table.writable)
    return [(index, column, column_of(column)) for index, column in found]


def _where(table: TargetTable, columns: list[tuple[int, ColumnInfo, KeyColumn]], row: Row) -> str:
    return " AND ".join(_same(table, index, info, column, row) for index, info, column in columns)


def _same(table: TargetTable, index: int, info: ColumnInfo, column: KeyColumn, row: Row) -> str:
    name, data_type, value = quote(info.name), info.type.data_type, row[index]
    # Refuses what the column could never have taken.
    written = table.literal(index, row)
    if value is None:
        return f"{name} IS NULL"
    if data_type == "json":
        return f"{_bytes(f'CAST({name} AS CHAR)')} = {_bytes(f'CAST(CAST({written} AS JSON) AS CHAR)')}"
    if data_type in _OPAQUE:
        return f"CAST({name} AS BINARY) = {written}"
    found = f"{column.expression} = {column.literal(value)}"
    if column.loose:
        return f"{found} AND {_bytes(name)} = {_bytes(written)}"
    if data_type in ("float", "double") and value == 0:
        # The two zeros are equal and print differently; a server that doesn't keep the sign makes one of both.
        return f"{found} AND CAST({name} AS CHAR) = CAST({written} * 1e0 AS CHAR)"
    return found


def _bytes(expression: str) -> str:
    return f"CAST(CONVERT({expression} USING utf8mb4) AS BINARY)"
