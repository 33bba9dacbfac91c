"""The documents after updates that were logged without them, read as of their commit.

A collection without `changeStreamPreAndPostImages` logs an update as what it changed, and the server offers to look the
document up as it is by then, which would be a state of another time. So it is read by a snapshot at the update's own
cluster time: exactly what the transaction left. The server keeps such versions for a while only
(`minSnapshotHistoryWindowInSeconds`, 300 by default); what is older is gone, and the stream stops.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import OperationFailure

from connectors.mongodb.cluster import time_of
from connectors.mongodb.collections import images_statement
from connectors.mongodb.conn import RAW, Document
from connectors.mongodb.events import Event
from connectors.mongodb.raw import found
from connectors.mongodb.whole_documents import row_at
from worker_sync.core.change import Op
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Row

#: SnapshotTooOld, SnapshotUnavailable: that time's versions are gone, or the collection was altered since.
_GONE: Final = frozenset({239, 246})
_RESYNC: Final = "worker-sync resync PIPELINE"
#: `_id`s of one query.
_MOST: Final = 1_000

#: Where to read: a commit position and a table id.
_Read = tuple[str, int]


class Images:
    """Completes the events of a stream. Of collections that are `gone` some servers have nothing any more, and others
    what there was."""

    def __init__(
        self, database: Database[Document], schemas: dict[int, TableSchema], gone: Collection[str] = ()
    ) -> None:
        self._database = database
        self._schemas = schemas
        self._gone = frozenset(gone)

    def complete(self, events: Sequence[Event]) -> None:
        """Give every update its row. `events` are consecutive ones of the stream, up to the newest that was received.
        Raises Halt when a row's version is gone, the driver's errors otherwise."""
        if not any(event.unread for event in events):
            return
        reads: defaultdict[_Read, list[Event]] = defaultdict(list)
        for event, commit in _planned(events):
            assert event.change is not None
            reads[commit, event.change.table].append(event)
        for (commit, number), group in reads.items():
            for at in range(0, len(group), _MOST):
                self._read(commit, self._schemas[number], group[at : at + _MOST])

    def _read(self, commit: str, table: TableSchema, events: Sequence[Event]) -> None:
        rows = self._rows(commit, table, [event.unread for event in events if event.unread])
        for event in events:
            change = event.change
            assert change is not None
            change.after = rows.get(event.key)
            if change.after is None and str(table.table) in self._gone:
                raise _gone(table)
            if change.after is None:
                # The same transaction deletes it later on.
                change.op, change.key = Op.DELETE.value, (event.key,)

    def _rows(self, commit: str, table: TableSchema, keys: Sequence[bytes]) -> dict[str, Row]:
        command = {
            "find": str(table.table),
            "filter": {"_id": {"$in": [RawBSONDocument(key, RAW)["_id"] for key in keys]}},
            "readConcern": {"level": "snapshot", "atClusterTime": time_of(commit)},
        }
        try:
            with self._database.client.start_session(causal_consistency=False) as session:
                rows = (row_at(data, at) for data, at in found(self._database, session, command))
                return {row[0]: row for row in rows}
        except OperationFailure as error:
            if error.code not in _GONE:
                raise
            raise _gone(table) from None
        except ValueError as error:
            raise Halt(State.UNREPRESENTABLE_VALUE, f"{table.table}: {error}", _RESYNC) from None


def _planned(events: Sequence[Event]) -> Iterator[tuple[Event, str]]:
    """Every update without its row, with the position to read it at: its own, or a later one up to which nothing
    else happened to the row, so that one query serves many.

    All events of positions before the newest are here; of the newest itself more may come.
    """
    newest = events[-1].info.commit
    before = next((event.info.commit for event in reversed(events) if event.info.commit != newest), newest)
    last = {(event.change.table, event.key): event for event in events if event.change is not None}
    for event in events:
        if event.unread and event.change is not None:
            own = event.info.commit
            is_last = last[event.change.table, event.key] is event
            yield event, before if is_last and own != newest else own


def _gone(table: TableSchema) -> Halt:
    return Halt(
        State.POSITION_LOST,
        f"{table.table}: an update was logged without the document after it, and its version of then is gone",
        f"{images_statement(str(table.table))} so that it can't happen again, then {_RESYNC}",
    )
