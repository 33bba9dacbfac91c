"""What must hold of a database before a ledger can be written to it, and what its writer could do to it."""

from __future__ import annotations

from typing import Any, Final

from psycopg import Connection

from connectors.base import Finding
from connectors.ledger.key_slots import NoSlot, opened, read
from connectors.ledger.schema import OWNER, SCHEMA, grants, hand_over
from connectors.postgres import checks, watermarks
from connectors.postgres.statements import quote
from worker_sync.ledger.key_slot import PersonalKey

#: How a role is called that a DBA is told to make.
_WRITER: Final = "worker_sync_ledger_writer"
#: What a ledger needs of what any target does.
_SHARED: Final = {"server-version", "writable", "watermark-table"}

_STATE: Final = f"""
SELECT current_database(), current_user, r.rolsuper, r.rolcreaterole,
       has_database_privilege(current_database(), 'CREATE'),
       (SELECT pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = '{SCHEMA}' AND c.relname = 'entries'),
       coalesce((SELECT pg_has_role(o.oid, 'MEMBER') FROM pg_roles o WHERE o.rolname = '{OWNER}'), false)
FROM pg_roles r WHERE r.rolname = current_user
"""
# By number: a name can't be looked up without the right to the schema.
_RIGHTS: Final = f"""
SELECT bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND
                CASE c.relname WHEN 'head' THEN has_any_column_privilege(c.oid, 'UPDATE')
                               ELSE has_table_privilege(c.oid, 'INSERT') END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = '{SCHEMA}'
  AND c.relname IN ('head', 'entries', 'subtrees', 'checkpoints', 'personal_keys', 'subjects', 'subject_entries')
"""
_MONTHS: Final = f"""
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_namespace n ON n.oid = p.relnamespace
WHERE n.nspname = '{SCHEMA}' AND p.relname = 'entries' AND c.relkind = 'r' ORDER BY 1
"""


def preflight(connection: Connection[Any], key: PersonalKey | None = None) -> list[Finding]:
    """See `connectors.base.Sink.preflight`. `key` is the configured one where personal data is declared."""
    row = connection.execute(_STATE).fetchone()
    assert row is not None
    database, user, is_super, makes_roles, may_create, owner, is_member = row
    shared = [found for found in checks.preflight(connection, (), True) if found.check in _SHARED]
    if owner is None:
        grant = f"GRANT CREATE ON DATABASE {quote(database)} TO {quote(user)}"
        shared.append(Finding("ledger-tables", may_create, f"role {user} is to create schema {SCHEMA}", grant))
    else:
        rights = _rights(connection, user)
        shared += [rights, *([_personal_key(connection, key)] if rights.ok and key is not None else [])]
    able = "is a superuser" if is_super else "may create roles" if makes_roles else ""
    return [*shared, _owner(connection, user, owner, able, is_member)]


def _rights(connection: Connection[Any], user: str) -> Finding:
    allowed = connection.execute(_RIGHTS).fetchone() == (True,)
    detail = f"role {user} {'adds' if allowed else 'may not add'} to the ledger"
    return Finding("ledger-tables", allowed, detail, "; ".join(_grants(user)))


def _personal_key(connection: Connection[Any], key: PersonalKey) -> Finding:
    check, slots = "ledger-personal-key", read(connection)
    if not slots:
        return Finding(check, True, f"the first change with personal data makes key slot {key.slot}")
    try:
        opened(key, slots)
    except NoSlot as error:
        fix = "set ledger.personal_key to a key that has a slot, or give it one: worker-sync audit personal-keys add"
        return Finding(check, False, str(error), fix)
    return Finding(check, True, f"ledger.personal_key opens key slot {key.slot}")


def _grants(user: str) -> list[str]:
    """Those of the ledger, and those of the watermarks, which are no part of it."""
    role = quote(user)
    return [
        *grants(user),
        f"GRANT USAGE ON SCHEMA {watermarks.SCHEMA} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {watermarks.SCHEMA}.watermarks TO {role}",
    ]


def _owner(connection: Connection[Any], user: str, owner: str | None, able: str, is_member: bool) -> Finding:
    """Who could alter the ledger. No failure: altering it would show, and the embedded server has one role only."""
    check = "ledger-owner"
    writer = [f"CREATE ROLE {_WRITER} LOGIN PASSWORD '...'", *_grants(_WRITER)]
    if able:
        return Finding(
            check, True, f"role {user} {able} and so could alter the ledger; verification would show it",
            f"connect as another role: {'; '.join(writer)}",
        )  # fmt: skip
    if owner in (user, None) and not (owner is None and is_member):
        months = [name for (name,) in connection.execute(_MONTHS)]
        statements = [f"CREATE ROLE {OWNER} NOLOGIN", *hand_over(months), *grants(user)]
        detail = f"the ledger's tables belong to the role that writes them, {user}: no role but a DBA can part the two"
        return Finding(check, True, detail, "; ".join(statements))
    if is_member:
        detail = f"role {user} is a member of {OWNER} and so could alter the ledger"
        return Finding(check, True, detail, f"REVOKE {OWNER} FROM {quote(user)}")
    return Finding(check, True, f"the ledger belongs to {owner}, role {user} can only add to it")
