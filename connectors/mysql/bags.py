"""Rows of tables without a key, found by all that they hold (see `worker_sync.core.bags`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from connectors.mysql.catalog import ColumnInfo
from connectors.mysql.literals import INTEGERS, NULL
from connectors.mysql.session import Session
from connectors.mysql.sql import quote
from connectors.mysql.target import TargetTable
from worker_sync.core.bags import BagWrites
from worker_sync.core.errors import TargetRejected
from worker_sync.core.values import Row

#: Types whose `=` tells apart all that they can hold; of text it depends on the collation.
_EXACT: Final = INTEGERS | {"decimal", "date", "time", "datetime", "timestamp", "bit"}
_FLOATS: Final = frozenset({"float", "double"})


def write_bag(session: Session, writes: BagWrites) -> None:
    """Take the rows out that go, one for each that is asked for, then put the new ones in.

    Each delete reads the whole table: nothing could find the row by an index. Raises TargetRejected when a row is not
    there, Unrepresentable for a value that the table can't hold.
    """
    table = session.table(writes.table)
    _delete(session, table, writes.deletes)
    if writes.inserts:
        session.insert(table, table.tuples(writes.inserts), "")


def _delete(session: Session, table: TargetTable, rows: Sequence[Row]) -> None:
    wanted = Counter(_where(table, row) for row in rows)
    statements = [f"DELETE FROM {table.name} WHERE {where} LIMIT {count}" for where, count in wanted.items()]
    found = session.run_all(statements, f"{table.schema.table}: a delete")
    if found != list(wanted.values()):
        gone = sum(wanted.values()) - sum(found)
        raise TargetRejected(f"{table.schema.table}: {gone} of {len(rows)} rows that were changed are not there")


def _where(table: TargetTable, row: Row) -> str:
    columns = {column.name: column for column in table.info.columns}
    names = table.schema.column_names
    return " AND ".join(_same(columns[names[index]], table.literal(index, row), row[index]) for index in table.writable)


def _same(column: ColumnInfo, literal: str, value: object) -> str:
    name, data_type = quote(column.name), column.type.data_type
    if literal == NULL:
        return f"{name} IS NULL"
    if data_type in _EXACT:
        return f"{name} = {literal}"
    if data_type in _FLOATS:
        # Zeros are equal whatever their sign, which only their text shows.
        sign = f" AND CAST({name} AS CHAR) = '{'-0' if str(value).startswith('-') else '0'}'" if value == 0 else ""
        return f"{name} = {literal}{sign}"
    if isinstance(value, bytes):
        return f"CAST({name} AS BINARY) = {literal}"
    return f"CAST(CONVERT({name} USING utf8mb4) AS BINARY) = CAST(CONVERT({literal} USING utf8mb4) AS BINARY)"
