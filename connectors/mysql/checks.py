"""What must hold of a database before a pipeline can write to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pymysql

from connectors.base import Finding
from connectors.mysql import watermarks
from connectors.mysql.catalog import load_table
from connectors.mysql.conn import Connection, is_mariadb, query
from connectors.mysql.ddl import ALLOW_NO_KEY
from connectors.mysql.errors import one_line
from connectors.mysql.sql import flat, quote, text
from connectors.mysql.target import TargetTable
from worker_sync.core.errors import Halt
from worker_sync.core.schema import TableSchema

MINIMUM_MYSQL: Final = (8, 0, 16)
MINIMUM_MARIADB: Final = (10, 6)
#: Bytes; a row of some megabytes must fit into one statement.
MINIMUM_PACKET: Final = 16 * 1024 * 1024

_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True)
class _Server:
    connection: Connection
    database: str
    tables: Sequence[TableSchema]

    def one(self, sql: str) -> Any:
        return query(self.connection, sql)[0][0]


_Check = Callable[[_Server], Iterator[Finding]]


def preflight(connection: Connection, database: str, tables: Sequence[TableSchema]) -> list[Finding]:
    """See `connectors.base.Sink.preflight`. A check that could not run says so with `ok` None."""
    server = _Server(connection, database, tables)
    findings: list[Finding] = []
    for name, check in _CHECKS.items():
        try:
            findings.extend(check(server))
        except pymysql.Error as error:
            findings.append(Finding(name, None, f"could not run: {one_line(error)}"))
    return findings


def _version(server: _Server) -> Iterator[Finding]:
    shown = str(server.one("SELECT VERSION()"))
    number = tuple(int(part) for part in shown.partition("-")[0].split(".") if part.isdecimal())
    mariadb = is_mariadb(server.connection)
    minimum = MINIMUM_MARIADB if mariadb else MINIMUM_MYSQL
    name = "MariaDB" if mariadb else "MySQL"
    fix = f"use {name} {'.'.join(map(str, minimum))} or newer"
    yield Finding("server-version", number >= minimum, f"{name} {shown.partition('-')[0]}", fix)


def _writable(server: _Server) -> Iterator[Finding]:
    read_only = str(server.one("SELECT @@read_only")) not in ("0", "OFF")
    detail = "read_only is on" if read_only else "accepts writes"
    yield Finding("writable", not read_only, detail, "SET GLOBAL read_only = OFF, or connect to the primary")


def _innodb(server: _Server) -> Iterator[Finding]:
    support = dict(query(server.connection, "SELECT engine, support FROM information_schema.engines"))
    there = support.get("InnoDB") in ("YES", "DEFAULT")
    fix = "start the server with InnoDB: a batch and its watermark are one transaction"
    yield Finding("innodb", there, "transactions are there" if there else "the server has no InnoDB", fix)


def _strict(server: _Server) -> Iterator[Finding]:
    mode = str(server.one("SELECT @@SESSION.sql_mode"))
    ok = "STRICT_ALL_TABLES" in mode and "NO_BACKSLASH_ESCAPES" in mode
    detail = "strict for our sessions" if ok else "something between us and the server changes sql_mode"
    yield Finding("sql_mode", ok, detail, "connect to the server directly, or let the proxy keep SET SESSION sql_mode")


def _row_log(server: _Server) -> Iterator[Finding]:
    log, form = query(server.connection, "SELECT @@log_bin, @@binlog_format")[0]
    ok = str(log) == "0" or form != "STATEMENT"
    detail = f"binlog_format is {form}" if str(log) == "1" else "the server writes no binary log"
    yield Finding("binlog_format", ok, detail, "SET GLOBAL binlog_format = 'ROW'")


def _packet(server: _Server) -> Iterator[Finding]:
    limit = int(server.one("SELECT @@GLOBAL.max_allowed_packet"))
    detail = f"a row may take {limit // (1024 * 1024)} MiB"
    fix = f"SET GLOBAL max_allowed_packet = {4 * MINIMUM_PACKET}; and the same in the server's configuration"
    yield Finding("max_allowed_packet", limit >= MINIMUM_PACKET, detail, fix)


def _privileges(server: _Server) -> Iterator[Finding]:
    held = _held(server)
    user = str(server.one("SELECT CURRENT_USER()"))
    database = quote(server.database)
    account = "@".join(text(part) for part in user.rsplit("@", 1))
    missing = [right for right in _RIGHTS if right not in held]
    granted = f"{user} may write" if not missing else f"{user} lacks {', '.join(missing)}"
    yield Finding("privileges", not missing, granted, f"GRANT {', '.join(_RIGHTS)} ON {database}.* TO {account}")
    create = "CREATE" in held or watermarks.exists(server.connection)
    detail = f"{user} keeps watermarks in {watermarks.TABLE}"
    yield Finding("watermark-table", create, detail, f"GRANT CREATE ON {database}.* TO {account}")
    temporary = "CREATE TEMPORARY TABLES" in held
    detail = f"{user} takes rows that swap unique values aside"
    fix = f"GRANT CREATE TEMPORARY TABLES ON {database}.* TO {account}"
    yield Finding("temporary-tables", temporary, detail, fix)


def _held(server: _Server) -> set[str]:
    """The rights on the database, granted to the user by name or on everything; a role's show only when it is on."""
    held: set[str] = set()
    for (grant,) in query(server.connection, "SHOW GRANTS"):
        rights, _, scope = grant.removeprefix("GRANT ").partition(" ON ")
        if not scope.startswith(("*.*", f"{quote(server.database)}.*", _escaped(server.database))):
            continue
        held.update(right.strip() for right in rights.split(","))
    everything = "ALL PRIVILEGES" in held or "ALL" in held
    return held | {*_RIGHTS, "CREATE", "CREATE TEMPORARY TABLES", "TRIGGER"} if everything else held


