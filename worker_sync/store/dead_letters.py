"""Work that failed for good, kept until a person decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from psycopg.types.json import Jsonb

from worker_sync.store.connection import Connection
from worker_sync.store.queries import queries

#: Letters that are listed or purged in one statement, unless the caller says otherwise.
PAGE: Final = 1000


class LetterKind(StrEnum):
    #: A change of a row, or one that waits for it.
    CHANGE = "change"
    #: A task of ours with its arguments.
    TASK = "task"
    #: A message that never reached our code.
    MESSAGE = "message"


class LetterStatus(StrEnum):
    PARKED = "parked"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be parked. `identity` is the same for the same failed work, however often it fails.

    A change has `pipeline`, `shard`, the source's `table`, `key` (its parts as JSON), `position` (as text) with
    `ordinal`, and `op`; its payload is a batch that holds it alone. A task has `queue` and `task`. `attempts` counts
    the tries that failed; 0 for a change that only waits for an earlier one of its key. `error` must hold no value of a
    row and no secret.
    """

    identity: str
    kind: LetterKind
    payload: bytes = field(repr=False)
    error_type: str
    error: str
    attempts: int = 1
    queue: str = ""
    task: str = ""
    pipeline: str = ""
    shard: int | None = None
    table: str = ""
    key: str = ""
    position: str = ""
    ordinal: int | None = None
    op: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A letter as it is kept; its payload is read apart (`DeadLetters.payload`). Times are the store's."""

    id: int
    identity: str
    kind: LetterKind
    status: LetterStatus
    queue: str
    task: str
    pipeline: str
    shard: int | None
    table: str
    key: str
    position: str
    ordinal: int | None
    op: str
    error_type: str
    error: str
    attempts: int
    trace: str
    parked_at: datetime
    failed_at: datetime
    resolved_at: datetime | None
    resolved_by: str
    note: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a parked change stands."""

    id: int
    shard: int | None
    table: str
    key: str
    position: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters; None takes all. `key` as it stands in a letter."""

    ids: Sequence[int] | None = None
    kind: LetterKind | None = None
    status: LetterStatus | None = LetterStatus.PARKED
    pipeline: str | None = None
    table: str | None = None
    key: str | None = None
    task: str | None = None
    parked_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Parked letters of one kind; `oldest_s`: seconds since the oldest was parked."""

    kind: LetterKind
    pipeline: str
    task: str
    letters: int
    oldest_s: float


class DeadLetters:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def park(self, letters: Iterable[Letter]) -> None:
        """Keep all of them or none. Parking the same again changes only the error and the number of attempts."""
        with self._connection.transaction() as transaction:
            for letter in letters:
                transaction.execute(queries()["park"].encode(), _row(letter))

    def park_repeated(self, letter: Letter) -> None:
        """Keep a task that comes again by itself. While a letter of the same task and arguments is parked, that one
        takes over the error and counts the attempts: a task that fails every minute would else fill the table."""
        with self._connection.transaction() as transaction:
            row = _row(letter)
            if transaction.execute(queries()["repeat_letter"].encode(), row).fetchone() is None:
                transaction.execute(queries()["park"].encode(), row)

    def refuse(self, pipeline: str, table: str, key: str, error_type: str, error: str) -> int:
        """Record that a replay of a parked key was refused again; returns how many letters of the key there are."""
        parameters = {"pipeline": pipeline, "table": table, "key": key, "error_type": error_type, "error": error}
        return len(self._connection.run("refuse_letters", parameters))

    def changes(self, pipeline: str) -> int:
        """How many changes of a pipeline are parked."""
        row = self._connection.one("count_changes", {"pipeline": pipeline})
        assert row is not None
        letters: int = row["letters"]
        return letters

    def places(self, pipeline: str) -> Iterator[Place]:
        """Where the parked changes of a pipeline stand, oldest first."""
        after = 0
        while rows := self._connection.run("parked_changes", {"pipeline": pipeline, "after": after, "limit": PAGE}):
            yield from (Place(**row) for row in rows)
            after = rows[-1]["id"]

    def find(self, wanted: Wanted = Wanted(), after: int = 0, limit: int = PAGE) -> list[DeadLetter]:
        """Letters in the order in which they were parked, from the one behind number `after` on."""
        parameters = {**asdict(wanted), "ids": None if wanted.ids is None else list(wanted.ids)}
        return [
            _letter(row) for row in self._connection.run("find_letters", {**parameters, "after": after, "limit": limit})
        ]

    def payload(self, number: int) -> bytes | None:
        """What failed, as its kind keeps it; None when there is no such letter."""
        row = self._connection.one("letter_payload", {"id": number})
        return bytes(row["payload"]) if row else None

    def resolve(self, numbers: Iterable[int], status: LetterStatus, by: str, note: str = "") -> list[int]:
        """Record what became of parked letters; returns those that were parked until now."""
        parameters = {"ids": list(numbers), "status": str(status), "by": by, "note": note}
        return [row["id"] for row in self._connection.run("resolve_letters", parameters)]

    def discard(
        self, numbers: Iterable[int], sources: Mapping[str, str], by: str, note: str = ""
    ) -> dict[int, int | None]:
        """Give parked letters up, and in the same statement leave a release of their keys for the captures.

        `sources`: of each pipeline the database whose capture is asked. Returns those that were parked until now, each
        with the number of its release, None where there is nobody to ask.
        """
        # Apart, a crash between the two would leave a key that no letter names and nobody lets through.
        parameters = {"ids": list(numbers), "sources": Jsonb(dict(sources)), "by": by, "note": note}
        return {row["id"]: row["signal"] for row in self._connection.run("discard_letters", parameters)}

    def counts(self) -> list[Count]:
        """How many are parked."""
        rows = self._connection.run("count_letters")
        return [Count(**{**row, "kind": LetterKind(row["kind"])}) for row in rows]

    def purge(self, older_than_s: float, limit: int = PAGE) -> int:
        """Remove up to `limit` letters that were resolved longer ago than that; returns how many."""
        return len(self._connection.run("purge_letters", {"older_than_s": older_than_s, "limit": limit}))


def _row(letter: Letter) -> dict[str, Any]:
    return {**asdict(letter), "kind": str(letter.kind)}


def _letter(row: dict[str, Any]) -> DeadLetter:
    return DeadLetter(**{**row, "kind": LetterKind(row["kind"]), "status": LetterStatus(row["status"])})
