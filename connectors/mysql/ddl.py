"""Creates target tables from the schemas of their sources. Foreign keys, defaults and AUTO_INCREMENT never are."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final

import pymysql

from connectors.mysql.catalog import ENGINE, load_table
from connectors.mysql.conn import Connection, is_mariadb, query
from connectors.mysql.errors import code_of, one_line, translate
from connectors.mysql.sql import flat, names, quote, quote_table, text
from connectors.mysql.target import TargetTable
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.schema import Column, Kind, TableSchema, Type

#: Bytes of an index entry in InnoDB, and of one character.
INDEX_BYTES: Final = 3072
CHARACTER_BYTES: Final = 4
MAX_NAME: Final = 64
MAX_PRECISION: Final = 65
MAX_SCALE: Final = 30
#: Room for a key's column of fixed size; the largest are DECIMAL(65,30) and CHAR(36).
_FIXED_BYTES: Final = 144
_COLLATION: Final = re.compile(r" CHARACTER SET (\w+) COLLATE (\w+)$")
_TABLE_EXISTS: Final = 1050
_ROW_TOO_LARGE: Final = 1118
_KEY_REQUIRED: Final = 3750
#: What lets a server that insists on primary keys create a table without one.
ALLOW_NO_KEY: Final = "SET PERSIST sql_require_primary_key = OFF"

#: LONGTEXT and LONGBLOB lie outside the row, so that a table of many columns fits into InnoDB's row.
_TEXT: Final = "longtext"
_FIXED: Final = {
    Kind.BOOL: "tinyint(1)",
    # A float of 32 bits too: FLOAT would show 0.1 as six digits of another number in arithmetic.
    Kind.FLOAT: "double",
    Kind.BYTES: "longblob",
    # Text, not BINARY(16): it reads, joins and compares as the source's does, for 20 bytes more.
    Kind.UUID: "char(36)",
    Kind.DATE: "date",
}
_TEMPORAL: Final = {Kind.TIME: "time", Kind.TIMESTAMP: "datetime", Kind.TIMESTAMPTZ: "datetime"}
_INTEGERS: Final = ((8, "tinyint"), (16, "smallint"), (24, "mediumint"), (32, "int"), (64, "bigint"))


def exact_collation(mariadb: bool) -> str:
    """The collation of utf8mb4 in which only equal texts are equal, spaces at their end included."""
    return "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"


def type_name(type_: Type, engine: str) -> str:
    """The SQL name of the type that holds every value of `type_` which MySQL can hold, outside a key."""
    if engine == ENGINE and type_.native:
        return _native(type_)
    if type_.kind in _FIXED:
        return _FIXED[type_.kind]
    if type_.kind in _TEMPORAL:
        digits = 6 if type_.precision is None else min(type_.precision, 6)
        return f"{_TEMPORAL[type_.kind]}({digits})" if digits else _TEMPORAL[type_.kind]
    if type_.kind is Kind.INT:
        size = type_.size or 64
        return next(name for bits, name in _INTEGERS if size <= bits) + (" unsigned" if type_.unsigned else "")
    if type_.kind is Kind.DECIMAL:
        return _decimal(type_)
    return _TEXT


def _native(type_: Type) -> str:
    if not type_.labels:
        return type_.native
    # Labels are spelt anew: how the catalog escapes them depends on the server.
    name, _, rest = type_.native.partition("(")
    labels = ",".join(map(text, type_.labels))
    return f"{name}({labels}){rest[rest.rindex(')') + 1 :]}"


def _decimal(type_: Type) -> str:
    """DECIMAL where the source declares digits that fit; without a declaration only text keeps them all."""
    precision, scale = type_.precision, type_.scale or 0
    if precision is None:
        return _TEXT
    precision, scale = max(precision - min(scale, 0), scale), max(scale, 0)
    return f"decimal({precision},{scale})" if precision <= MAX_PRECISION and scale <= MAX_SCALE else _TEXT


def create_table(connection: Connection, database: str, table: TableSchema) -> bool:
    """See `connectors.base.Sink.create_table`. Two processes at once: one creates, the other finds it."""
    name = flat(table.table)
    info = load_table(connection, database, name.name)
    if info is None:
        _check_names(table)
        sql = _create(table, exact_collation(is_mariadb(connection)), _collations(connection))
        try:
            _run(connection, sql)
        except pymysql.Error as error:
            if code_of(error) != _TABLE_EXISTS:
                raise _refused(error, table) from error
        else:
            return True
        info = load_table(connection, database, name.name)
    assert info is not None
    TargetTable(table, info)
    return False


def column_definition(connection: Connection, table: TableSchema, column: Column) -> str:
    """A column of the table as it stands in CREATE TABLE and ALTER TABLE. Raises pymysql.Error."""
    return _column(table, column, _key_share(table), _collations(connection))


def _run(connection: Connection, sql: str) -> None:
    try:
        connection.query(sql)
    except pymysql.Error as error:
        if code_of(error) != _ROW_TOO_LARGE:
            raise
        # The largest possible row would not fit. Those that do may come; the others are refused one by one.
        try:
            connection.query("SET SESSION innodb_strict_mode = OFF")
        except pymysql.Error:
            raise error from None
        connection.query(sql)


def _refused(error: pymysql.Error, table: TableSchema) -> Exception:
    known = translate(error, str(table.table))
    if isinstance(known, (Transient, Halt)):
        return known
    if code_of(error) == _KEY_REQUIRED:
        detail = f"table {table.table} has no key, and the server requires one of every table"
        return Halt(State.TABLE_UNSUPPORTED, detail, f"{ALLOW_NO_KEY}; then worker-sync resume PIPELINE")
    fix = "create the table by hand as it should be, or leave the column out; then worker-sync resume PIPELINE"
    return Halt(State.TABLE_UNSUPPORTED, f"table {table.table} can't be created: {one_line(error)}", fix)


def _check_names(table: TableSchema) -> None:
    name = flat(table.table).name
    if len(name) > MAX_NAME:
        detail = f"the name {name} is longer than MySQL's {MAX_NAME} characters"
        raise Halt(State.TABLE_UNSUPPORTED, detail, "give the table a shorter name with `to:` in the configuration")
    for name in table.column_names:
        if len(name) > MAX_NAME:
            detail = f"column {name} of {table.table} has a name longer than MySQL's {MAX_NAME} characters"
            raise Halt(State.TABLE_UNSUPPORTED, detail, "rename the column in the source, or exclude it")


def _collations(connection: Connection) -> set[str]:
    return {row[0] for row in query(connection, "SHOW COLLATION")}


def _create(table: TableSchema, collation: str, known: AbstractSet[str]) -> str:
    share = _key_share(table)
    columns = [_column(table, column, share, known) for column in table.columns]
    if table.key:
        columns.append(f"PRIMARY KEY ({names(table.key)})")
    options = f"ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}"
    return f"CREATE TABLE {quote_table(flat(table.table))} ({', '.join(columns)}) {options}"


def _column(table: TableSchema, column: Column, share: int, known: AbstractSet[str]) -> str:
    in_key = column.name in table.key
    name = type_name(column.type, table.engine)
    if in_key and name in (_TEXT, "longblob"):
        name = _key_type(column.type, name, share)
    # An engine of the same family may lack the collation; the exact one tells at least as much apart.
    collation = _COLLATION.search(name)
    # MariaDB lists its newest ones without the character set in front.
    if collation and not {collation[2], collation[2].removeprefix(f"{collation[1]}_")} & known:
        name = name[: collation.start()]
    sql = f"{quote(column.name)} {name}{'' if column.nullable and not in_key else ' NOT NULL'}"
    if name.startswith("timestamp") and column.nullable:
        sql += " NULL"
    if column.type.kind is Kind.JSON and not name.startswith("json"):
        sql += f" CHECK (json_valid({quote(column.name)}))"
    return sql


def _key_share(table: TableSchema) -> int:
    """The bytes of an index entry that each key column of variable length may take."""
    names = [type_name(table.columns[index].type, table.engine) for index in table.key_indexes]
    variable = sum(name in (_TEXT, "longblob") for name in names)
    return (INDEX_BYTES - _FIXED_BYTES * (len(names) - variable)) // max(variable, 1)


def _key_type(type_: Type, name: str, share: int) -> str:
    if name == "longblob":
        return f"varbinary({min(type_.size or share, share)})"
    characters = share // CHARACTER_BYTES
    declared = type_.size if type_.kind is Kind.TEXT and type_.size else characters
    return f"varchar({min(declared, characters)})"
