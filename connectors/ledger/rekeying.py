"""Changing the configured key of a ledger: another key gets a slot, later the old one's slot is removed.

Each step is an entry, in the transaction of what it says. The master stays as it is, so nothing that was sealed or
indexed changes, and workers with either key record the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection

from connectors.ledger.appender import Appender
from connectors.ledger.key_slots import NoSlot, Slot, live, open_or_make, opened, read
from connectors.ledger.session import transaction
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.key_slot import PersonalKey
from worker_sync.ledger.prepared import prepared

ADDED_KIND: Final = "personal-key-added"
REMOVED_KIND: Final = "personal-key-removed"

#: Whoever changes slots does it alone, and before anything is read; the triggers take this lock, too.
_TURN: Final = "SELECT pg_advisory_xact_lock(1462979184)"
_ADD: Final = """
INSERT INTO worker_sync_ledger.personal_keys (slot, is_first, wrapped_master) VALUES ($1, false, $2::bytea)
"""
_REMOVE: Final = """
UPDATE worker_sync_ledger.personal_keys SET wrapped_master = NULL, removed_at = clock_timestamp() WHERE slot = $1
"""
_NEXT: Final = "see: worker-sync audit personal-keys list"


@dataclass(frozen=True, slots=True)
class Added:
    """A key that has its slot; `number` is that of the entry, None where it was there already."""

    slot: str
    number: int | None


def add(url: str, new: PersonalKey, existing: PersonalKey, by: str, name: str) -> Added:
    """Give a key its slot, in the name of `by`. `existing` is a key that has one, `name` what errors call it. Raises
    ConfigError where that one opens nothing and for a new key that was removed before; Unreachable and Transient."""
    with transaction(url) as connection:
        connection.execute(_TURN)
        try:
            master = open_or_make(connection, existing, name)
            if _is_there(read(connection), new):
                return Added(new.slot, None)
        except NoSlot as error:
            raise ConfigError(f"{error}; {_NEXT}") from error
        connection.execute(_ADD, [new.slot, new.wrap(master)])
        return Added(new.slot, _append(connection, ADDED_KIND, new.slot, by))


def _is_there(slots: Sequence[Slot], new: PersonalKey) -> bool:
    own = next((slot for slot in slots if slot.id == new.slot), None)
    if own is None:
        return False
    if own.wrapped_master is None:
        raise ConfigError(
            f"this key was removed, with key slot {own.id} at {own.removed_at}, and never comes back; add another one "
            "(openssl rand -base64 32 makes one)"
        )
    opened(new, slots, "the key to add")
    return True


def remove(url: str, slot: str, configured: PersonalKey | None, by: str, *, force: bool = False) -> int:
    """Remove a slot in the name of `by`; the key is worthless from then on, but to who has an old copy of the database.
    Returns the entry's number. Raises ConfigError as `check_removal` does, Unreachable and Transient."""
    with transaction(url) as connection:
        connection.execute(_TURN)
        check_removal(read(connection), slot, configured, force=force)
        connection.execute(_REMOVE, [slot])
        return _append(connection, REMOVED_KIND, slot, by)


def check_removal(slots: Sequence[Slot], slot: str, configured: PersonalKey | None, *, force: bool) -> None:
    """Raise ConfigError for a slot that is not there any more or is the last one. Without `force` also where the
    configured key opens no other slot: it is the one to be removed, or nobody here knows who can open the rest."""
    found = next((one for one in slots if one.id == slot), None)
    if found is None:
        raise ConfigError(f"the ledger has no key slot {slot}; {_NEXT}")
    if found.wrapped_master is None:
        raise ConfigError(f"key slot {slot} was removed already, at {found.removed_at}")
    if len(live(slots)) == 1:
        raise ConfigError(
            f"key slot {slot} is the last one, without it nobody could read the ledger's personal data; add another "
            "key first: worker-sync audit personal-keys add"
        )
    if not force:
        _check_configured(slots, slot, configured)


def _check_configured(slots: Sequence[Slot], slot: str, configured: PersonalKey | None) -> None:
    if configured is not None and configured.slot == slot:
        raise ConfigError(
            f"key slot {slot} is that of the key which this configuration uses: its workers would stop when they "
            "connect anew; set ledger.personal_key to the other key first, or give --force"
        )
    try:
        if configured is None:
            raise NoSlot("ledger.personal_key is not set")
        opened(configured, slots)
    except NoSlot as error:
        raise ConfigError(
            f"{error}; nobody here knows whether a slot that stays can be opened; give --force to remove it anyway"
        ) from error


def _append(connection: Connection[Any], kind: str, slot: str, by: str) -> int:
    return Appender().append(connection, [prepared({"kind": kind, "slot": slot, "by": by})])
