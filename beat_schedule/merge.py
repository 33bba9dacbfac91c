"""All entries, with what the configuration changes about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from beat_schedule import audit, cleanup, dead_letters, health, heartbeat
from beat_schedule.entry import Entry
from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import Schedule
from worker_sync.core.settings import Settings
from worker_sync.core.settings_file import suggestion

CONCERNS: Final = (heartbeat.ENTRIES, health.ENTRIES, cleanup.ENTRIES, dead_letters.ENTRIES, audit.ENTRIES)


def schedule(settings: Settings) -> dict[str, Entry]:
    """What runs when under these settings. Raises ConfigError for an override of an unknown entry."""
    entries = merge(CONCERNS)
    entries["heartbeat"] = replace(entries["heartbeat"], every_s=settings.heartbeat.every_s)
    changed = override(entries, settings.schedules)
    if not settings.audit:
        changed = {name: entry for name, entry in changed.items() if name not in audit.ENTRIES}
    return {name: replace(entry, timezone=entry.timezone or settings.timezone) for name, entry in changed.items()}


def merge(concerns: Iterable[Mapping[str, Entry]]) -> dict[str, Entry]:
    """The entries of all concerns. Raises ValueError for a name that stands twice."""
    merged: dict[str, Entry] = {}
    for entries in concerns:
        if twice := merged.keys() & entries.keys():
            raise ValueError(f"schedule entries stand twice: {', '.join(sorted(twice))}")
        merged.update(entries)
    return merged


def override(entries: Mapping[str, Entry], changes: Mapping[str, Schedule]) -> dict[str, Entry]:
    """`entries` with other times, and without those that are switched off."""
    for name in changes:
        if name not in entries:
            raise ConfigError(f"schedules.{name}: no entry {name!r}{suggestion(name, entries.keys())}")
    changed = {name: _changed(entry, changes.get(name)) for name, entry in entries.items()}
    return {name: entry for name, entry in changed.items() if name not in changes or changes[name].enabled}


def _changed(entry: Entry, change: Schedule | None) -> Entry:
    if change is None:
        return entry
    zoned = replace(entry, timezone=change.timezone or entry.timezone)
    if change.every_s is None and change.crontab is None:
        return zoned
    return replace(zoned, every_s=change.every_s, crontab=change.crontab)
