"""What must be so before tables can be captured from the binary log: named checks, each with what mends it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pymysql

from connectors.base import Finding
from connectors.mysql import log
from connectors.mysql.catalog import ForeignKey, TableInfo, foreign_keys, load_tables
from connectors.mysql.conn import Connection, close, connect, database_name, is_mariadb, parse_url, query, server_info
from connectors.mysql.errors import one_line
from connectors.mysql.grants import missing_on
from connectors.mysql.registration import TABLE
from connectors.mysql.sql import quote, quote_table
from worker_sync.core.errors import Halt, State, WorkerSyncError
from worker_sync.core.schema import TableName

#: A log kept for less time than this is gone before a weekend's outage is over.
SHORTEST_EXPIRY_S: Final = 24 * 3600
_OLDEST: Final = {True: (10, 6), False: (8, 0, 16)}
_STORAGE: Final = "InnoDB"


@dataclass(frozen=True, slots=True)
class Server:
    """What the checks look at: global variables by lower-case name."""

    mariadb: bool
    version: tuple[int, ...]
    variables: dict[str, str]

    def set(self, name: str, value: str) -> str:
        """The statement that sets a variable for good."""
        if self.mariadb:
            return f"SET GLOBAL {name} = {value} (and in the server's configuration)"
        return f"SET PERSIST {name} = {value}"

    def value(self, name: str) -> str:
        return self.variables.get(name, "")


def ask(conn: Connection) -> Server:
    """Look at a server. Raises pymysql.Error."""
    rows = query(conn, "SHOW GLOBAL VARIABLES")
    version = tuple(int(part) for part in re.findall(r"\d+", server_info(conn).removeprefix("5.5.5-"))[:3])
    return Server(is_mariadb(conn), version, {name.lower(): value for name, value in rows})


# -- the server


def _version(server: Server) -> Finding:
    oldest = _OLDEST[server.mariadb]
    name = "MariaDB" if server.mariadb else "MySQL"
    shown = ".".join(map(str, server.version))
    fix = f"upgrade to {name} {'.'.join(map(str, oldest))} or later"
    return Finding("server version", server.version >= oldest, f"{name} {shown}", fix)


def _is(name: str, wanted: str, fix: Callable[[Server], str] | None = None) -> Callable[[Server], Finding]:
    def check(server: Server) -> Finding:
        found = server.value(name)
        mend = fix(server) if fix else server.set(name, wanted)
        return Finding(name, found.upper() == wanted, f"{name} is {found or 'not known here'}", mend)

    return check


def _row_image(server: Server) -> Finding:
    image = server.value("binlog_row_image").upper()
    known = image in ("FULL", "MINIMAL", "NOBLOB", "FULL_NODUP")
    return Finding("binlog_row_image", known, f"binlog_row_image is {image}", server.set("binlog_row_image", "FULL"))


def _row_values(server: Server) -> Finding:
    partial = "PARTIAL_JSON" in server.value("binlog_row_value_options").upper()
    ok = not partial or server.value("binlog_row_image").upper() == "FULL"
    detail = "updates of JSON come in parts" if partial else "updates of JSON come whole"
    fix = server.set("binlog_row_image", "FULL")
    return Finding("binlog_row_value_options", ok, detail if ok else f"{detail}, without the document before", fix)


def _expiry(server: Server) -> Finding:
    seconds = int(float(server.value("binlog_expire_logs_seconds") or 0))
    seconds = seconds or int(float(server.value("expire_logs_days") or 0) * 24 * 3600)
    detail = f"binary logs are kept for {seconds} s" if seconds else "binary logs are kept until they are purged"
    return Finding(
        "binlog expiry",
        not seconds or seconds >= SHORTEST_EXPIRY_S,
        detail,
        server.set("binlog_expire_logs_seconds", str(3 * SHORTEST_EXPIRY_S)),
    )


def _restart(line: str) -> Callable[[Server], str]:
    return lambda _: f"put {line} into the server's configuration and restart it"


_COMMON: Final = (
    _version,
    _is("log_bin", "ON", _restart("log-bin = binlog, server-id = 1")),
    _is("binlog_format", "ROW"),
    _row_image,
    _is("binlog_row_metadata", "FULL"),
    _expiry,
)
_MYSQL_ONLY: Final = (
    _is("gtid_mode", "ON", lambda _: "SET PERSIST enforce_gtid_consistency = ON, then gtid_mode in its steps up to ON"),
    _is("binlog_order_commits", "ON"),
    _row_values,
)
#: Without these nothing that the stream delivers could be trusted.
_NEEDED: Final = ("log_bin", "binlog_format", "binlog_row_metadata", "gtid_mode", "server version")


def server_findings(server: Server) -> list[Finding]:
    checks = _COMMON if server.mariadb else _COMMON + _MYSQL_ONLY
    return [check(server) for check in checks]


# -- tables


def _obstacle(name: TableName, info: TableInfo | None) -> tuple[str, str]:
    """What is in the way of capturing a table, and what mends it; empty when nothing is."""
    if info is None:
        return "does not exist", "correct the tables in the configuration, or create the table"
    if info.storage.lower() != _STORAGE.lower():
        return f"has storage engine {info.storage}", f"ALTER TABLE {quote_table(name)} ENGINE = {_STORAGE}"
    if not info.key:
        return "has no key that identifies its rows", f"ALTER TABLE {quote_table(name)} ADD PRIMARY KEY (...)"
    return "", ""


def table_findings(conn: Connection, database: str, tables: Sequence[TableName]) -> list[Finding]:
    known = {info.name: info for info in load_tables(conn, database, [table.name for table in tables])}
    keys = foreign_keys(conn, database)
    findings = []
    for table in tables:
        detail, fix = _obstacle(table, known.get(table.name) if table.namespace == database else None)
        findings.append(Finding(f"table {table}", not detail, detail or "can be captured", fix))
        findings += [_cascade(table, key) for key in keys if key.table == table and key.cascades]
        if not detail:
            findings += _readable(conn, table)
    return findings


def _cascade(table: TableName, key: ForeignKey) -> Finding:
    return Finding(
        f"cascade {table}.{key.name}",
        False,
        f"changes of {key.parent} change rows of {table} by foreign key {key.name}, which the binary log does not show",
        f"ALTER TABLE {quote_table(table)} DROP FOREIGN KEY {quote(key.name)}, then add it again with RESTRICT and "
        "change the rows by statement",
    )


def _readable(conn: Connection, table: TableName) -> list[Finding]:
    try:
        query(conn, f"SELECT 1 FROM {quote_table(table)} LIMIT 0")
    except pymysql.Error as error:
        return [Finding(f"select {table}", False, one_line(error), f"GRANT SELECT ON {quote_table(table)} TO ...")]
    return []


def require_supported(conn: Connection, database: str, tables: Sequence[TableName]) -> None:
    """Raises Halt, before anything is changed, when the server or a table can't be captured from."""
    for finding in server_findings(ask(conn)):
        if finding.check in _NEEDED and not finding.ok:
            raise Halt(State.PREFLIGHT_FAILED, finding.detail, finding.fix)
    known = {info.name: info for info in load_tables(conn, database, [table.name for table in tables])}
    for table in tables:
        info = known.get(table.name) if table.namespace == database else None
        detail, fix = _obstacle(table, info)
        if detail:
            state = State.SCHEMA_MISMATCH if info is None else State.TABLE_UNSUPPORTED
            raise Halt(state, f"table {table} {detail}", fix)


