"""How commands of `audit` find personal data: by keyed indexes, in place of what people type."""

from __future__ import annotations

from itertools import product
from typing import Final

import click

from connectors.ledger.reader import LedgerReader
from connectors.ledger.revealing import open_master
from tasks.ledger import personal
from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import Settings
from worker_sync.ledger.canonical import Json
from worker_sync.ledger.indexed import key_column
from worker_sync.ledger.personal import Personal, PersonalColumns

#: Columns of a key given as an array, each of which may be personal.
_MOST_COLUMNS: Final = 6


def needed(settings: Settings) -> Personal:
    """What is declared of personal data. Raises ConfigError where nothing is."""
    found = personal(settings)
    if found is None:
        raise ConfigError("no audit.SOURCE.personal_data is declared")
    return found


def source_of(settings: Settings, source: str | None) -> str:
    """The source that is meant: the given one, or the only one that has a trail. Raises UsageError."""
    if source is None and len(settings.audit) != 1:
        raise click.UsageError(f"which --source? There are: {', '.join(sorted(settings.audit))}")
    return source or next(iter(settings.audit))


def columns_of(found: Personal, source: str, table: str) -> PersonalColumns:
    """Raises ConfigError for a table without personal data."""
    columns = found.of(source, table)
    if columns is None:
        raise ConfigError(f"audit.{source}.personal_data declares nothing of {table}")
    return columns


def subject_id(settings: Settings, reader: LedgerReader, source: str | None, table: str, value: str) -> tuple[str, str]:
    """(source, id) of the subject that `value` names in a table. Raises UsageError, ConfigError, and what LedgerReader
    raises."""
    found, source = needed(settings), source_of(settings, source)
    namespace = columns_of(found, source, table).namespace
    master = open_master(reader, found.key)
    if master is None:
        raise ConfigError("this ledger has no personal data yet; see: worker-sync audit log")
    return source, master.subject_id(source, namespace, value)


def keys_of(
    settings: Settings,
    reader: LedgerReader,
    source: str | None,
    table: str | None,
    parts: dict[str, Json] | list[Json],
) -> list[str]:
    """The searched texts that a row's key may have: by column one, as an array one for each choice of columns that may
    be personal. None where nothing personal is recorded. Raises as `subject_id` does."""
    found = personal(settings)
    columns = found and table and found.of(source_of(settings, source), table)
    if not (found and table and columns):
        return []
    where, master = (source_of(settings, source), table), open_master(reader, found.key)
    if master is None:
        return []
    if isinstance(parts, dict):
        keyed = {n: master.keyed(*where, v) if n in columns.columns else v for n, v in parts.items()}
        return [key_column(keyed)]
    if len(parts) > _MOST_COLUMNS:
        raise click.UsageError("write the key as a JSON object of its columns")
    choices = product(*[(part, master.keyed(*where, part)) for part in parts])
    return [key_column({f"{n:03}": part for n, part in enumerate(choice)}) for choice in choices]
