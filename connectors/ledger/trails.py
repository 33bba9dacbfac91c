"""The trail of one source in the ledger: where it began, where it stands, and what it records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from psycopg import Connection

from connectors.base import Mark
from worker_sync.core.errors import Halt, State
from worker_sync.core.position import Position
from worker_sync.core.table_scope import TableScope
from worker_sync.ledger.indexed import searchable
from worker_sync.ledger.prepared import Prepared
from worker_sync.ledger.recording import begin, gap, last_position
from worker_sync.ledger.scopes import difference, scope, tables_of

#: What the name of a pipeline into the ledger begins with; the source's name is the rest.
PREFIX: Final = "audit."

_LAST_OPENING: Final = """
SELECT entry FROM worker_sync_ledger.entries
WHERE source = $1 AND kind <> 'change' AND kind IN ('begin', 'gap') ORDER BY number DESC LIMIT 1
"""
_LAST_SCOPE: Final = """
SELECT entry FROM worker_sync_ledger.entries
WHERE source = $1 AND kind <> 'change' AND kind = 'scope' ORDER BY number DESC LIMIT 1
"""
# Backwards from the end of the ledger, so quick unless the other sources have recorded far more since.
_LAST: Final = "SELECT entry FROM worker_sync_ledger.entries WHERE source = $1 ORDER BY number DESC LIMIT 1"


def source_of(pipeline: str) -> str:
    """The source whose trail a pipeline records."""
    return pipeline.removeprefix(PREFIX)


def opening(connection: Connection[Any], source: str, identity: str, start: Position) -> Prepared:
    """The entry with which a trail begins to be recorded from `start` on: the first one, or a gap behind what is there.

    Raises Halt where the trail's last entry can't be read.
    """
    before = _entry(connection, _LAST_OPENING, source)
    last = _entry(connection, _LAST, source)
    if before is None or last is None:
        return begin(source, identity, start)
    try:
        reached = last_position(last)
        return gap(source, identity, reached, start, _reason(before["identity"], identity, reached, start))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(source) from error


def rescoped(
    connection: Connection[Any], source: str, mark: Mark, tables: Sequence[TableScope], returned: Sequence[str]
) -> list[Prepared]:
    """The entries that say which tables the trail, which stands at `mark`, records from here on, and which of those
    `returned` were out of it without a word: none where that is what it said last, and a gap in front of what is less.

    Raises Halt where the entry that said so last can't be read.
    """
    last = _entry(connection, _LAST_SCOPE, source)
    try:
        before = [] if last is None else tables_of(last)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(source) from error
    found = difference(before, tables, returned)
    if last is not None and set(before) == set(tables) and not found.shortfall:
        return []
    said = scope(source, mark.position, tables, found)
    if not found.shortfall:
        return [said]
    return [gap(source, mark.identity, str(mark.position), None, found.shortfall), said]


def _reason(identity_before: str, identity: str, reached: str, start: Position) -> str:
    if identity_before != identity:
        return f"the source is another server now, before it was {identity_before}"
    if start < Position.parse(reached):
        return "recording begins again before what is recorded already: changes may stand here twice"
    return "recording began anew: what committed in between is not recorded"


def _entry(connection: Connection[Any], sql: str, source: str) -> dict[str, Any] | None:
    row = connection.execute(sql, [searchable(source)]).fetchone()
    try:
        return None if row is None else msgspec.json.decode(row[0], type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise _damaged(source) from error


def _damaged(source: str) -> Halt:
    return Halt(State.PREFLIGHT_FAILED, f"the last entries of {source} are damaged", "worker-sync audit verify")
