"""Numbered migrations of the control store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from worker_sync.core.errors import ConfigError
from worker_sync.store.connection import Connection, Record
from worker_sync.store.errors import NotInitialized
from worker_sync.store.queries import queries

_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step from one version of the schema to the next."""

    number: int
    name: str
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations in order. Raises ValueError when their numbers are not 1, 2, 3, ..."""
    found = []
    for file in (files("worker_sync.store") / "migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match is None:
            raise ValueError(f"{file.name} is not NNNN_name.sql")
        found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("the migrations' numbers are not consecutive")
    return tuple(found)


def migrate(connection: Connection) -> list[Migration]:
    """Apply what is missing, all or nothing, and return it. Safe to run in several processes at once."""
    with connection.transaction() as transaction:
        # The lock comes first: two transactions that both create the schema would collide.
        transaction.execute(queries()["lock_migrations"].encode())
        transaction.execute(queries()["create_migrations"].encode())
        # Not through `run`: after a loss that would go on outside of this transaction.
        missing = _missing(transaction.execute(queries()["applied_migrations"].encode()).fetchall())
        for migration in missing:
            transaction.execute(migration.sql.encode())
            parameters = {"number": migration.number, "name": migration.name}
            transaction.execute(queries()["record_migration"].encode(), parameters)
    return missing


def require(connection: Connection) -> None:
    """Raises NotInitialized while a migration that this program knows is missing.

    A newer store is none of its business: processes of the version before go on until they are replaced.
    """
    present = connection.one("has_migrations")
    if not (present and present["present"]):
        raise NotInitialized("run `worker-sync init`")
    at = max((row["number"] for row in connection.run("applied_migrations")), default=0)
    if at < len(migrations()):
        raise NotInitialized(f"it is at version {at}, this program needs {len(migrations())}; run `worker-sync init`")


def _missing(rows: list[Record]) -> list[Migration]:
    applied = {row["number"] for row in rows}
    newest = len(migrations())
    if applied and max(applied) > newest:
        raise ConfigError(
            f"the control store is at version {max(applied)}, this program knows {newest}; use the newer program"
        )
    return [migration for migration in migrations() if migration.number not in applied]
