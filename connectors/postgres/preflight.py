"""Named checks of what capturing from PostgreSQL needs, each with the statement that fixes it. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.base import Finding
from connectors.postgres import catalog
from connectors.postgres.conn import READ_SETTINGS, connect, redact
from connectors.postgres.errors import one_line
from connectors.postgres.slot import status
from worker_sync.core.errors import Unreachable
from worker_sync.core.schema import TableName

#: Logical messages in the stream came with this version.
MINIMUM_VERSION: Final = 140000
#: Seconds; below this the keepalives of a stream that is held back may come too late.
MINIMUM_SENDER_TIMEOUT: Final = 20


@dataclass(frozen=True, slots=True)
class Server:
    """What checks look at."""

    conn: Connection[TupleRow]
    stream: str
    tables: Sequence[TableName]

    def value(self, query: str, *parameters: Any) -> Any:
        row = self.conn.execute(query.encode(), parameters or None).fetchone()
        return row[0] if row else None


Check = Callable[[Server], Iterator[Finding]]


def check_source(url: str, stream: str, tables: Sequence[TableName]) -> list[Finding]:
    """All findings, the failed ones with their fix. A check that could not run says so with `ok` None."""
    return run_checks(url, stream, tables, _CHECKS)


def run_checks(url: str, stream: str, tables: Sequence[TableName], checks: Mapping[str, Check]) -> list[Finding]:
    """The findings of these checks, each by its name; see `check_source`."""
    try:
        conn = connect(url, READ_SETTINGS)
    except Unreachable as error:
        return [Finding("reachable", False, error.detail, "correct the URL, or start the server")]
    with conn:
        server = Server(conn, stream, tables)
        findings = [Finding("reachable", True, redact(url))]
        for name, check in checks.items():
            findings.extend(_run(name, check, server))
    return findings


def _run(name: str, check: Check, server: Server) -> list[Finding]:
    try:
        return list(check(server))
    except psycopg.Error as error:
        return [Finding(name, None, f"could not run: {one_line(error)}")]


def _version(server: Server) -> Iterator[Finding]:
    version = server.conn.info.server_version
    ok = version >= MINIMUM_VERSION
    yield Finding("version", ok, f"PostgreSQL {version // 10000}", "" if ok else "upgrade to PostgreSQL 14 or later")


def _primary(server: Server) -> Iterator[Finding]:
    standby = server.value("SELECT pg_is_in_recovery()")
    detail = "a standby, which can't be set up for capture" if standby else "a primary"
    yield Finding("primary", not standby, detail, "use the URL of the primary" if standby else "")


def _encoding(server: Server) -> Iterator[Finding]:
    encoding = server.value("SELECT current_setting('server_encoding')")
    ok = encoding != "SQL_ASCII"
    fix = "" if ok else "move the data to a database with ENCODING 'UTF8'"
    yield Finding("encoding", ok, f"server_encoding is {encoding}", fix)


def _wal_level(server: Server) -> Iterator[Finding]:
    level = server.value("SELECT current_setting('wal_level')")
    ok = level == "logical"
    fix = "" if ok else "ALTER SYSTEM SET wal_level = logical; then restart the server"
    yield Finding("wal_level", ok, f"wal_level is {level}", fix)


def _slots(server: Server) -> Iterator[Finding]:
    found = status(server.conn, server.stream)
    if found.exists:
        fix = "worker-sync resync PIPELINE" if found.lost else ""
        yield Finding("slot", not found.lost, found.lost or f"slot {server.stream} is healthy", fix)
        return
    used = server.value("SELECT count(*) FROM pg_replication_slots")
    yield _capacity(server, "max_replication_slots", used)


def _senders(server: Server) -> Iterator[Finding]:
    used = server.value("SELECT count(*) FROM pg_stat_replication")
    yield _capacity(server, "max_wal_senders", used)


def _capacity(server: Server, setting: str, used: int) -> Finding:
    limit = server.value("SELECT current_setting(%s)::int", setting)
    ok = used < limit
    fix = "" if ok else f"ALTER SYSTEM SET {setting} = {limit + 5}; then restart the server"
    return Finding(setting, ok, f"{used} of {limit} in use", fix)


def _sender_timeout(server: Server) -> Iterator[Finding]:
    seconds = server.value(
        "SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'wal_sender_timeout'",
    )
    ok = seconds == 0 or seconds >= MINIMUM_SENDER_TIMEOUT
    fix = "" if ok else "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()"
    yield Finding("wal_sender_timeout", ok, f"{seconds:g} s" if seconds else "off", fix)


def _replication(server: Server) -> Iterator[Finding]:
    # Amazon RDS grants the right by membership of a role of its own.
    ok = server.value(
        "SELECT rolreplication OR rolsuper OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'rds_replication' "
        "AND pg_has_role(current_user, r.oid, 'MEMBER')) FROM pg_roles WHERE rolname = current_user"
    )
    user = server.value("SELECT quote_ident(current_user)")
    detail = f"{user} {'may' if ok else 'may not'} replicate"
    yield Finding("replication", ok, detail, "" if ok else f"ALTER ROLE {user} REPLICATION")


def _publication(server: Server) -> Iterator[Finding]:
    owner = server.value(
        "SELECT pg_has_role(current_user, pubowner, 'USAGE') FROM pg_publication WHERE pubname = %s", server.stream
    )
    user = server.value("SELECT quote_ident(current_user)")
    if owner is not None:
        fix = "" if owner else f"ALTER PUBLICATION {server.stream} OWNER TO {user}"
        yield Finding("publication", owner, f"{server.stream} is {'ours' if owner else 'not ours'}", fix)
        return
    ok = server.value("SELECT has_database_privilege(current_database(), 'CREATE')")
    database = server.value("SELECT quote_ident(current_database())")
    fix = "" if ok else f"GRANT CREATE ON DATABASE {database} TO {user}"
    yield Finding("publication", ok, f"{user} {'may' if ok else 'may not'} create publications", fix)


def _tables(server: Server) -> Iterator[Finding]:
    relations = catalog.named_relations(server.conn, server.tables)
    user = server.value("SELECT quote_ident(current_user)")
    for table in server.tables:
        relation = relations.get(table)
        exists = relation is not None
        yield Finding(f"table {table}", exists, "exists" if exists else "does not exist", _absent(exists))
        if relation is not None:
            yield from _table(server, relation, user)


def _absent(exists: bool) -> str:
    return "" if exists else "correct the tables in the config, or create it"


def _table(server: Server, relation: catalog.Relation, user: str) -> Iterator[Finding]:
    table, name = relation.schema.table, catalog.quoted(relation.schema.table)
    reads = server.value(
        "SELECT has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(oid, 'SELECT') "
        "FROM pg_class WHERE oid = %s",
        relation.oid,
    )
    schema = catalog.quoted(TableName("", table.namespace)).removeprefix('"".')
    grant = f"GRANT USAGE ON SCHEMA {schema} TO {user}; GRANT SELECT ON {name} TO {user}"
    yield Finding(f"select {table}", reads, "readable" if reads else "not readable", "" if reads else grant)
    owns = server.value(
        "SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = %s", relation.oid
    )
    fix = "" if owns else f"ALTER TABLE {name} OWNER TO {user}, or grant the owner's role to {user}"
    yield Finding(f"owner {table}", owns, "may be published" if owns else "only its owner may publish it", fix)
    ok = not relation.obstacle
    yield Finding(f"key {table}", ok, _key(relation) if ok else relation.obstacle, "" if ok else relation.remedy)
    hidden = server.value("SELECT row_security_active(%s::oid)", relation.oid)
    fix = f"ALTER ROLE {user} BYPASSRLS" if hidden else ""
    yield Finding(f"row security {table}", not hidden, "hides rows" if hidden else "hides nothing", fix)


def _key(relation: catalog.Relation) -> str:
    key = relation.schema.key
    detail = f"key ({', '.join(key)})" if key else "no key: rows are told apart by all their columns"
    return f"{detail}; init sets REPLICA IDENTITY FULL" if relation.needs_full else detail


#: What is asked of every source, however its changes are captured.
SERVER_CHECKS: Final[Mapping[str, Check]] = {"version": _version, "primary": _primary, "encoding": _encoding}

_CHECKS: Final[Mapping[str, Check]] = {
    **SERVER_CHECKS,
    "wal_level": _wal_level,
    "slot": _slots,
    "max_wal_senders": _senders,
    "wal_sender_timeout": _sender_timeout,
    "replication": _replication,
    "publication": _publication,
    "tables": _tables,
}
