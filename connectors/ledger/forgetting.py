"""Forgetting somebody: one person asks for it, another one approves, and the key of their data is destroyed.

Both steps are entries. The second one and the end of the key are one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from psycopg import Connection

from connectors.ledger.appender import Appender
from connectors.ledger.session import transaction
from connectors.ledger.subjects import EXCLUDE, destroy, newest, note
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.envelope import Subject
from worker_sync.ledger.merkle import leaf_hash
from worker_sync.ledger.prepared import prepared

REQUESTED_KIND: Final = "forget-requested"
FORGOTTEN_KIND: Final = "forgotten"

_ENTRY: Final = "SELECT leaf, entry FROM worker_sync_ledger.entries WHERE number = $1::bigint"


class Request(msgspec.Struct, frozen=True):
    """An entry that asks for somebody to be forgotten: whom, as the table of a source names them, and who asks."""

    kind: str
    source: str
    table: str
    subject: str
    generation: str
    by: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done: the number of its entry, and the request that it answers."""

    number: int
    request: Request


def request(url: str, source: str, table: str, subject: str, by: str) -> int:
    """Ask, in the name of `by`, that a subject be forgotten. Returns the number of the request. Raises ConfigError for
    somebody of whom there is nothing to forget, Unreachable and Transient."""
    with transaction(url) as connection:
        whom = newest(connection, subject)
        if whom is None:
            raise ConfigError("nothing is kept of this subject: there is no key of theirs to destroy")
        made = Request(REQUESTED_KIND, source, table, whom.id, str(whom.generation), by)
        return _append(connection, whom, msgspec.to_builtins(made))


def approve(url: str, number: int, by: str) -> Forgotten:
    """Approve a request in the name of `by`, and destroy the key. Raises ConfigError for what is no request, one by the
    same person, and one that was answered; Unreachable and Transient."""
    with transaction(url) as connection:
        # Before anything is read: who records with the key is done then, and nobody begins to.
        connection.execute(EXCLUDE)
        asked = _request(connection, number)
        if _person(asked.by) == _person(by):
            raise ConfigError(f"{asked.by} asked for it; another person has to approve (--by NAME)")
        whom = Subject(asked.subject, int(asked.generation))
        if not destroy(connection, whom):
            raise ConfigError(f"request {number} was answered: the key is destroyed already")
        entry = {**msgspec.to_builtins(asked), "kind": FORGOTTEN_KIND, "by": by}
        entry |= {"requested_by": asked.by, "request": str(number)}
        return Forgotten(_append(connection, whom, entry), asked)


def _append(connection: Connection[Any], whom: Subject, entry: dict[str, Any]) -> int:
    number = Appender().append(connection, [prepared(entry)])
    note(connection, [(whom, number)])
    return number


def _request(connection: Connection[Any], number: int) -> Request:
    row = connection.execute(_ENTRY, [number]).fetchone()
    try:
        found = msgspec.json.decode(row[1], type=Request) if row else None
    except msgspec.MsgspecError:
        found = None
    if row is None or found is None or found.kind != REQUESTED_KIND:
        raise ConfigError(f"entry {number} is no request; see: worker-sync audit log --kind {REQUESTED_KIND}")
    if leaf_hash(row[1].encode()) != row[0] or not found.generation.isdecimal():
        raise ConfigError(f"entry {number} was altered; next: worker-sync audit verify")
    return found


def _person(name: str) -> str:
    return " ".join(name.split()).casefold()
