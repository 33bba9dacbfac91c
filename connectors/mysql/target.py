"""A target table: whether it can take a source's rows as they are, and the SQL that writes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

from connectors.mysql.catalog import ColumnInfo, TableInfo, UniqueIndex
from connectors.mysql.keys import KeyColumn, key_columns
from connectors.mysql.literals import Writer, column_literals, holds, writer
from connectors.mysql.sql import names, quote, text
from connectors.mysql.types import Converter, converter
from worker_sync.core.errors import Halt, State, Unrepresentable
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row

_TRANSACTIONAL: Final = "InnoDB"
#: What an upsert calls the new row; no table has this name.
_NEW: Final = "worker_sync_new"


class TargetTable:
    """Statements for rows of `schema`, written to the table `info`.

    A `gap` is the set of a row's columns (indexes) that are UNCHANGED; () is a complete row. Raises
    Halt(schema-mismatch) for a table that can't take the rows.
    """

    def __init__(self, schema: TableSchema, info: TableInfo) -> None:
        self.schema = schema
        self.info = info
        self.name = quote(info.name)
        self._columns = {column.name: column for column in info.columns}
        _check(schema, info, self._columns)
        self.key: list[KeyColumn] = key_columns(schema, info)
        self._writers: list[Writer] = [writer(column, self._columns[column.name]) for column in schema.columns]
        #: Indexes of the columns that can be written; a column that the target generates can't.
        self.writable = tuple(
            index for index, name in enumerate(schema.column_names) if not self._columns[name].generated
        )

    @cached_property
    def loose(self) -> bool:
        """The server may take two different keys for the same."""
        return any(column.loose for column in self.key)

    @cached_property
    def key_converters(self) -> list[Converter]:
        """What makes canonical values of the key's columns, in the key's order."""
        columns = [self.schema.columns[index] for index in self.schema.key_indexes]
        return [converter(column.type, self._columns[column.name].type.data_type) for column in columns]

    @cached_property
    def alone(self) -> bool:
        """The key is the only thing that can collide, and collides with itself only."""
        key = frozenset(self.schema.key)
        return not self.loose and all(index.whole and frozenset(index.columns) == key for index in self.info.unique)

    def present(self, gap: tuple[int, ...] = ()) -> list[int]:
        """The columns that rows with this gap write."""
        return [index for index in self.writable if index not in gap]

    def key_of(self, row: Row) -> Key:
        return tuple([row[index] for index in self.schema.key_indexes])

    # Literals.

    def tuples(self, rows: Sequence[Row]) -> list[str]:
        """Complete rows as lists of values in parentheses. Raises Unrepresentable."""
        columns = list(zip(*rows, strict=True))
        texts = [self._literals(index, columns[index], rows) for index in self.writable]
        return [f"({','.join(parts)})" for parts in zip(*texts, strict=True)]

    def _literals(self, index: int, values: Sequence[object], rows: Sequence[Row]) -> list[str]:
        try:
            return column_literals(values, self._writers[index], self._nullable(index))
        except ValueError:
            for row in rows:
                self.literal(index, row)
            raise

    def _nullable(self, index: int) -> bool:
        return self._columns[self.schema.column_names[index]].nullable

    def literal(self, index: int, row: Row) -> str:
        """One value of a row. Raises Unrepresentable, with the row's key."""
        try:
            return column_literals([row[index]], self._writers[index], self._nullable(index))[0]
        except ValueError as error:
            key = ", ".join(map(repr, self.key_of(row)))
            where = f"{self.schema.table}, column {self.schema.column_names[index]}, key ({key})"
            raise Unrepresentable(f"{where}: {error}") from None

    # Statements.

    @cached_property
    def column_list(self) -> str:
        return names(self.schema.column_names[index] for index in self.writable)

    @cached_property
    def insert_head(self) -> str:
        return f"INSERT INTO {self.name} ({self.column_list}) VALUES "

    def upsert_tail(self, row_alias: bool) -> str:
        """What makes an insert an upsert of the row with this key and of no other.

        ON DUPLICATE KEY UPDATE fires on any unique index. Where it was not the key's, the first assignment is of NULL
        to a column of the key, which the server refuses: the statement fails before it changes another row.
        """
        # VALUES() is deprecated in MySQL; MariaDB has nothing else.
        new = f"{_NEW}.{{}}" if row_alias else "VALUES({})"
        same = " AND ".join(self._same(column, new.format(quote(column.name))) for column in self.key)
        guard = quote(self._guard)
        sets = [f"{guard} = IF({same}, {self.name}.{guard}, {self._refused})"]
        for index in self.writable:
            name = quote(self.schema.column_names[index])
            if index not in self.schema.key_indexes:
                sets.append(f"{name} = {new.format(name)}")
        return f"{f' AS {_NEW}' if row_alias else ''} ON DUPLICATE KEY UPDATE {', '.join(sets)}"

    def _same(self, column: KeyColumn, new: str) -> str:
        old = f"{self.name}.{quote(column.name)}"
        if not column.loose:
            return f"{old} = {new}"
        return " = ".join(f"CAST(CONVERT({value} USING utf8mb4) AS BINARY)" for value in (old, new))

    @property
    def _guard(self) -> str:
        """A column of the key for which the server does not make up a value instead of NULL, if there is one."""
        chosen = [name for name in self.schema.key if self._columns[name].type.data_type != "timestamp"]
        return chosen[0] if chosen else self.schema.key[0]

    @property
    def _refused(self) -> str:
        timestamp = self._columns[self._guard].type.data_type == "timestamp"
        return "(SELECT 1 UNION SELECT 2)" if timestamp else "NULL"

    def assignments(self, row: Row, gap: tuple[int, ...], with_key: bool = False) -> str:
        """The SET list of the row's present columns. A column that updates itself is held where the row leaves it."""
        key = () if with_key else self.schema.key_indexes
        sets = [
            f"{quote(self.schema.column_names[index])} = {self.literal(index, row)}"
            for index in self.present(gap)
            if index not in key
        ]
        for index in gap:
            name = self.schema.column_names[index]
            if self._columns[name].updates_itself:
                sets.append(f"{quote(name)} = {quote(name)}")
        first = quote(self.schema.key[0])
        return ", ".join(sets) or f"{first} = {first}"

    def where(self, key: Key) -> str:
        """The one row with exactly this key."""
        return " AND ".join(_exactly(column, value) for column, value in zip(self.key, key, strict=True))

    def where_any(self, keys: Sequence[Key]) -> str:
        """The rows with exactly one of these keys."""
        if len(self.key) == 1 and not self.loose:
            return f"{self.key[0].expression} IN ({','.join(self.key[0].literal(value) for (value,) in keys)})"
        return " OR ".join(f"({self.where(key)})" for key in keys)

    def create_aside(self, aside: str) -> str:
        """A temporary table for rows that are taken out and put in again, with every column that can be written."""
        columns = names(column.name for column in self.info.columns if not column.generated)
        return (
            f"CREATE TEMPORARY TABLE {aside} (PRIMARY KEY ({names(self.schema.key)})) ENGINE=InnoDB "
            f"AS SELECT {columns} FROM {self.name} WHERE FALSE"
        )

    @cached_property
    def all_columns(self) -> str:
        """Every column that can be written, those that the source doesn't have too."""
        return names(column.name for column in self.info.columns if not column.generated)


