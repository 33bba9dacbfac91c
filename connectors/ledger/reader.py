"""Reads the ledger over a connection of its own; nothing that is read is trusted.

Entries are read in ranges of numbers, each by one query, so that memory is bounded and the primary key is what orders
them. A verification reads all of it in one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from connectors.ledger.filters import Wanted
from connectors.ledger.key_slots import SLOTS, Slot
from connectors.postgres.conn import connect, redact
from connectors.postgres.errors import translated
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.merkle import Frontier, split_hashes
from worker_sync.ledger.noted import Noted
from worker_sync.ledger.proofs import HashOf
from worker_sync.ledger.searched import StoredRow
from worker_sync.ledger.tiles import hashes_from
from worker_sync.libpq import PatientConnection

#: Entries of one query. A multiple of 256, so that a range has whole subtrees.
RANGE: Final = 8192
#: Rows of one query where entries are looked for.
_PAGE: Final = 1000
_NOTES: Final = 500
#: What `hash_of` remembers: ranges of up to 128 stored hashes, some 8 KiB each, and hashes that it computed.
_TILES: Final = 1 << 12
_HASHES: Final = 1 << 16

#: Texts in paths of an index have to be qualified: the reader's search path is the server's own catalogue.
_SETTINGS: Final = {"search_path": "pg_catalog"}

_ROW: Final = """
SELECT number, leaf, entry, timestamptz_send(recorded_at), kind, source, table_name, operation, key, transaction,
       timestamptz_send(committed_at), actor
FROM worker_sync_ledger.entries
"""


class StoredNote(NamedTuple):
    """A row of `checkpoints`: what is signed stands in the note alone."""

    id: int
    size: int
    note: str


class Figures(NamedTuple):
    """A ledger at a glance: its entries, those of the newest checkpoint and how long ago that was signed (None without
    one), and the bytes of all entries on disk."""

    entries: int
    signed: int | None
    signed_age_s: float | None
    bytes: int


_FIGURES: Final = """
SELECT h.size, c.size, extract(epoch FROM clock_timestamp() - c.signed_at)::float8, (
    SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits
    WHERE inhparent = 'worker_sync_ledger.entries'::regclass)
