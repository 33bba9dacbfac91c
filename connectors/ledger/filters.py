"""Which entries are looked for, and the query that finds them by an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from worker_sync.ledger.canonical import canonical

_SELECT: Final = "SELECT number, entry FROM worker_sync_ledger.entries"
#: What a partial index leaves out, said again so that the planner knows that it may use the index.
_NOT_A_CHANGE: Final = "kind <> 'change'"
_OF_SUBJECT: Final = "number IN (SELECT s.number FROM worker_sync_ledger.subject_entries s WHERE s.subject = %s)"


class _Session(msgspec.Struct, frozen=True):
    session_user: str | None = None


class _Entry(msgspec.Struct):
    session: _Session = _Session()


_decode: Final = msgspec.json.Decoder(_Entry).decode


@dataclass(frozen=True, slots=True)
class Wanted:
    """Entries with all of these, None for any. `keys` are as `worker_sync.ledger.indexed.key_column` has them, of which
    an entry has one; `subject` is the id of whose data it has; `since` and `until` are aware times of commits, [since,
    until); `first` and `end` numbers, [first, end). At most `limit`.

    No column has the `session_user`: what the query finds by its bytes may have them elsewhere, in a context say, which
    `has_session` then sees."""

    source: str | None = None
    table: str | None = None
    keys: Sequence[str] = ()
    subject: str | None = None
    actor: str | None = None
    session_user: str | None = None
    operation: str | None = None
    kind: str | None = None
    transaction: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    first: int | None = None
    end: int | None = None
    newest_first: bool = False
    limit: int | None = None

    def query(self, beyond: int | None, page: int) -> tuple[str, list[Any]]:
        """The query and its parameters for the next `page` entries beyond a number."""
        conditions: list[tuple[str, Any]] = [
            (f"{column} = %s", value) for column, value in self._texts() if value is not None
        ]
        conditions += [(f"{column} %s", value) for column, value in self._bounds(beyond) if value is not None]
        if self.subject is not None:
            conditions.append((_OF_SUBJECT, self.subject))
        if self.session_user is not None:
            conditions.append(("strpos(entry, %s) > 0", canonical({"session_user": self.session_user})[1:-1].decode()))
        if self.keys:
            conditions.append(("key = ANY(%s)", list(self.keys)) if len(self.keys) > 1 else ("key = %s", self.keys[0]))
        clauses = [condition for condition, _ in conditions]
        if self.kind is not None and self.kind != "change":
            clauses.append(_NOT_A_CHANGE)
        where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        order = "DESC" if self.newest_first else "ASC"
        return f"{_SELECT}{where} ORDER BY number {order} LIMIT %s", [*(value for _, value in conditions), page]

    def has_session(self, entry: str) -> bool:
        """Whether an entry that the query found is of the session that is looked for."""
        if self.session_user is None:
            return True
        try:
            return _decode(entry).session.session_user == self.session_user
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return False

    def _texts(self) -> list[tuple[str, str | None]]:
        return [
            ("source", self.source),
            ("table_name", self.table),
            ("actor", self.actor),
            ("operation", self.operation),
            ("kind", self.kind),
            ("transaction", self.transaction),
        ]

    def _bounds(self, beyond: int | None) -> list[tuple[str, Any]]:
        return [
            ("committed_at >=", self.since),
            ("committed_at <", self.until),
            ("number >=", self.first),
            ("number <", self.end),
            ("number <" if self.newest_first else "number >", beyond),
        ]
