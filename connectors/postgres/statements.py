"""The SQL that writes to one target table.

Values are bound as text of unknown type, or come from a staging table that has the target's own column types: either
way the server reads them as the target's types.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, cached_property

from connectors.postgres.catalog import ENGINE
from connectors.postgres.holding import holds
from connectors.postgres.target import TargetTable
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Kind, TableName, TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_table(table: TableName) -> str:
    """A table's SQL name."""
    return f"{quote(table.namespace)}.{quote(table.name)}"


def _equal(names: Iterable[str], left: str, right: str) -> str:
    return " AND ".join(f"{left}.{quote(name)} = {right}.{quote(name)}" for name in names)


def _assign(names: Iterable[str], right: str) -> str:
    return ", ".join(f"{quote(name)} = {right}.{quote(name)}" for name in names)


def _numbered(names: Sequence[str], first: int) -> list[str]:
    return [f"{quote(name)} = ${number}" for number, name in enumerate(names, first)]


class TableSql:
    """Statements for rows of `schema`, written to `target`.

    A `gap` is the set of a row's columns (indexes) that are UNCHANGED; () is a complete row. Parameters of a
    statement are the present columns in row order, then the key where it says so.
    """

    def __init__(self, schema: TableSchema, target: TargetTable) -> None:
        _check(schema, target)
        self.schema = schema
        self.target = target
        self.table = quote_table(target.name)
        #: Indexes of the columns that can be written; a column that the target generates can't.
        self.writable = tuple(
            index for index, name in enumerate(schema.column_names) if not target.columns[name].generated
        )
        columns = [target.columns[name] for name in schema.column_names]
        self._bools = tuple(
            index
            for index, column in enumerate(schema.columns)
            if column.type.kind == Kind.BOOL and columns[index].numeric
        )
        self.has_identity = any(column.always for column in columns)
        key = frozenset(schema.key)
        #: An upsert can't replace rows here: there is no arbiter, or a column that no UPDATE may set.
        self.replaces = bool(key) and (not target.unique[key] or any(c.always and c.name not in key for c in columns))
        #: A key that no UPDATE may set.
        self.fixed_key = any(target.columns[name].always for name in schema.key)

    @cached_property
    def is_plain(self) -> bool:
        """Rows go to the target as they are."""
        return not self._bools and len(self.writable) == len(self.schema.columns)

    def present(self, gap: tuple[int, ...]) -> list[int]:
        return [index for index in self.writable if index not in gap]

    def names(self, gap: tuple[int, ...] = ()) -> list[str]:
        """The columns that rows with this gap write."""
        return [self.schema.column_names[index] for index in self.present(gap)]

    def values(self, row: Row, gap: tuple[int, ...] = ()) -> Row:
        """The values of `names(gap)`."""
        if self.is_plain and not gap:
            return row
        return tuple(self._value(index, row[index]) for index in self.present(gap))

    def _value(self, index: int, value: object) -> object:
        return int(value) if isinstance(value, bool) and index in self._bools else value

    def key_of(self, row: Row) -> Key:
        """A row's key as the target has it."""
        return self.key_values(tuple([row[index] for index in self.schema.key_indexes]))

    def key_values(self, key: Key) -> Key:
        if not self._bools:
            return key
        return tuple(self._value(index, value) for index, value in zip(self.schema.key_indexes, key, strict=True))

    def _plain_names(self, gap: tuple[int, ...]) -> list[str]:
        return [name for name in self.names(gap) if name not in self.schema.key]

    @cached_property
    def column_list(self) -> str:
        return ", ".join(map(quote, self.names()))

    @cached_property
    def _into(self) -> str:
        overriding = " OVERRIDING SYSTEM VALUE" if self.has_identity else ""
        return f"INSERT INTO {self.table} ({self.column_list}){overriding}"

    @cached_property
    def _on_conflict(self) -> str:
        arbiter = ", ".join(map(quote, self.schema.key))
        names = self._plain_names(())
        action = f"UPDATE SET {_assign(names, 'EXCLUDED')}" if names else "NOTHING"
        return f"ON CONFLICT ({arbiter}) DO {action}"

    def _where_key(self, first: int) -> str:
        return " AND ".join(_numbered(self.schema.key, first))

    # One row a statement.

    @cached_property
    def upsert(self) -> str:
        """Parameters: a complete row."""
        return f"{self.insert} {self._on_conflict}"

    @cached_property
    def insert(self) -> str:
        """Parameters: a complete row."""
        numbers = ", ".join(f"${number}" for number in range(1, len(self.writable) + 1))
        return f"{self._into} VALUES ({numbers})"

    @cached_property
    def delete(self) -> str:
        """Parameters: a key."""
        return f"DELETE FROM {self.table} WHERE {self._where_key(1)}"

    @cache  # noqa: B019 - one of these lives as long as its connection's cache
    def update(self, gap: tuple[int, ...]) -> str:
        """Parameters: the present columns outside the key, then the key. Its row count tells whether the row is."""
        names = self._plain_names(gap)
        if not names:
            return f"SELECT FROM {self.table} WHERE {self._where_key(1)} FOR UPDATE"
        assignments = ", ".join(_numbered(names, 1))
        return f"UPDATE {self.table} SET {assignments} WHERE {self._where_key(len(names) + 1)}"

    def update_values(self, row: Row, gap: tuple[int, ...]) -> Row:
        key = self.schema.key_indexes
        plain = [self._value(index, row[index]) for index in self.present(gap) if index not in key]
        return (*plain, *self.key_of(row))

    # A key change, as statements that are right whichever of the two rows exist.

    @cached_property
    def vacate(self) -> str:
        """Delete the row at the old key if there is one at the new key. Parameters: old key, new key."""
        width = len(self.schema.key)
        taken = f"EXISTS (SELECT FROM {self.table} WHERE {self._where_key(width + 1)})"
        return f"DELETE FROM {self.table} WHERE {self._where_key(1)} AND {taken}"

    @cache  # noqa: B019
    def move(self, gap: tuple[int, ...]) -> str:
        """Parameters: the present columns, then the old key."""
        names = self.names(gap)
        return f"UPDATE {self.table} SET {', '.join(_numbered(names, 1))} WHERE {self._where_key(len(names) + 1)}"

    @cache  # noqa: B019
    def copy_aside(self, staging: str) -> str:
        """Parameters: a key."""
        columns = self.column_list
        return f"INSERT INTO {staging} ({columns}) SELECT {columns} FROM {self.table} WHERE {self._where_key(1)}"

    @cache  # noqa: B019
    def set_aside(self, staging: str, gap: tuple[int, ...]) -> str:
        """Parameters: the present columns."""
        return f"UPDATE {staging} SET {', '.join(_numbered(self.names(gap), 1))}"

    # Sets of rows, through a staging table.

    def create_staging(self, staging: str, names: Sequence[str]) -> str:
        columns = ", ".join(map(quote, names))
        return (
            f"CREATE TEMPORARY TABLE {staging} ON COMMIT DELETE ROWS AS SELECT {columns} FROM {self.table} WITH NO DATA"
        )

    def copy_into(self, staging: str, names: Sequence[str]) -> str:
        return f"COPY {staging} ({', '.join(map(quote, names))}) FROM STDIN"

    def insert_staged(self, staging: str) -> str:
        return f"{self._into} SELECT {self.column_list} FROM {staging}"

    def upsert_staged(self, staging: str) -> str:
        return f"{self.insert_staged(staging)} {self._on_conflict}"

    def merge_staged(self, staging: str) -> str:
        """As `upsert_staged`, for PostgreSQL 15 and newer. Its unique violations are not retried by the server."""
        names = self._plain_names(())
        action = f"UPDATE SET {_assign(names, 's')}" if names else "DO NOTHING"
        values = ", ".join(f"s.{quote(name)}" for name in self.names())
        overriding = " OVERRIDING SYSTEM VALUE" if self.has_identity else ""
        return (
            f"MERGE INTO {self.table} AS t USING {staging} AS s ON {self._same_row('s')} WHEN MATCHED THEN {action} "
            f"WHEN NOT MATCHED THEN INSERT ({self.column_list}){overriding} VALUES ({values})"
        )

    def _same_row(self, staging: str) -> str:
        return _equal(self.schema.key, "t", staging)

    def delete_staged(self, staging: str) -> str:
        return f"DELETE FROM {self.table} AS t USING {staging} AS s WHERE {self._same_row('s')}"

    def update_staged(self, staging: str, gap: tuple[int, ...]) -> str:
        names = self._plain_names(gap)
        if not names:
            return f"SELECT FROM {self.table} AS t JOIN {staging} AS s ON {self._same_row('s')} FOR UPDATE OF t"
        return f"UPDATE {self.table} AS t SET {_assign(names, 's')} FROM {staging} AS s WHERE {self._same_row('s')}"

    def complete_staged(self, staging: str, gap: tuple[int, ...]) -> str:
        """Fill the gaps of the staged rows from the target's rows."""
        names = [self.schema.column_names[index] for index in gap if index in self.writable]
        if not names:
            return f"SELECT FROM {self.table} AS t JOIN {staging} AS s ON {self._same_row('s')}"
        return f"UPDATE {staging} AS s SET {_assign(names, 't')} FROM {self.table} AS t WHERE {self._same_row('s')}"

    def drop_unmatched(self, staging: str) -> str:
        exists = f"EXISTS (SELECT FROM {self.table} AS t WHERE {self._same_row('s')})"
        return f"DELETE FROM {staging} AS s WHERE NOT {exists}"

    # Bags: rows without a key are found by the text of all their columns, which is exact for every type, also for
    # those that have no equality.

    def delete_bag(self, staging: str) -> str:
        """Delete as many equal rows as are staged. The subquery numbers equal rows of the table, so that of three
        that are alike one staged row takes one."""
        wanted, there = (f"ROW({', '.join(f'{t}.{quote(n)}' for n in self.names())})::text" for t in ("s", "t"))
        return (
            f"WITH wanted AS MATERIALIZED (SELECT {wanted} AS row, count(*) AS copies FROM {staging} AS s GROUP BY 1), "
            f"found AS MATERIALIZED (SELECT t.tableoid AS part, t.ctid AS place, w.copies, "
            f"row_number() OVER (PARTITION BY w.row) AS number "
            f"FROM {self.table} AS t JOIN wanted AS w ON {there} = w.row) "
            f"DELETE FROM {self.table} AS t USING found AS f "
            f"WHERE t.ctid = f.place AND t.tableoid = f.part AND f.number <= f.copies"
        )


