"""Tables as information_schema has them now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from connectors.mysql.conn import Connection, is_mariadb, query
from connectors.mysql.sql import text
from connectors.mysql.types import ColumnType, core_type
from worker_sync.core.schema import Column, TableName, TableSchema

ENGINE: Final = "mysql"
#: Databases of the server itself.
SYSTEM: Final = ("information_schema", "mysql", "performance_schema", "sys")
#: Worker-Sync's own tables begin so.
OWN_PREFIX: Final = "worker_sync_"

_COLUMNS_SQL: Final = """
SELECT table_name, column_name, data_type, column_type, character_maximum_length, numeric_precision, numeric_scale,
       datetime_precision, character_set_name, collation_name, is_nullable, extra,
       coalesce(generation_expression, '') <> '', column_default IS NOT NULL
FROM information_schema.columns WHERE table_schema = {database} AND {tables} ORDER BY table_name, ordinal_position
"""
_INDEXES_SQL: Final = """
SELECT table_name, index_name, column_name, sub_part FROM information_schema.statistics
WHERE table_schema = {database} AND {tables} AND non_unique = 0
ORDER BY table_name, index_name <> 'PRIMARY', index_name, seq_in_index
"""
_FOREIGN_KEYS_SQL: Final = """
SELECT k.table_schema, k.table_name, k.constraint_name, k.column_name, k.referenced_table_schema,
       k.referenced_table_name, k.referenced_column_name, r.update_rule, r.delete_rule
FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r
  ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name
WHERE k.table_schema = {database} AND k.referenced_table_name IS NOT NULL
ORDER BY k.table_name, k.constraint_name, k.ordinal_position
"""
# MariaDB's JSON is text with this check, which it adds by itself.
_JSON_CHECKS_SQL: Final = """
SELECT table_name, check_clause FROM information_schema.check_constraints
WHERE constraint_schema = {database} AND check_clause LIKE 'json_valid(%'
"""
_TABLES_SQL: Final = """
SELECT table_name, engine, table_rows FROM information_schema.tables
WHERE table_schema = {database} AND table_type = 'BASE TABLE' AND {tables} ORDER BY table_name
"""


class ColumnInfo(NamedTuple):
    """A column; `updates_itself` is ON UPDATE CURRENT_TIMESTAMP, `signed_zero` that a float can be -0.0."""

    name: str
    type: ColumnType
    nullable: bool
    generated: bool
    auto_increment: bool
    updates_itself: bool
    has_default: bool
    signed_zero: bool


class UniqueIndex(NamedTuple):
    """A unique index. `whole`: on plain columns in full length, none of them an expression."""

    name: str
    columns: tuple[str, ...]
    whole: bool


class ForeignKey(NamedTuple):
    """A foreign key. The rules are RESTRICT, CASCADE, SET NULL, SET DEFAULT or NO ACTION."""

    table: TableName
    name: str
    columns: tuple[str, ...]
    parent: TableName
    parent_columns: tuple[str, ...]
    on_update: str
    on_delete: str

    @property
    def cascades(self) -> bool:
        """Whether it changes rows of its table that no statement names, which the binary log doesn't show."""
        return any(rule in ("CASCADE", "SET NULL", "SET DEFAULT") for rule in (self.on_update, self.on_delete))


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table of one database. `storage` is its storage engine; `rows` an estimate. Unique indexes: primary first."""

    database: str
    name: str
    storage: str
    rows: int
    columns: tuple[ColumnInfo, ...]
    unique: tuple[UniqueIndex, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key, or else the first unique index without nullable columns; empty when there is none.

        A generated column of a key is left out of rows, so such an index is none.
        """
        usable = {column.name for column in self.columns if not column.generated}
        nullable = {column.name for column in self.columns if column.nullable}
        for index in self.unique:
            if index.whole and usable.issuperset(index.columns) and not nullable.intersection(index.columns):
                return index.columns
        return ()

    def schema(self, namespace: str) -> TableSchema:
        """The table without its generated columns, under that namespace."""
        columns = tuple(
            Column(column.name, core_type(column.type), column.nullable)
            for column in self.columns
            if not column.generated
        )
        return TableSchema(TableName(namespace, self.name), columns, self.key, ENGINE)


def load_tables(connection: Connection, database: str, names: Sequence[str] | None = None) -> list[TableInfo]:
    """The base tables of a database in name order, all or those of these names. Raises pymysql.Error."""
    if names is not None and not names:
        return []
    values = {"database": text(database), "tables": _named(names)}
    heads = query(connection, _TABLES_SQL.format(**values))
    columns = _columns(connection, values)
    indexes = _indexes(connection, values)
    return [
        TableInfo(
            database, name, storage or "", int(rows or 0), tuple(columns.get(name, ())), tuple(indexes.get(name, ()))
        )
        for name, storage, rows in heads
    ]


