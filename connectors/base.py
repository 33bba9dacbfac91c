"""What a database engine must do to be a source, a target, or both.

A source is three things with lives of their own: `Source` (set-up and questions, short connections), `Stream` (the
one long replication connection) and `TableReader` (reads of current rows, also what verification compares). A target
is a `Sink`, which gives a `TableReader` too. Every method states its obligations; `tests/contract/` tries them.

Driver errors never leave an engine: each engine's `errors.py` turns them into `worker_sync.core.errors`
(connection trouble, deadlocks, timeouts and restarts are Transient; what can't get better is Permanent or Halt).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import ClassVar, Final, Self

from worker_sync.core.change import Batch, Piece, Progress, TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.parking import NONE_PARKED, Parked, Plan
from worker_sync.core.partitions import Partitions
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.table_scope import TableScope
from worker_sync.core.values import Key, Row

#: Greater than every position.
ENDLESS: Final = "~"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a preflight check.

    `ok` None means that the check could not run (`detail` says why), which differs from failing. `fix` is the
    statement or command that mends a failed check.
    """

    check: str
    ok: bool | None
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """State of a source's stream on its server.

    `exists`: the slot (or its like) is there. `lost`: why the server can't serve it any more, empty when it can.
    `confirmed`: up to where the server knows that we are done; it may drop its log before that. It is empty where a
    server keeps no such thing: then only the control store knows, and `open_stream` finds out whether the log is still
    there, from wherever it is asked to start. `head`: the newest position of the server's log. `retained_bytes`: log
    behind our position that the server has, None where unknown. `active`: a process is reading it now.

    `held`: the server keeps that log because of us, and would free it if the stream were dropped; else it drops log by
    rules of its own, whether we have read it or not. `left_bytes`: how much more it may write, `left_s`: how many
    seconds may pass at least, before it drops what we need; None where it has no such limit or doesn't tell.
    """

    exists: bool
    lost: str
    confirmed: str
    head: str
    retained_bytes: int | None
    active: bool = False
    held: bool = False
    left_bytes: int | None = None
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a shard stands in its target.

    `identity` is the source server's; `committed_at` the source's commit time of the newest applied transaction and
    `applied_at` the target's time of that apply, in microseconds since 1970 (None before the first). `changes` and
    `batches` count what was applied since the shard began. `snapshots` maps source tables to
    `(chunk, last_key, done)`; `parked` are the keys whose changes stand in dead letters.
    """

    epoch: int
    position: Position
    identity: str
    committed_at: int | None = None
    applied_at: int | None = None
    changes: int = 0
    batches: int = 0
    snapshots: dict[str, SnapshotState] = field(default_factory=dict)
    parked: Parked = NONE_PARKED


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """Progress of one table's snapshot in one shard; see `worker_sync.core.change.SnapshotMark`."""

    chunk: int
    last_key: Key | None
    done: bool


class Outcome:
    """What `Sink.apply` did; the words are metric labels."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    EARLY = "early"
    STALE = "stale"
    #: Nothing was changed: the batch concerns parked keys, or its plan is not about where the shard stands.
    HELD = "held"


class Chunk(ABC):
    """Rows of one table as one snapshot of the database saw them."""

    rows: list[Row]
    #: A commit position by which every transaction that the snapshot sees has committed.
    horizon: str
    #: No rows come after these.
    done: bool

    @abstractmethod
    def sees(self, info: TransactionInfo) -> bool:
        """Whether the effects of that transaction are in `rows`. Exact, also for a transaction whose commit is in
        the log already but was not visible yet when the rows were read."""


class Closeable(ABC):
    @abstractmethod
    def close(self) -> None:
        """Give everything back; may be called twice and never raises for a broken connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Scan(Closeable):
    """All rows of one table as one snapshot saw them, in any order, for tables without a key.

    Holds the snapshot, and what it takes for that, until it is closed. Bounded memory however large the table is."""

    @abstractmethod
    def chunk(self) -> Chunk:
        """The next rows. All chunks of a scan have the same `horizon` and see the same transactions; the one with
        `done`, which may be empty, is the last."""


