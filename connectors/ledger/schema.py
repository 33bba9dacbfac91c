"""The ledger's tables: who makes them, who owns them, and what their writer may do.

They belong to a role that nobody logs in as, so that who writes entries can neither change nor drop them, nor take the
triggers away. A role that may not create roles keeps them for itself; `preflight` says so, and what a DBA runs.

What this can't prevent: a superuser (the control store's own role, where the control store is the embedded one), a role
that may create roles, the owner and whoever has the server's files can alter or drop anything, or detach a month. For
them the ledger is no obstacle; that it shows is what signed checkpoints and verification are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

import psycopg
from psycopg import Connection

from connectors.postgres.statements import quote
from connectors.postgres.watermarks import ADVISORY_LOCK

SCHEMA: Final = "worker_sync_ledger"
OWNER: Final = "worker_sync_ledger_owner"

TABLES: Final = ("head", "entries", "subtrees", "checkpoints", "personal_keys", "subjects", "subject_entries")
_FUNCTIONS: Final = (
    "refuse()",
    "only_grow()",
    "only_forget()",
    "remove_in_turn()",
    "only_remove()",
    "ensure_partitions(timestamptz)",
)
#: The first server whose memberships say whether they may be used by SET ROLE.
_MEMBERSHIP_OPTIONS: Final = 160_000

_EXISTS: Final = "SELECT to_regclass('worker_sync_ledger.checkpoints') IS NOT NULL"
_MAKE_OWNER: Final = f"""
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') THEN
        CREATE ROLE {OWNER} NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    -- Another database of this server is being set up as well.
    NULL;
END
$$
"""


def create(connection: Connection[Any]) -> None:
    """Create what is missing. Two processes at once wait for each other. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock($1)", [ADVISORY_LOCK])
        if connection.execute(_EXISTS).fetchone() == (True,):
            return
        connection.execute(files(__package__).joinpath("schema.sql").read_bytes())
        (user,) = connection.execute("SELECT current_user").fetchone() or ("",)
        with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
            _give_away(connection, user)
        connection.execute(f"SELECT {SCHEMA}.ensure_partitions(clock_timestamp())")


def hand_over(months: Sequence[str] = ()) -> list[str]:
    """The statements that give everything to the owner, with the partitions that are there."""
    return [
        f"ALTER SCHEMA {SCHEMA} OWNER TO {OWNER}",
        *(f"ALTER TABLE {SCHEMA}.{table} OWNER TO {OWNER}" for table in (*TABLES, *months)),
        *(f"ALTER FUNCTION {SCHEMA}.{function} OWNER TO {OWNER}" for function in _FUNCTIONS),
    ]


def grants(user: str) -> list[str]:
    """What a role needs to write the ledger, as the owner grants it."""
    role = quote(user)
    return [
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}",
        f"GRANT SELECT, INSERT ON {SCHEMA}.entries, {SCHEMA}.subtrees, {SCHEMA}.checkpoints TO {role}",
        f"GRANT SELECT, UPDATE (size, roots, recorded_at) ON {SCHEMA}.head TO {role}",
        f"GRANT SELECT, INSERT ON {SCHEMA}.personal_keys, {SCHEMA}.subjects, {SCHEMA}.subject_entries TO {role}",
        f"GRANT UPDATE (wrapped_master, removed_at) ON {SCHEMA}.personal_keys TO {role}",
        f"GRANT UPDATE (wrapped_key, forgotten_at) ON {SCHEMA}.subjects TO {role}",
        f"GRANT EXECUTE ON FUNCTION {SCHEMA}.ensure_partitions(timestamptz) TO {role}",
    ]


def _give_away(connection: Connection[Any], user: str) -> None:
    connection.execute(_MAKE_OWNER)
    joined = _join(connection, user)
    schema, *others = hand_over()
    usage, *rights = grants(user)
    connection.execute(schema)
    _as_owner(connection, [usage])
    for statement in others:
        connection.execute(statement)
    _as_owner(connection, rights)
    if joined:
        connection.execute(f"REVOKE {OWNER} FROM {quote(user)}")


def _join(connection: Connection[Any], user: str) -> bool:
    """Become a member of the owner for as long as it takes; False for who is one already, as superusers are."""
    options = connection.info.server_version >= _MEMBERSHIP_OPTIONS
    may = f"SELECT pg_has_role('{OWNER}', '{'SET' if options else 'MEMBER'}')"
    if connection.execute(may).fetchone() == (True,):
        return False
    connection.execute(f"GRANT {OWNER} TO {quote(user)}{' WITH INHERIT FALSE, SET TRUE' if options else ''}")
    return True


def _as_owner(connection: Connection[Any], statements: list[str]) -> None:
    connection.execute(f"SET LOCAL ROLE {OWNER}")
    for statement in statements:
        connection.execute(statement)
    connection.execute("RESET ROLE")