def load_table(connection: Connection, database: str, name: str) -> TableInfo | None:
    """That table; None when there is none. Raises pymysql.Error."""
    found = load_tables(connection, database, [name])
    # The comparison of names may ignore case; what the server does with them is its own business.
    return next((table for table in found if table.name == name), found[0] if found else None)


def foreign_keys(connection: Connection, database: str) -> list[ForeignKey]:
    """All foreign keys of a database's tables. Raises pymysql.Error."""
    found: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for row in query(connection, _FOREIGN_KEYS_SQL.format(database=text(database))):
        found.setdefault((row[1], row[2]), []).append(row)
    return [
        ForeignKey(
            TableName(rows[0][0], name),
            constraint,
            tuple(row[3] for row in rows),
            TableName(rows[0][4], rows[0][5]),
            tuple(row[6] for row in rows),
            rows[0][7],
            rows[0][8],
        )
        for (name, constraint), rows in found.items()
    ]


def server_identity(connection: Connection) -> str:
    """What tells this server from any other: its own identifier. Raises pymysql.Error."""
    if not is_mariadb(connection):
        return str(query(connection, "SELECT @@server_uuid")[0][0])
    # Before 10.10 MariaDB has no identifier: where it is has to do.
    known = query(connection, "SHOW VARIABLES LIKE 'server_uid'")
    if known:
        return str(known[0][1])
    return str(query(connection, "SELECT CONCAT(@@hostname, ':', @@port, @@datadir)")[0][0])


def server_time(connection: Connection) -> datetime:
    """The server's clock, in UTC. Raises pymysql.Error."""
    # As a number: as a value it would depend on converters, and on the session's time zone.
    since = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(query(connection, since)[0][0]))


def _named(names: Iterable[str] | None) -> str:
    return "TRUE" if names is None else f"table_name IN ({', '.join(map(text, names))})"


def _columns(connection: Connection, values: dict[str, str]) -> dict[str, list[ColumnInfo]]:
    mariadb = is_mariadb(connection)
    json = _json_columns(connection, values["database"]) if mariadb else set()
    found: dict[str, list[ColumnInfo]] = {}
    for row in query(connection, _COLUMNS_SQL.format(**values)):
        table, name, extra = row[0], row[1], (row[11] or "").lower()
        length, precision, scale, fraction = (None if value is None else int(value) for value in row[4:8])
        is_json = (table, name) in json
        type_ = ColumnType(row[2].lower(), _str(row[3]), length, precision, scale, fraction, row[8], row[9], is_json)
        found.setdefault(table, []).append(
            ColumnInfo(
                name,
                type_,
                nullable=row[10] == "YES",
                generated=row[12] == "1",
                auto_increment="auto_increment" in extra,
                updates_itself="on update" in extra,
                has_default=row[13] == "1",
                signed_zero=not mariadb,
            )
        )
    return found


def _json_columns(connection: Connection, database: str) -> set[tuple[str, str]]:
    rows = query(connection, _JSON_CHECKS_SQL.format(database=database))
    return {(table, clause[len("json_valid(`") : -len("`)")].replace("``", "`")) for table, clause in rows}


def _indexes(connection: Connection, values: dict[str, str]) -> dict[str, list[UniqueIndex]]:
    parts: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
    for table, index, column, prefix in query(connection, _INDEXES_SQL.format(**values)):
        parts.setdefault((table, index), []).append((column, prefix))
    found: dict[str, list[UniqueIndex]] = {}
    for (table, index), columns in parts.items():
        whole = all(column is not None and prefix is None for column, prefix in columns)
        names = tuple(column for column, _ in columns if column is not None)
        found.setdefault(table, []).append(UniqueIndex(index, names, whole))
    return found


def _str(value: str | bytes) -> str:
    # MySQL types this column of its own as a blob.
    return value if isinstance(value, str) else value.decode()


def fingerprint(conn: Connection) -> str:
    """A text that changes with the definition of any table of the connection's database."""
    columns = "table_name, ordinal_position, column_name, column_type, is_nullable, column_key, extra"
    each = f"crc32(concat_ws(':', {columns}))"
    [found] = query(
        conn,
        f"SELECT count(*), sum({each}), bit_xor({each}) FROM information_schema.columns "
        "WHERE table_schema = database()",
    )
    return ":".join(map(str, found))