def gap_of(row: Row) -> tuple[int, ...]:
    """The indexes of a row's UNCHANGED columns."""
    if UNCHANGED not in row:
        return ()
    return tuple(index for index, value in enumerate(row) if value is UNCHANGED)


def _exactly(column: KeyColumn, value: object) -> str:
    found = f"{column.expression} = {column.literal(value)}"
    if not column.loose:
        return found
    # The first part finds the row by the index, the second one tells apart what the collation doesn't.
    return f"{found} AND CAST(CONVERT({quote(column.name)} USING utf8mb4) AS BINARY) = _binary{text(str(value))}"


def _check(schema: TableSchema, info: TableInfo, columns: dict[str, ColumnInfo]) -> None:
    table, name = schema.table, quote(info.name)
    if info.storage.lower() != _TRANSACTIONAL.lower():
        raise _mismatch(
            f"target table {table} is {info.storage or 'no base table'}, which has no transactions",
            f"ALTER TABLE {name} ENGINE=InnoDB",
        )
    for column in schema.columns:
        target = columns.get(column.name)
        if target is None:
            fix = f"ALTER TABLE {name} ADD COLUMN {quote(column.name)} ... -- {column.type.native or column.type.kind}"
            raise _mismatch(f"target table {table} has no column {column.name}", fix)
        if not target.generated and not holds(column, schema.engine, target):
            detail = f"column {column.name} of target table {table} is {target.type.column_type}, which can't hold "
            detail += f"every {column.type.native or column.type.kind} as it is"
            raise _mismatch(detail, f"ALTER TABLE {name} MODIFY {quote(column.name)} LONGTEXT, or leave the column out")
    nullable = [name for name in schema.key if columns[name].nullable]
    if nullable:
        fix = f"ALTER TABLE {name} MODIFY {quote(nullable[0])} {columns[nullable[0]].type.native} NOT NULL"
        raise _mismatch(f"column {nullable[0]} of target table {table} belongs to the key and may be NULL", fix)
    if schema.key and not any(_identifies(index, schema) for index in info.unique):
        raise _mismatch(
            f"target table {table} has no unique index on exactly ({', '.join(schema.key)})",
            f"ALTER TABLE {name} ADD PRIMARY KEY ({names(schema.key)})",
        )


def _identifies(index: UniqueIndex, schema: TableSchema) -> bool:
    return index.whole and frozenset(index.columns) == frozenset(schema.key)


def _mismatch(detail: str, fix: str) -> Halt:
    return Halt(State.SCHEMA_MISMATCH, detail, fix)