def _escaped(database: str) -> str:
    return quote(database.replace("_", "\\_").replace("%", "\\%")) + ".*"


def _tables(server: _Server) -> Iterator[Finding]:
    for table in server.tables:
        yield _table(server, table)


def _table(server: _Server, table: TableSchema) -> Finding:
    check = f"table {table.table}"
    info = load_table(server.connection, server.database, flat(table.table).name)
    if info is None:
        if not table.key and _requires_keys(server):
            return Finding(check, False, "has no key, and the server requires one of every table", ALLOW_NO_KEY)
        return Finding(check, True, "will be created")
    try:
        TargetTable(table, info)
    except Halt as halt:
        return Finding(check, False, halt.detail, halt.recovery)
    return Finding(check, True, "exists")


def _requires_keys(server: _Server) -> bool:
    found = query(server.connection, "SHOW VARIABLES LIKE 'sql_require_primary_key'")
    return bool(found) and found[0][1] == "ON"


def _triggers(server: _Server) -> Iterator[Finding]:
    """No failure: someone may want them to fire."""
    rows = query(
        server.connection,
        "SELECT event_object_table, trigger_name FROM information_schema.triggers "
        f"WHERE trigger_schema = {text(server.database)} ORDER BY 1, 2",
    )
    wanted = {flat(table.table).name for table in server.tables}
    for name, trigger in rows:
        if name in wanted:
            detail = f"trigger {trigger} on {name} fires for applied changes too; MySQL can't hold it back"
            fix = f"DROP TRIGGER {quote(trigger)}, or let it test @@foreign_key_checks, which is 0 in our sessions"
            yield Finding(f"trigger {trigger}", True, detail, fix)


_CHECKS: Final[dict[str, _Check]] = {
    "server-version": _version,
    "writable": _writable,
    "innodb": _innodb,
    "sql_mode": _strict,
    "binlog_format": _row_log,
    "max_allowed_packet": _packet,
    "privileges": _privileges,
    "tables": _tables,
    "triggers": _triggers,
}
