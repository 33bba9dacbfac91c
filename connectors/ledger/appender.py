"""The sequencer: gives entries their numbers and appends them to the one tree, in the transaction of its caller.

Whoever has locked the row of `head` appends; all others wait for the commit. What takes time is done before: the bytes
of the entries are there but for two fields. A process that stops while it has the lock (suspended, swapped out) loses
its connection, and its transaction with it, so that the others go on and it finds nothing done. The server ends it
between two statements, but it never ends the wait for the rows of a COPY; there whoever has waited in vain does.

The time of recording is the server's, the same for all entries of a call, and never before that of the entry in front:
so a partition, which is a range of times, is a range of numbers too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection

from connectors.ledger.rows import COLUMNS, END, HEADER, rows
from worker_sync.core.errors import Halt, State
from worker_sync.ledger.merkle import Frontier, Subtree, split_hashes
from worker_sync.ledger.prepared import Prepared, moment

#: Seconds that an appender may leave the server waiting for its next statement.
IDLE_S: Final = 5
#: Seconds that it waits for others that append, before the batch is tried again; and those after which a COPY whose
#: sender sends nothing is ended.
LOCK_S: Final = 10
#: PostgreSQL holds 1 GB in a value and in a message; an entry has to be read back in one as well.
MAX_ENTRY_BYTES: Final = 1 << 29
#: Entries that are hashed while the server is busy with those before.
_SLICE: Final = 256

SETTINGS: Final = {
    "idle_in_transaction_session_timeout": f"{IDLE_S}s",
    "lock_timeout": f"{LOCK_S}s",
    # An entry that was acknowledged is there after a crash, whatever the server's default.
    "synchronous_commit": "on",
}

_LOCK: Final = """
SELECT size, roots, (extract(epoch FROM greatest(clock_timestamp(), recorded_at)) * 1000000)::bigint
FROM worker_sync_ledger.head FOR UPDATE
"""
_ADVANCE: Final = """
UPDATE worker_sync_ledger.head
SET size = $1::bigint, roots = $2::bytea,
    recorded_at = timestamptz 'epoch' + $3::bigint * interval '1 microsecond'
"""
_SUBTREES: Final = """
INSERT INTO worker_sync_ledger.subtrees (level, index, hash)
SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])
"""
_ENSURE_PARTITIONS: Final = """
SELECT worker_sync_ledger.ensure_partitions(timestamptz 'epoch' + $1::bigint * interval '1 microsecond')
"""
# Whoever sends rows has this lock. A role can end its own sessions only; that others wait for their clients it may not
# even see.
_END_STANDSTILL: Final = """
SELECT pg_terminate_backend(a.pid)
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid AND a.datname = current_database()
WHERE l.relation = 'worker_sync_ledger.entries'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
  AND a.state = 'active' AND a.wait_event = 'ClientRead' AND pg_has_role(a.usesysid, 'USAGE')
  AND a.query_start < clock_timestamp() - $1::int * interval '1 second'
"""
_COPY: Final = f"COPY worker_sync_ledger.entries ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"


@dataclass(slots=True)
class Head:
    """The tree as it was locked, and when what is appended now is recorded, in microseconds since 1970."""

    frontier: Frontier
    recorded_at: int


def end_standstill(connection: Connection[Any]) -> None:
    """End an appender that has sent rows for longer than LOCK_S, and sends none now. Raises psycopg.Error."""
    connection.execute(_END_STANDSTILL, [str(LOCK_S)])


def check_sizes(entries: Iterable[Prepared]) -> None:
    """Raise Halt for an entry that is larger than the database can hold."""
    for entry in entries:
        if entry.size > MAX_ENTRY_BYTES:
            indexed = entry.indexed
            raise Halt(
                State.UNREPRESENTABLE_VALUE,
                f"an entry of {indexed.source}, table {indexed.table_name}, key {indexed.key}, has {entry.size} bytes; "
                f"the ledger holds {MAX_ENTRY_BYTES}",
                "leave the column out of the audit trail, then worker-sync resync PIPELINE",
            )


class Appender:
    """Appends over one connection. Its caller begins and commits, and locks a watermark before it locks the head."""

    def __init__(self) -> None:
        self._month = ""

    def forget(self) -> None:
        """The last transaction was undone, and the partitions that it made with it."""
        self._month = ""

    def append(self, connection: Connection[Any], entries: Sequence[Prepared]) -> int:
        """Wait for the head, lock it until the transaction's end, and append. Returns the first entry's number. Raises
        psycopg.Error, and Halt where the head is damaged."""
        head = self.lock(connection)
        first = head.frontier.size
        self.advance(connection, head, self.write(connection, entries, head))
        return first

    def lock(self, connection: Connection[Any]) -> Head:
        """Wait for the head and lock it. Raises psycopg.Error, and Halt where the head is damaged."""
        return _read(connection.execute(_LOCK, prepare=True).fetchone())

    def write(self, connection: Connection[Any], entries: Sequence[Prepared], head: Head) -> list[Subtree]:
        """Number the entries and write them; `head` grows by them. Returns what `advance` is to write beside it. Raises
        psycopg.Error."""
        self._make_room(connection, head)
        return head.frontier.append(self._copy(connection, entries, head))

    def advance(self, connection: Connection[Any], head: Head, subtrees: Sequence[Subtree]) -> None:
        """Write the head, and the subtrees that became complete. Raises psycopg.Error."""
        if subtrees:
            columns = [list(column) for column in zip(*[(s.level, s.index, s.hash) for s in subtrees], strict=True)]
            connection.execute(_SUBTREES, columns, prepare=True)
        frontier = head.frontier
        values = [str(frontier.size), b"".join(frontier.roots), str(head.recorded_at)]
        connection.execute(_ADVANCE, values, prepare=True)

    def _make_room(self, connection: Connection[Any], head: Head) -> None:
        month = moment(head.recorded_at)[:7]
        if month != self._month:
            connection.execute(_ENSURE_PARTITIONS, [str(head.recorded_at)])
            self._month = month

    def _copy(self, connection: Connection[Any], entries: Sequence[Prepared], head: Head) -> list[bytes]:
        """Hash and send the rows while the server writes those before; their leaf hashes."""
        first, leaves = head.frontier.size, list[bytes]()
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.write(HEADER)
            for at in range(0, len(entries), _SLICE):
                block, hashes = rows(entries[at : at + _SLICE], first + at, head.recorded_at)
                copy.write(block)
                leaves += hashes
            copy.write(END)
        return leaves


def _read(row: tuple[Any, ...] | None) -> Head:
    """What _LOCK answered. Raises Halt for a head that is not there or is no frontier."""
    if row is None:
        raise Halt(State.PREFLIGHT_FAILED, "the ledger has lost its head", "worker-sync audit verify")
    size, roots, recorded_at = row
    try:
        return Head(Frontier(size, split_hashes(roots)), recorded_at)
    except ValueError as error:
        raise Halt(
            State.PREFLIGHT_FAILED, f"the ledger's head is damaged: {error}", "worker-sync audit verify"
        ) from error
