"""Named checks of what capturing by triggers needs, each with what mends it. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from connectors.base import Finding
from connectors.postgres import catalog
from connectors.postgres.preflight import SERVER_CHECKS, Check, Server, run_checks
from connectors.postgres.triggers import installed
from connectors.postgres.triggers.names import VERSION, install_command
from worker_sync.core.schema import TableName

#: Recorded changes that nobody reads, in bytes, from where they are worth a failed check.
UNREAD_BYTES: Final = 104_857_600

_RIGHTS_SQL: Final = """
SELECT coalesce(bool_and(has_table_privilege('worker_sync_audit.' || name, privilege)), false)
       AND has_function_privilege('worker_sync_audit.cut()', 'EXECUTE')
FROM unnest(ARRAY['changes', 'stream', 'windows']) AS name,
     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
"""


def check_source(url: str, source: str, tables: Sequence[TableName]) -> list[Finding]:
    """All findings, as `connectors.postgres.preflight.check_source`."""
    return run_checks(url, source, tables, _CHECKS)


def _installed(server: Server) -> Iterator[Finding]:
    found = installed.version(server.conn)
    ok = found == VERSION
    detail = "not installed, or not for this role" if found is None else f"version {found}"
    yield Finding("audit triggers", ok, detail, "" if ok else install_command(server.stream))


def _rights(server: Server) -> Iterator[Finding]:
    if installed.version(server.conn) is None:
        return
    ok = bool(server.value(_RIGHTS_SQL))
    detail = "recorded changes can be read and deleted" if ok else "recorded changes can't be read and deleted"
    fix = f"{install_command(server.stream)}, by the owner of worker_sync_audit, or grant what --dry-run prints"
    yield Finding("audit rights", ok, detail, "" if ok else fix)


def _size(server: Server) -> Iterator[Finding]:
    if installed.version(server.conn) is None:
        return
    found = installed.status(server.conn)
    size = server.value("SELECT pg_total_relation_size('worker_sync_audit.changes')")
    ok = found.exists or size < UNREAD_BYTES
    state = f"{found.retained_bytes} unread" if found.exists else "nobody reads them yet"
    fix = f"worker-sync up, or worker-sync audit triggers remove {server.stream}"
    yield Finding("recorded changes", ok, f"{size} bytes on disk, {state}", "" if ok else fix)


def _times(server: Server) -> Iterator[Finding]:
    exact = server.value("SELECT current_setting('track_commit_timestamp')") == "on"
    told = "those of commits" if exact else "those of a transaction's last change (track_commit_timestamp is off)"
    yield Finding("commit times", True, f"times are {told}")


def _tables(server: Server) -> Iterator[Finding]:
    relations = catalog.named_relations(server.conn, server.tables)
    broken = installed.broken(server.conn, [relation.oid for relation in relations.values()])
    for table in server.tables:
        relation = relations.get(table)
        if relation is None:
            yield Finding(f"table {table}", False, "does not exist", "correct the tables in the config, or create it")
            continue
        yield Finding(f"table {table}", True, "exists")
        wrong = broken.get(relation.oid, [])
        detail = ", ".join(f"{one.relation}: {one.state}" for one in dict.fromkeys(wrong)) or "enabled, always"
        yield Finding(f"trigger {table}", not wrong, detail, install_command(server.stream) if wrong else "")


_CHECKS: Final[Mapping[str, Check]] = {
    **SERVER_CHECKS,
    "audit triggers": _installed,
    "audit rights": _rights,
    "recorded changes": _size,
    "commit times": _times,
    "tables": _tables,
}
