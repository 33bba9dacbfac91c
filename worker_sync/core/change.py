"""A change of one row, the transaction it belongs to, and the batches in which changes travel."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TypeVar

import msgspec

from worker_sync.core.alteration import Alteration
from worker_sync.core.position import Position
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key, Row


class Op(StrEnum):
    """What happened to the row; the letters are those of Debezium's envelope."""

    INSERT = "c"
    UPDATE = "u"
    DELETE = "d"
    TRUNCATE = "t"
    #: The row as a snapshot read it.
    READ = "r"


class Change(msgspec.Struct, array_like=True, gc=False):
    """One change of one row.

    `ordinal` is its number in the transaction, from 1. `table` is the id of its schema among the batch's tables.
    `key` identifies the row as it was before the change; None means that the change left the key alone, so it is
    read from `after`. `before` is the whole old row where the source records it. `after` is the new row and may hold
    UNCHANGED. A delete has `key` and no `after`; a truncate has neither.

    Of a table without key an update or delete holds the whole old row in `before`, an update the whole new row in
    `after`; `key` is () or None.

    gc=False is safe: the fields are scalars and tuples of scalars, which can't form a cycle.
    """

    ordinal: int
    op: str
    table: int
    key: Key | None
    before: Row | None
    after: Row | None


class TransactionInfo(msgspec.Struct, array_like=True, gc=False):
    """The transaction of a run of changes.

    `commit` is its position's `commit`; `committed_at` is in microseconds since 1970 by the source's clock; `xid` is
    the engine's own transaction number as text, empty where it has none.
    """

    commit: str
    committed_at: int
    xid: str = ""


class Message(msgspec.Struct, array_like=True):
    """A message that an application or Worker-Sync put into the transaction (PostgreSQL: a logical message), `after` so
    many of its changes."""

    prefix: str
    content: bytes
    after: int = 0


class Session(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the source's server itself knows of the session that made a change, by the names that PostgreSQL has for it.
    No application can write one: it never travels among messages or in a context."""

    session_user: str
    role: str | None = None
    application_name: str | None = None
    client_addr: str | None = None


class SessionMark(msgspec.Struct, array_like=True, gc=False):
    """The session that made the changes of a transaction behind so many of them (`after`); None: not known."""

    session: Session | None
    after: int = 0


Mark = TypeVar("Mark", Message, SessionMark)


def divided(marks: list[Mark], ordinal: int) -> tuple[list[Mark], list[Mark]]:
    """What was told before the change of that number, and what was told behind it."""
    return [mark for mark in marks if mark.after < ordinal], [mark for mark in marks if mark.after >= ordinal]


class Piece(msgspec.Struct, gc=False):
    """Consecutive changes of one transaction, as a source's stream delivers them.

    A transaction arrives as one or more pieces; `last` marks the one that ends it. `size` is the number of bytes
    that the piece took in the source's log stream. The messages of a transaction stand in its first piece, unless
    they were written after rows that had been delivered already. `sessions` stand as messages do, and only a source
    that knows who is logged in has them.
    """

    info: TransactionInfo
    changes: list[Change]
    last: bool
    size: int
    messages: list[Message] = []
    sessions: list[SessionMark] = []


class Progress(msgspec.Struct, gc=False):
    """The log was read up to `commit` and holds nothing for us before it that was not delivered."""

    commit: str


class Section(msgspec.Struct, array_like=True, gc=False):
    """Part of a batch: `count` consecutive changes that belong to one transaction. `context` is what the application
    said of them (who, and why), as JSON text, and `session` what the server knows of it; only a batch for the ledger
    has them."""

    info: TransactionInfo
    count: int
    context: str = ""
    session: Session | None = None


class SnapshotMark(msgspec.Struct, array_like=True):
    """How far the snapshot of a source table is once the batch that carries this is applied.

    `table` is the source table's name; `chunk` numbers its chunks from 1; `last_key` is the greatest key read
    (None before the first row); `done` ends the table's snapshot.
    """

    table: str
    chunk: int
    last_key: Key | None
    done: bool


class Batch(msgspec.Struct, omit_defaults=True):
    """A run of consecutive changes for one shard of one pipeline.

    It covers the log from just after `after` up to and including `upto`, whether or not it holds a change. `epoch`
    is the fencing number of the capture that cut it. `split` says that `upto` lies inside a transaction that is
    larger than a batch. `loading` names the tables (ids) whose snapshot is not finished: an update of a row that
    the target does not have yet is no error there, the row's chunk will bring it. A batch with an `alteration` holds
    no change: the columns of one target table are altered between the changes before and those behind it.

    `origins` has the source's names of tables that the target calls otherwise. `released` are keys that are not held
    from here on (`worker_sync.core.parking`), by source table; None stands for all of the table. A batch that has some
    may have changes without sections: the rows of these keys as they are read again.

    A batch for the ledger says when it was cut (`captured_at`, microseconds since 1970) and on which `host`.
    """

    source: str
    pipeline: str
    shard: int
    epoch: int
    after: Position
    upto: Position
    sections: list[Section]
    tables: dict[int, TableSchema]
    changes: list[Change]
    snapshot: SnapshotMark | None = None
    split: bool = False
    loading: list[int] = []
    alteration: Alteration | None = None
    origins: dict[int, str] = {}
    released: list[tuple[str, Key | None]] = []
    captured_at: int = 0
    host: str = ""

    def origin(self, table: int) -> str:
        """The source's name of a table."""
        return self.origins.get(table) or str(self.tables[table].table)

    def positions(self) -> Iterator[tuple[TransactionInfo, Change, Position]]:
        """Every change with its transaction and its position."""
        at = 0
        for section in self.sections:
            for change in self.changes[at : at + section.count]:
                yield section.info, change, Position(section.info.commit, change.ordinal)
            at += section.count

    @property
    def committed_at(self) -> int | None:
        """Commit time of the newest transaction in the batch, in microseconds; None for a snapshot chunk."""
        return self.sections[-1].info.committed_at if self.sections else None

    def summary(self) -> str:
        """One line for logs and monitors; holds no data."""
        kind = f"snapshot {self.snapshot.table}" if self.snapshot else f"{len(self.sections)} transactions"
        kind = f"alteration of {self.alteration.after.table}" if self.alteration else kind
        kind = f"release of {len(self.released)} keys" if self.released else kind
        return f"{self.pipeline}/{self.shard} {len(self.changes)} changes, {kind}, up to {self.upto}"


def change_id(source: str, info: TransactionInfo, change: Change) -> str:
    """The identity of a change: source, commit position and ordinal, as text."""
    return f"{source}:{info.commit}:{change.ordinal}"