FROM worker_sync_ledger.head h
LEFT JOIN LATERAL (
    SELECT size, signed_at FROM worker_sync_ledger.checkpoints ORDER BY size DESC, id DESC LIMIT 1
) c ON true
"""


class LedgerReader:
    """A ledger's tables. Raises Unreachable and Transient for a server that does not answer, ConfigError for a
    database without a ledger. Used by one thread."""

    def __init__(self, url: str) -> None:
        self._where = f"{redact(url)} ledger"
        self._connection: PatientConnection[Any] = connect(url, _SETTINGS)
        try:
            if self._rows("SELECT to_regclass('worker_sync_ledger.checkpoints') IS NOT NULL") != [(True,)]:
                raise ConfigError(f"{redact(url)} has no ledger; run: worker-sync init")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it everything is read as it was at one moment, however long that takes. VACUUM keeps what the
        snapshot sees for as long."""
        self._rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            if not self._connection.closed:
                self._rows("ROLLBACK")

    # -- the tree

    def head(self) -> Frontier | None:
        """The tree as its sequencer left it; None for a head that is not there or is no tree."""
        found = self._rows("SELECT size, roots FROM worker_sync_ledger.head")
        try:
            return Frontier(found[0][0], split_hashes(found[0][1])) if len(found) == 1 else None
        except ValueError:
            return None

    def hashes(self, level: int, first: int, end: int) -> list[bytes]:
        """The stored hashes [first, end) of a level: 0 for leaves, 8, 16, ... for subtrees. See `ReadHashes`."""
        if level == 0:
            query = "SELECT leaf FROM worker_sync_ledger.entries WHERE number >= %s AND number < %s ORDER BY number"
            return [leaf for (leaf,) in self._rows(query, first, end)]
        return [hash_ for _, hash_ in self.subtrees(level, first, end)]

    def subtrees(self, level: int, first: int, end: int) -> list[tuple[int, bytes]]:
        """(index, hash) of the stored subtrees [first, end) of a level."""
        query = "SELECT index, hash FROM worker_sync_ledger.subtrees WHERE level = %s AND index >= %s AND index < %s"
        found: list[tuple[int, bytes]] = self._rows(f"{query} ORDER BY index", level, first, end)
        return found

    @property
    def hash_of(self) -> HashOf:
        """For proofs; raises LookupError where a hash isn't stored. Remembers what it has read, as proofs to many trees
        share most of it: ask for a new one in each snapshot."""
        return lru_cache(_HASHES)(hashes_from(lru_cache(_TILES)(self.hashes)))

    def strange_subtrees(self, size: int) -> list[tuple[int, int]]:
        """(level, index) of up to a hundred stored subtrees that a tree of `size` leaves doesn't have."""
        query = """
        SELECT level, index FROM worker_sync_ledger.subtrees
        WHERE level NOT IN (8, 16, 24, 32, 40, 48, 56) OR index < 0 OR index >= %s::bigint >> level
        ORDER BY level, index LIMIT 100
        """
        found: list[tuple[int, int]] = self._rows(query, size)
        return found

    # -- entries

    def rows(self, first: int, end: int) -> list[StoredRow]:
        """The rows [first, end) by number, more than one of a number where somebody put it there."""
        query = f"{_ROW} WHERE number >= %s AND number < %s ORDER BY number, recorded_at"
        found: list[StoredRow] = self._rows(query, first, end)
        return found

    def strays(self, size: int) -> Iterator[StoredRow]:
        """Rows whose number is none of a tree of `size` leaves."""
        yield from self._rows(f"{_ROW} WHERE number < 0 ORDER BY number LIMIT %s", _PAGE)
        yield from self._rows(f"{_ROW} WHERE number >= %s ORDER BY number LIMIT %s", size, _PAGE)

    def entry(self, number: int) -> tuple[bytes, str] | None:
        """The leaf and the bytes of one entry, as text."""
        found = self._rows("SELECT leaf, entry FROM worker_sync_ledger.entries WHERE number = %s", number)
        return found[0] if found else None

    def age_s(self, number: int) -> float | None:
        """Seconds since a row of that number was recorded, as it says; None where there is none."""
        age = "extract(epoch FROM clock_timestamp() - recorded_at)::float8"
        found = self._rows(f"SELECT {age} FROM worker_sync_ledger.entries WHERE number = %s", number)
        return found[0][0] if found else None

    def is_recorded_from(self, number: int, moment: datetime) -> bool:
        """Whether the entry of `number`, or the first behind it that is there, was recorded at an aware time or later;
        True where there is none."""
        query = "SELECT recorded_at >= %s FROM worker_sync_ledger.entries WHERE number >= %s ORDER BY number LIMIT 1"
        found = self._rows(query, moment, number)
        return bool(found[0][0]) if found else True

    def now(self) -> datetime:
        """The server's clock."""
        now: datetime = self._rows("SELECT clock_timestamp()")[0][0]
        return now

    def find(self, wanted: Wanted) -> Iterator[tuple[int, str]]:
        """(number, entry) of those that are wanted, in order; read page by page, each in a snapshot of its own."""
        left, at = wanted.limit, None
        while left is None or left > 0:
            page = _PAGE if left is None else min(left, _PAGE)
            query, parameters = wanted.query(at, page)
            found: list[tuple[int, str]] = self._rows(query, *parameters)
            chosen = [row for row in found if wanted.has_session(row[1])]
            yield from chosen
            if len(found) < page:
                return
            left, at = None if left is None else left - len(chosen), found[-1][0]

    def key_slots(self) -> list[Slot]:
        """The key slots in the order in which they came, also those that were removed."""
        return [Slot(*row) for row in self._rows(SLOTS)]

    def wrapped_key(self, subject: str, generation: int) -> bytes | None:
        """The wrapped key of a subject; None for one that was destroyed, or is not there."""
        query = "SELECT wrapped_key FROM worker_sync_ledger.subjects WHERE id = %s AND generation = %s"
        found = self._rows(query, subject, generation)
        return found[0][0] if found else None

    def noted(self, wanted: Sequence[Noted]) -> set[Noted]:
        """Those of (subject, generation, number) that the search by subject knows."""
        query = """
        SELECT subject, generation, number FROM worker_sync_ledger.subject_entries
        JOIN unnest(%s::text[], %s::int[], %s::bigint[]) AS w (subject, generation, number)
        USING (subject, generation, number)
        """
        return set(self._rows(query, *(list(column) for column in zip(*wanted, strict=True))))

    def changes_of(self, subject: str) -> int:
        """How many changes hold values that are sealed with keys of a subject which are still there."""
        query = """
        SELECT count(*) FROM worker_sync_ledger.subject_entries s
        JOIN worker_sync_ledger.subjects k ON k.id = s.subject AND k.generation = s.generation
        JOIN worker_sync_ledger.entries e ON e.number = s.number AND e.kind = 'change'
        WHERE s.subject = %s AND k.wrapped_key IS NOT NULL
        """
        found: int = self._rows(query, subject)[0][0]
        return found

    def explain(self, wanted: Wanted) -> Any:
        """The server's plan for the first page of `find`, as its JSON."""
        query, parameters = wanted.query(None, _PAGE if wanted.limit is None else wanted.limit)
        return self._rows(f"EXPLAIN (FORMAT JSON) {query}", *parameters)[0][0][0]["Plan"]

    def figures(self) -> Figures | None:
        """How large the ledger is and how far it is signed, cheaply; None without a head."""
        found = self._rows(_FIGURES)
        return Figures(*found[0]) if found else None

    def counted(self, kind: str) -> int:
        """How many entries are of that kind."""
        found = self._rows("SELECT count(*) FROM worker_sync_ledger.entries WHERE kind = %s", kind)
        return int(found[0][0])

    # -- checkpoints

    def notes(self, largest: int | None = None) -> Iterator[StoredNote]:
        """All checkpoints in the order in which they were stored; of trees up to `largest` leaves, if that is given."""
        after = -1 << 62
        while True:
            query = "SELECT id, size, note FROM worker_sync_ledger.checkpoints WHERE id > %s ORDER BY id LIMIT %s"
            found = [StoredNote(*row) for row in self._rows(query, after, _NOTES)]
            yield from (note for note in found if largest is None or note.size <= largest)
            if len(found) < _NOTES:
                return
            after = found[-1].id

    def notes_backwards(self) -> Iterator[StoredNote]:
        """All checkpoints, the one that was stored last first."""
        before = (1 << 63) - 1
        while True:
            query = "SELECT id, size, note FROM worker_sync_ledger.checkpoints WHERE id < %s ORDER BY id DESC LIMIT %s"
            found = [StoredNote(*row) for row in self._rows(query, before, _NOTES)]
            yield from found
            if len(found) < _NOTES:
                return
            before = found[-1].id

    def newest_note(self) -> StoredNote | None:
        """The checkpoint of the largest tree, the last of them."""
        query = "SELECT id, size, note FROM worker_sync_ledger.checkpoints ORDER BY size DESC, id DESC LIMIT 1"
        found = self._rows(query)
        return StoredNote(*found[0]) if found else None

    def _rows(self, query: str, *parameters: Any) -> Any:
        with translated(self._where):
            # Not prepared: a plan for any value could not use an index of some values.
            cursor = self._connection.cursor(binary=True)
            cursor.execute(query.encode(), parameters or None, prepare=False)
            return cursor.fetchall() if cursor.description else []