# -- rights


def _trial(name: str, grant: str, attempt: Callable[[], object]) -> Finding:
    fix = f"GRANT {grant} TO ..."
    try:
        attempt()
    except pymysql.Error as error:
        return Finding(name, False, one_line(error), fix)
    except WorkerSyncError as error:
        return Finding(name, None, error.detail, fix)
    return Finding(name, True, "granted", fix)


def _dump(url: str, conn: Connection, server_id: int) -> int:
    end = log.head(conn)
    if end is None:
        raise Halt(State.PREFLIGHT_FAILED, "the server writes no binary log", "worker-sync check")
    other = connect(url)
    try:
        return log.created(other, log.base_name(conn), end.file, server_id)
    finally:
        close(other)


def right_findings(url: str, conn: Connection, server_id: int) -> list[Finding]:
    database = database_name(url)
    client = "BINLOG MONITOR ON *.*" if is_mariadb(conn) else "REPLICATION CLIENT ON *.*"
    missing = missing_on(conn, database, TABLE)
    grant = f"GRANT {', '.join(missing) or 'ALL'} ON {quote(database)}.{quote(TABLE)} TO ..."
    detail = f"missing on {TABLE}: {', '.join(missing)}" if missing else f"may keep its streams in {TABLE}"
    return [
        _trial("replication client", client, lambda: (log.head(conn), log.files(conn))),
        _trial("replication slave", "REPLICATION SLAVE ON *.*", lambda: _dump(url, conn, server_id)),
        Finding("stream table", not missing, detail, grant),
    ]


def _filters(conn: Connection, database: str) -> Finding:
    only, never = log.filters(conn)
    logged = database not in never and (not only or database in only)
    detail = f"the binary log {'holds' if logged else 'leaves out'} {database}"
    return Finding("binlog filters", logged, detail, "take binlog-do-db and binlog-ignore-db out of the configuration")


def _own_id(url: str, server: Server) -> list[Finding]:
    given = parse_url(url).options.get("server-id")
    if given is None:
        return []
    clash = given == server.value("server_id")
    return [Finding("server-id", not clash, f"this reader's id is {given}", "give the URL another server-id")]


def check_source(url: str, tables: Sequence[TableName], server_id: int) -> list[Finding]:
    """Every prerequisite, each as a finding. Changes nothing."""
    database = database_name(url)
    conn = connect(url)
    try:
        server = ask(conn)
        findings = server_findings(server) + _own_id(url, server)
        findings += right_findings(url, conn, server_id)
        if all(finding.ok for finding in findings if finding.check in ("log_bin", "replication client")):
            findings.append(_filters(conn, database))
        return findings + table_findings(conn, database, tables)
    finally:
        close(conn)
