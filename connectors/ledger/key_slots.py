"""Key slots in the ledger's database: they hold the one master, for each configured key that opens it.

The first slot comes with the master, in the transaction of whoever uses it first. Of two that do so at once one makes
it and the other, which waited for the commit, reads it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from psycopg import Connection

from worker_sync.ledger.envelope import MasterKey, Unopenable
from worker_sync.ledger.key_slot import PersonalKey

#: Where a key that is opened with comes from, unless somebody names another.
CONFIGURED: Final = "ledger.personal_key"

_TIME: Final = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
SLOTS: Final = f"""
SELECT slot, wrapped_master, to_char(added_at AT TIME ZONE 'UTC', {_TIME}),
       to_char(removed_at AT TIME ZONE 'UTC', {_TIME})
FROM worker_sync_ledger.personal_keys ORDER BY added_at, slot
"""
_MAKE_FIRST: Final = """
INSERT INTO worker_sync_ledger.personal_keys (slot, is_first, wrapped_master) VALUES ($1, true, $2::bytea)
ON CONFLICT DO NOTHING
"""


class NoSlot(Exception):
    """A key does not open the ledger; the text says why."""


class Slot(NamedTuple):
    """A key slot: the master, wrapped, until it is removed. Times are texts as in entries."""

    id: str
    wrapped_master: bytes | None
    added_at: str
    removed_at: str | None


def read(connection: Connection[Any]) -> list[Slot]:
    """All slots in the order in which they came. Raises psycopg.Error."""
    return [Slot(*row) for row in connection.execute(SLOTS).fetchall()]


def open_or_make(connection: Connection[Any], key: PersonalKey, name: str = CONFIGURED) -> MasterKey:
    """The ledger's master; without any slot, a new one with its first slot, which stays if the transaction does. `name`
    is what errors call the key. Raises psycopg.Error and NoSlot."""
    slots = read(connection)
    if not slots:
        connection.execute(_MAKE_FIRST, [key.slot, key.wrap(MasterKey.generate())])
        slots = read(connection)
    return opened(key, slots, name)


def opened(key: PersonalKey, slots: Sequence[Slot], name: str = CONFIGURED) -> MasterKey:
    """The master, out of the slot of a key. Raises NoSlot."""
    own = next((slot for slot in slots if slot.id == key.slot), None)
    if own is None:
        there = ", ".join(slot.id for slot in live(slots)) or "none"
        raise NoSlot(f"{name} opens no key slot of this ledger: its own would be {key.slot}, there are: {there}")
    if own.wrapped_master is None:
        raise NoSlot(f"{name} was removed from this ledger: its key slot {own.id} is gone since {own.removed_at}")
    try:
        return key.unwrap(own.wrapped_master)
    except Unopenable as error:
        raise NoSlot(f"{name} does not open its key slot {own.id}: somebody altered the slot") from error


def live(slots: Sequence[Slot]) -> list[Slot]:
    """Those that are not removed."""
    return [slot for slot in slots if slot.wrapped_master is not None]