class TableReader(Closeable):
    """Reads current rows as canonical values, over one connection of its own. Used by one thread at a time."""

    @abstractmethod
    def schema(self, table: TableName) -> TableSchema | None:
        """The table as it is now, without generated columns; None when there is no such table. `key` is the primary
        key, or the columns of the unique index that identifies rows in the log, or empty."""

    @abstractmethod
    def chunk(self, table: TableSchema, after: Key | None, limit: int) -> Chunk:
        """Up to `limit` rows in key order, those whose key is greater than `after` (None: from the start). Holds no
        lock or snapshot once it returns. The columns and their order are those of `table`."""

    @abstractmethod
    def rows(self, table: TableSchema, keys: Sequence[Key]) -> Chunk:
        """The rows that have one of these keys, in any order; missing ones are left out; `done` is True."""

    def scan(self, table: TableSchema, limit: int) -> Scan:
        """Begin to read all rows of a table without a key, up to `limit` at a time, over a connection of its own, so
        that other methods may be called meanwhile. An engine that has no such tables leaves this as it is."""
        raise Halt(State.TABLE_UNSUPPORTED, f"{table.table} has no key", "give the table a primary key")

    @abstractmethod
    def count(self, table: TableSchema) -> int:
        """About how many rows the table has, cheaply (statistics will do), for progress displays."""


class Stream(Closeable):
    """The ordered stream of committed transactions, from one replication connection, used by one thread.

    `schemas` maps the table ids of delivered changes to their schemas. An id stands for one version of one table and
    is never given to another; a table whose definition changed gets a new id.
    """

    schemas: dict[int, TableSchema]
    #: The commit position at which a table (by its name as text) was emptied as a whole last, where `Source.partitions`
    #: knows tables.
    truncated: Mapping[str, str] = {}

    @abstractmethod
    def read(self, timeout: float, limit: int) -> list[Piece | Progress]:
        """What has arrived, in log order: returns as soon as there is something, else after `timeout` seconds with
        an empty list. Roughly at most `limit` changes a call. A transaction is delivered only once committed, whole
        transactions as one piece when they have at most `limit` changes (of moderate size), larger ones in several
        pieces in bounded memory. Anything that it does not understand raises Halt; nothing is skipped."""

    @abstractmethod
    def tick(self) -> None:
        """Keep the connection alive without reading. Called at least every 10 s while reading is paused."""

    @abstractmethod
    def confirm(self, commit: str) -> None:
        """Tell the server that all transactions up to `commit` (a delivered Piece's or a Progress') are applied
        everywhere. Never goes back. May be delayed, must not be lost before `close`. A server that remembers no
        confirmations is told nothing: the checkpoint in the control store is all that says how far the stream is, and
        it may start at any position that the server still has."""


