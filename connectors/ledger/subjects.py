"""Keys of subjects in the ledger's database: made with the first entry of somebody, destroyed when they are forgotten.

Who records holds a shared lock, who forgets an exclusive one. So a key that was read is there until the entries that
were sealed with it are, and behind a forgetting nothing is sealed with a key that was destroyed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from psycopg import Connection

from connectors.ledger.key_slots import NoSlot, open_or_make
from worker_sync.core.errors import Halt, State
from worker_sync.ledger.envelope import MasterKey, Subject, SubjectKey, Unopenable
from worker_sync.ledger.key_slot import PersonalKey

#: Opened keys that a sink remembers.
REMEMBERED: Final = 10_000

_SHARE: Final = "SELECT pg_advisory_xact_lock_shared(1462979183)"
#: For who forgets; it waits for those that record.
EXCLUDE: Final = "SELECT pg_advisory_xact_lock(1462979183)"
_NEWEST: Final = """
SELECT DISTINCT ON (id) id, generation, wrapped_key FROM worker_sync_ledger.subjects WHERE id = ANY($1::text[])
ORDER BY id, generation DESC
"""
# In one order, so that two that make the same keys don't wait for each other.
_MAKE: Final = """
INSERT INTO worker_sync_ledger.subjects (id, generation, wrapped_key)
SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[]) AS made (id, generation, wrapped_key) ORDER BY id
ON CONFLICT DO NOTHING
"""
_DESTROY: Final = """
UPDATE worker_sync_ledger.subjects SET wrapped_key = NULL, forgotten_at = clock_timestamp()
WHERE id = $1 AND generation = $2::int AND wrapped_key IS NOT NULL
"""
_NOTE: Final = """
INSERT INTO worker_sync_ledger.subject_entries (subject, number, generation)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::int[])
"""


class SubjectKeys:
    """Keys of subjects as one sink uses them. The master is opened once a connection: so long a worker whose key was
    removed goes on."""

    def __init__(self, key: PersonalKey) -> None:
        self._key = key
        self._master: MasterKey | None = None
        # By id, with the bytes that were opened: what another transaction made, or undid, is opened anew.
        self._opened: OrderedDict[str, tuple[bytes, SubjectKey]] = OrderedDict()

    def close(self) -> None:
        """The connection is gone, and with it maybe the transaction that made the master: open it anew."""
        self._master = None

    def master(self, connection: Connection[Any]) -> MasterKey:
        """The ledger's master, made where there is none. Raises psycopg.Error, and Halt where the configured key opens
        no slot."""
        if self._master is None:
            try:
                self._master = open_or_make(connection, self._key)
            except NoSlot as error:
                raise _halt(error) from error
        return self._master

    def of(self, connection: Connection[Any], ids: Collection[str]) -> dict[str, SubjectKey]:
        """The keys of subjects, made where there is none or it was destroyed; they stay until the transaction's end.
        Raises psycopg.Error, and Halt as `master` does or where a key was altered."""
        master = self.master(connection)
        connection.execute(_SHARE, prepare=True)
        wanted = sorted(ids)
        found = _newest(connection, wanted)
        absent = [who for who in wanted if who not in found or found[who][1] is None]
        if absent:
            _make(connection, master, [Subject(who, found[who][0] + 1 if who in found else 1) for who in absent])
            found |= _newest(connection, absent)
        return {who: self._open(master, who, *found[who]) for who in wanted}

    def note(self, connection: Connection[Any], first: int, found: Sequence[Mapping[str, SubjectKey]]) -> None:
        """Note whose data the entries from number `first` on hold. Raises psycopg.Error."""
        note(connection, [(key.subject, number) for number, keys in enumerate(found, first) for key in keys.values()])

    def _open(self, master: MasterKey, who: str, generation: int, wrapped: bytes | None) -> SubjectKey:
        assert wrapped is not None
        known = self._opened.get(who)
        if known is None or known[0] != wrapped:
            known = self._opened[who] = wrapped, _opened(master, Subject(who, generation), wrapped)
            if len(self._opened) > REMEMBERED:
                self._opened.popitem(last=False)
        self._opened.move_to_end(who)
        return known[1]


def note(connection: Connection[Any], rows: Sequence[tuple[Subject, int]]) -> None:
    """Note that entries, by their numbers, are of subjects. Raises psycopg.Error."""
    if rows:
        columns = [[s.id for s, _ in rows], [number for _, number in rows], [s.generation for s, _ in rows]]
        connection.execute(_NOTE, columns, prepare=True)


def newest(connection: Connection[Any], subject: str) -> Subject | None:
    """The subject's newest generation; None where no key is kept of it. Raises psycopg.Error."""
    generation, wrapped = _newest(connection, [subject]).get(subject, (0, None))
    return None if wrapped is None else Subject(subject, generation)


def destroy(connection: Connection[Any], subject: Subject) -> bool:
    """Destroy a subject's key; False where it was destroyed before. Raises psycopg.Error."""
    return connection.execute(_DESTROY, [subject.id, subject.generation]).rowcount == 1


def _newest(connection: Connection[Any], ids: Sequence[str]) -> dict[str, tuple[int, bytes | None]]:
    rows = connection.execute(_NEWEST, [list(ids)], prepare=True).fetchall()
    return {who: (generation, wrapped) for who, generation, wrapped in rows}


def _make(connection: Connection[Any], master: MasterKey, subjects: Sequence[Subject]) -> None:
    columns = [[s.id for s in subjects], [s.generation for s in subjects], [master.make(s) for s in subjects]]
    connection.execute(_MAKE, columns, prepare=True)


def _opened(master: MasterKey, subject: Subject, wrapped: bytes) -> SubjectKey:
    try:
        return master.unwrap(subject, wrapped)
    except Unopenable as error:
        what = f"{error} does not open with the ledger's master: somebody altered it"
        recovery = "put its row of worker_sync_ledger.subjects back from a backup, then worker-sync resume PIPELINE"
        raise Halt(State.PREFLIGHT_FAILED, what, recovery) from error


def _halt(error: NoSlot) -> Halt:
    recovery = (
        "set it to a key that has a slot (worker-sync audit personal-keys list) and restart the workers, or give it "
        "one (worker-sync audit personal-keys add), then worker-sync resume PIPELINE"
    )
    return Halt(State.PREFLIGHT_FAILED, str(error), recovery)