def gap_of(row: Row) -> tuple[int, ...]:
    """The indexes of a row's UNCHANGED columns."""
    if UNCHANGED not in row:
        return ()
    return tuple(index for index, value in enumerate(row) if value is UNCHANGED)


def _check(schema: TableSchema, target: TargetTable) -> None:
    name = quote_table(target.name)
    for column in schema.columns:
        if column.name not in target.columns:
            raise Halt(
                State.SCHEMA_MISMATCH,
                f"target table {target.name} has no column {column.name}",
                f"ALTER TABLE {name} ADD COLUMN {quote(column.name)} {column.type.native or column.type.kind}",
            )
        found = target.columns[column.name]
        if not found.generated and not holds(column.type, found.type, same_engine=schema.engine == ENGINE):
            raise Halt(
                State.SCHEMA_MISMATCH,
                f"column {column.name} of target table {target.name} is {found.type}, which would alter values of "
                f"{column.type.native or column.type.kind} without an error",
                f"ALTER TABLE {name} ALTER COLUMN {quote(column.name)} TYPE ..., or leave the column out",
            )
    if schema.key and not target.can_identify(schema.key):
        key = ", ".join(map(quote, schema.key))
        raise Halt(
            State.SCHEMA_MISMATCH,
            f"target table {target.name} has no unique index on exactly ({', '.join(schema.key)})",
            f"ALTER TABLE {name} ADD PRIMARY KEY ({key})",
        )