class Source(Closeable):
    """A database to capture from. Methods open short connections of their own and may be called by any thread.

    `name` is the database's name in the configuration; the stream on the server (slot, publication) is named after
    it, so two databases of one configuration never share one.
    """

    engine: ClassVar[str]
    #: The namespace whose tables go by their bare name in a target: PostgreSQL's `public`, or the one database that a
    #: source of an engine without schemas reads.
    home: str
    #: The field of documents that says who wrote them. An engine of documents delivers it as a message
    #: `worker_sync.core.markers.CONTEXT` in front of each change that wrote the field; set before `open_stream`.
    context_field: str | None = None
    #: Tables as they were before; some may be gone. What a log and a catalog do not tell of those any more, such as
    #: their keys, is taken from here; set before `open_stream`.
    remembered: Sequence[TableSchema] = ()

    @abstractmethod
    def identity(self) -> str:
        """What tells this server's log from any other's, for instance the system identifier and the database."""

    def history(self) -> str:
        """Which history the server's log tells: a standby that is promoted begins another one, and so does a server
        that is recovered to a point in time. Empty where `identity` is another one then. Raises Transient on a standby.
        """
        return ""

    def shared(self, before: str, now: str) -> str:
        """The last commit position that history `before` has in common with `now`, which `history` has said: ENDLESS
        when they are one, empty when there is none."""
        return ENDLESS if before == now else ""

    @abstractmethod
    def now(self) -> datetime:
        """The server's clock, in UTC, asked now in one cheap question."""

    @abstractmethod
    def tables(self) -> list[TableSchema]:
        """All user tables, in name order; Worker-Sync's own are left out. Tables without a usable key have an empty
        `key`; one that `create_stream` will give a key by what it changes has that key."""

    def fingerprint(self) -> str:
        """A text that is another one whenever `tables` has another answer. Asked every few seconds: must be cheap."""
        return repr(self.tables())

    def partitions(self, before: Mapping[TableName, Partitions]) -> dict[TableName, Partitions]:
        """The partitions of each table whose rows come and go with them without a word in the log, in view of what
        they were `before`; `fingerprint` is another one whenever this has another answer. None in an engine whose log
        tells."""
        return {}

    def ended(self) -> str:
        """`worker_sync.core.partitions.Partitions.ended` as of now, for a source that has tables with partitions."""
        return ""

    @abstractmethod
    def preflight(self, tables: Sequence[TableName]) -> list[Finding]:
        """Every prerequisite for capturing these tables, each as a named check. Changes nothing."""

    @abstractmethod
    def create_stream(self, tables: Sequence[TableName]) -> Position:
        """Create or extend the server side of the stream so that it delivers changes of exactly these tables from
        the returned position on. Idempotent; an existing, healthy stream keeps its position. A Halt names what is in
        the way.

        Changes of a table without a key must come with whole old rows; what has to be changed in the database for that
        is changed here, before it can do the application harm, and put back by `drop_stream`. A table for which it
        can't be is refused by Halt(table-unsupported)."""

    @abstractmethod
    def drop_stream(self) -> None:
        """Remove the server side of the stream; no error when there is none."""

    def curtailed(self) -> str:
        """What somebody did to the stream by which it lacks changes from then on, though it goes on; empty when nobody
        did. Asked every few seconds. `StreamStatus.lost` says it, too."""
        return ""

    @abstractmethod
    def stream_status(self, confirmed: str = "") -> StreamStatus:
        """The state of the stream on the server, asked now. `confirmed` is what was confirmed last as far as the
        caller knows: where the server does not remember it, `lost` and `retained_bytes` are those of a reader that
        stands there (empty: where the stream began)."""

    @abstractmethod
    def cut_off(self) -> None:
        """End whoever reads this source's stream now. For a capture that holds the lease: another reader has lost it,
        but may hang, or be on a machine that vanished, and would keep the stream for a minute. Returns once the
        stream is free or the attempt was in vain; no error when nobody reads or there is no stream."""

    @abstractmethod
    def open_stream(self, start: str) -> Stream:
        """Start streaming the transactions after commit position `start`. Raises Halt (slot-missing,
        slot-invalidated, position-lost) when the server can't deliver from exactly there."""

    @abstractmethod
    def reader(self) -> TableReader:
        """A reader of current rows."""

    @abstractmethod
    def emit(self, prefix: str, content: bytes) -> str:
        """Write a message into the log as a transaction of its own, delivered in `Piece.messages`. Needs no table.

        Returns a position that is after every transaction committed before the call and not after the message's own
        commit: a shard that has reached it has applied all that was committed at the call."""


