"""Opens sealed values of entries for people who may see them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any, Final

from connectors.ledger.key_slots import NoSlot, opened
from connectors.ledger.reader import LedgerReader
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.canonical import Json
from worker_sync.ledger.envelope import (
    GENERATION,
    KEYED,
    SUBJECT,
    MasterKey,
    Place,
    Side,
    Subject,
    SubjectKey,
    Unopenable,
    is_sealed,
)
from worker_sync.ledger.key_slot import PersonalKey

#: What is shown in place of a value whose key was destroyed, and of one that was altered or moved.
FORGOTTEN: Final[Mapping[str, bool]] = {"forgotten": True}
UNREADABLE: Final[Mapping[str, bool]] = {"unreadable": True}


def open_master(reader: LedgerReader, key: PersonalKey) -> MasterKey | None:
    """The master of a ledger that the configured key opens; None where nothing personal was ever recorded. Raises
    ConfigError for a key that opens none of the slots, and what LedgerReader raises."""
    slots = reader.key_slots()
    try:
        return opened(key, slots) if slots else None
    except NoSlot as error:
        raise ConfigError(f"{error}; see: worker-sync audit personal-keys list") from error


class Revealer:
    """Opens entries that `reader` found. `unreadable` counts values that were altered, or stand elsewhere than they
    were sealed for."""

    def __init__(self, reader: LedgerReader, key: PersonalKey) -> None:
        self.unreadable = 0
        self._reader, self._key = reader, key
        self._key_of = lru_cache(maxsize=1024)(self._read)

    def reveal(self, entry: dict[str, Json]) -> dict[str, Json]:
        """The entry with its values in plain text. Raises what LedgerReader raises, and ConfigError where the
        configured key does not open it."""
        shown = dict(entry)
        sides: tuple[Side, ...] = ("before", "after")
        for side in sides:
            if isinstance(entry.get(side), dict):
                shown[side] = {name: self._value(entry, side, name, v) for name, v in entry[side].items()}
        if isinstance(entry.get("key"), dict):
            shown["key"] = {name: self._part(shown, name, v) for name, v in entry["key"].items()}
        return shown

    def _value(self, entry: Mapping[str, Json], side: Side, name: str, value: Json) -> Json:
        if not is_sealed(value):
            return value
        key = self._key_of(value[SUBJECT], value[GENERATION])
        if key is None:
            return dict(FORGOTTEN)
        try:
            return key.open(value, Place(str(entry.get("id")), str(entry.get("table")), name, side))
        except Unopenable:
            self.unreadable += 1
            return dict(UNREADABLE)

    def _part(self, shown: Mapping[str, Any], name: str, part: Json) -> Json:
        """A part of the key: where one of the rows has the value that a keyed index is of, that value."""
        if isinstance(part, dict) and part.keys() == {KEYED}:
            for row in (shown.get("before"), shown.get("after")):
                if isinstance(row, dict) and name in row:
                    keyed = self._master.keyed(str(shown.get("source")), str(shown.get("table")), row[name])
                    if keyed == part:
                        return row[name]
        return part

    @cached_property
    def _master(self) -> MasterKey:
        master = open_master(self._reader, self._key)
        if master is None:
            raise ConfigError(
                "the ledger has personal data and no key slot; put worker_sync_ledger.personal_keys back from a backup"
            )
        return master

    def _read(self, subject: str, generation: str) -> SubjectKey | None:
        if not generation.isascii() or not generation.isdecimal():
            return None
        wrapped = self._reader.wrapped_key(subject, int(generation))
        if wrapped is None:
            return None
        try:
            return self._master.unwrap(Subject(subject, int(generation)), wrapped)
        except Unopenable as error:
            raise ConfigError(f"{error} does not open with the ledger's master: somebody altered it") from error