class Sink(Closeable):
    """A database to apply to, over one connection. Used by one thread at a time."""

    engine: ClassVar[str]
    #: An alteration takes dropped columns out of existing rows and keeps the values of renamed ones. Where it does not,
    #: the rows are copied again.
    alters_rows: ClassVar[bool] = True
    #: A table's namespace is kept also where it is the source's home.
    keeps_namespaces: ClassVar[bool] = False

    @abstractmethod
    def identity(self) -> str:
        """What tells this server and database from any other."""

    @abstractmethod
    def now(self) -> datetime:
        """The server's clock, in UTC, asked now in one cheap question."""

    @abstractmethod
    def preflight(self, tables: Sequence[TableSchema]) -> list[Finding]:
        """Every prerequisite for writing these tables, each as a named check. Changes nothing."""

    @abstractmethod
    def prepare(self) -> None:
        """Create the place where watermarks are kept. Idempotent, safe to run in two processes at once."""

    @abstractmethod
    def map_table(self, source: TableSchema, to: str | None) -> TableSchema:
        """The table that `source` is written to: under the configured name `to`, or else this engine's natural name
        for it. An empty namespace in `source` is the source's home. Columns and types stay the source's (they say
        how to read the values)."""

    @abstractmethod
    def create_table(self, table: TableSchema) -> bool:
        """Create the table (types from the published matrix) when it is missing; True when it was created. An
        existing table is left as it is; Halt(schema-mismatch) when it lacks a column of `table` or its key can't
        identify rows."""

    @abstractmethod
    def fence(self, pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
        """Make `epoch` the only one whose batches this shard accepts, and return where the shard stands. A shard
        that is new here begins at `start`. Raises Fenced when a higher epoch is there, and Halt(identity-changed)
        when its watermark belongs to another source server. Atomic."""

    @abstractmethod
    def marks(self, pipeline: str) -> dict[int, Mark]:
        """The marks of all shards of a pipeline, empty before the first `fence`. Never waits for an apply."""

    @abstractmethod
    def forget(self, pipeline: str) -> None:
        """Remove the marks of a pipeline, so that the next `fence` begins anew. The data stays."""

    def record_scope(
        self, pipeline: str, epoch: int, tables: Sequence[TableScope], returned: Sequence[str] = ()
    ) -> None:
        """What a trail records from here on, once its first shard is fenced by `epoch`; `returned` are those of the
        tables that were out of it for a while. Raises Fenced when another epoch is there by now. Targets of rows are
        not told."""
        raise NotImplementedError(f"{self.engine} keeps no trail")

    @abstractmethod
    def park(self, pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
        """Make `parked` the keys that a shard holds, if it was fenced by `epoch` last. For shards that nothing is
        under way to."""

    @abstractmethod
    def apply(self, batch: Batch, plan: Plan | None = None) -> str:
        """Apply the batch by the rule of `worker_sync.core.apply`, in one transaction with its watermark, snapshot
        progress and counters; returns an `Outcome`. `EARLY`, `STALE` and `HELD` change nothing. All or nothing at any
        point of failure; a redelivered batch changes nothing. A shard that was never fenced answers `EARLY`.

        What is applied is what `worker_sync.core.parking.choose` says: of a batch that concerns parked keys nothing
        without a `plan`; with one only the plan's changes, and the keys that are parked become the plan's, in the same
        transaction. A plan that is a rehearsal raises and answers what it would otherwise and leaves nothing behind.

        A table without a key is a bag of rows (`worker_sync.core.bags`): inserts add rows, equal ones too; of the
        `deletes` of a fold each takes exactly one equal row away, and is refused where there is none.

        A batch with an `alteration` gives the target's table the columns of `after`: what is done already is left
        alone, so that it may be done again after a crash; added columns are nullable, those that only the target has
        stay. Where definitions can't be changed in the transaction of the watermark, they are changed before it moves.
        Values that are not right any more are copied again. Halt(schema-mismatch) when the table can't follow.

        A refused row raises Permanent; a table or column that isn't there raises Halt(schema-mismatch)."""

    @abstractmethod
    def reader(self) -> TableReader:
        """A reader of this database's current rows, in the canonical values of the source's types: reading back what
        `apply` wrote of a row gives the same row."""
