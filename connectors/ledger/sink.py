"""The ledger as a target: what a source's pipeline brings becomes entries, and nothing else is ever written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import psycopg
from psycopg import Connection

from connectors.base import Finding, Mark, Outcome, Sink, TableReader
from connectors.ledger import checks, schema, trails
from connectors.ledger.appender import Appender, check_sizes, end_standstill
from connectors.ledger.session import Session
from connectors.ledger.subjects import SubjectKeys
from connectors.postgres import catalog, watermarks
from connectors.postgres.errors import translate, translated
from connectors.postgres.sink import IDENTITY
from worker_sync.core.apply import Verdict, changes_beyond, decide
from worker_sync.core.change import Batch
from worker_sync.core.errors import ConfigError, Halt, Permanent, State
from worker_sync.core.parking import Parked, Plan
from worker_sync.core.position import Position
from worker_sync.core.schema import TableSchema
from worker_sync.core.table_scope import TableScope
from worker_sync.ledger.envelope import SubjectKey
from worker_sync.ledger.personal import BatchSealer, Personal, subjects
from worker_sync.ledger.prepared import Prepared
from worker_sync.ledger.recording import prepare

#: In front of the URL of the database that has the ledger.
SCHEME_PREFIX: Final = "ledger+"

_OUTCOMES: Final = {
    Verdict.DUPLICATE: Outcome.DUPLICATE,
    Verdict.EARLY: Outcome.EARLY,
    Verdict.STALE: Outcome.STALE,
}
_GLANCE: Final = "SELECT epoch, position FROM worker_sync.watermarks WHERE pipeline = $1 AND shard = $2::int"
#: Who makes a trail's mark, or removes it, does it alone: so that it is known which of them made it.
_LOCK_TRAIL: Final = "SELECT pg_advisory_xact_lock(1462979181, hashtext($1))"


class Made(NamedTuple):
    """The entries of a batch, and for each the keys of those whose data it has, by their ids."""

    entries: list[Prepared]
    subjects_of: Sequence[Mapping[str, SubjectKey]] = ()


Make: TypeAlias = Callable[[Connection[Any], Batch], Made]


class LedgerSink(Sink):
    """Records batches in one transaction with the shard's watermark.

    The ledger has no holes: what can't be recorded raises Halt, never Permanent, and no key is ever parked. The
    watermark is locked before the ledger's head, by everybody.
    """

    engine: ClassVar[str] = "ledger"
    keeps_namespaces: ClassVar[bool] = True

    def __init__(self, name: str, url: str, personal: Personal | None = None) -> None:
        """`personal` says what is sealed before it is recorded; without it, nothing is."""
        self._name = name
        self._personal = personal
        self._keys = None if personal is None else SubjectKeys(personal.key)
        self._session = Session(url.removeprefix(SCHEME_PREFIX))
        self._appender = Appender()

    def close(self) -> None:
        self._session.close()
        self._appender.forget()
        if self._keys is not None:
            self._keys.close()

    def identity(self) -> str:
        with self._ready() as connection:
            row = connection.execute(IDENTITY).fetchone()
            assert row is not None
            return str(row[0])

    def now(self) -> datetime:
        with self._ready() as connection:
            return catalog.now(connection)

    def preflight(self, tables: Sequence[TableSchema]) -> list[Finding]:
        with self._ready() as connection:
            return checks.preflight(connection, None if self._personal is None else self._personal.key)

    def prepare(self) -> None:
        with self._ready() as connection:
            watermarks.create(connection)
            schema.create(connection)

    def map_table(self, source: TableSchema, to: str | None) -> TableSchema:
        return source

    def create_table(self, table: TableSchema) -> bool:
        return False

    def fence(self, pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
        """As `Sink.fence` says. A trail that is new begins with an entry that says so; one that was forgotten goes on
        behind a gap."""
        with self._ready() as connection, connection.transaction():
            connection.execute(_LOCK_TRAIL, [pipeline])
            is_new = shard not in watermarks.marks(connection, pipeline)
            mark = watermarks.fence(connection, pipeline, shard, epoch, identity, start)
            if is_new:
                entry = trails.opening(connection, trails.source_of(pipeline), identity, start)
                self._appender.append(connection, [entry])
            return mark

    def record_scope(
        self, pipeline: str, epoch: int, tables: Sequence[TableScope], returned: Sequence[str] = ()
    ) -> None:
        with self._ready() as connection, connection.transaction():
            connection.execute(_LOCK_TRAIL, [pipeline])
            mark = watermarks.held(connection, pipeline, 0, epoch)
            entries = trails.rescoped(connection, trails.source_of(pipeline), mark, tables, returned)
            if entries:
                self._appender.append(connection, entries)

    def marks(self, pipeline: str) -> dict[int, Mark]:
        with self._ready() as connection:
            try:
                return watermarks.marks(connection, pipeline)
            except psycopg.errors.UndefinedTable:
                return {}

    def forget(self, pipeline: str) -> None:
        with self._ready() as connection, connection.transaction():
            connection.execute(_LOCK_TRAIL, [pipeline])
            watermarks.forget(connection, pipeline)

    def park(self, pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
        if parked:
            raise _no_holes()

    def reader(self) -> TableReader:
        raise ConfigError("a ledger has entries and no rows to read back; worker-sync audit verify checks it")

    def apply(self, batch: Batch, plan: Plan | None = None) -> str:
        if plan is not None:
            raise _no_holes()
        with self._ready() as connection:
            verdict = _glance(connection, batch)
            if verdict is not Verdict.APPLY:
                return _OUTCOMES[verdict]
            if self._personal is not None and self._personal.touches(batch):
                return self._record(connection, batch, partial(self._sealed, self._personal))
            entries = prepare(batch)
            check_sizes(entries)
            return self._record(connection, batch, lambda *_: Made(entries))

    @contextmanager
    def _ready(self) -> Iterator[Connection[Any]]:
        """The connection, with driver errors in our terms; after any error it is opened anew."""
        try:
            yield self._session.connection()
        except psycopg.Error as error:
            self.close()
            if isinstance(error, psycopg.errors.LockNotAvailable):
                with translated(self._name):
                    end_standstill(self._session.connection())
            raise _translated(error, self._name) from error
        except BaseException:
            self.close()
            raise

    def _record(self, connection: Connection[Any], batch: Batch, make: Make) -> str:
        """One transaction, statement by statement: the server watches over the time between two statements, but not
        over that between two of a pipeline."""
        connection.execute("BEGIN", prepare=True)
        entries, subjects_of = make(connection, batch)
        verdict, watermark = self._stand(connection, batch)
        if verdict is Verdict.APPLY:
            changes = changes_beyond(batch, watermark)
            if batch.alteration is None:
                # One entry a change, in order: what is beyond the watermark stands last.
                entries = entries[len(entries) - len(changes) :]
            if entries:
                first = self._appender.append(connection, entries)
                if subjects_of and self._keys:
                    self._keys.note(connection, first, subjects_of[len(subjects_of) - len(entries) :])
            sql, values = watermarks.advance(batch, len(changes))
            connection.execute(sql, values, prepare=True)
        connection.execute("COMMIT", prepare=True)
        return _OUTCOMES.get(verdict, Outcome.APPLIED)

    def _sealed(self, personal: Personal, connection: Connection[Any], batch: Batch) -> Made:
        """The entries of a batch with personal data, in the transaction that makes the keys of its subjects."""
        assert self._keys is not None
        master = self._keys.master(connection)
        found = subjects(batch, personal, master)
        keys = self._keys.of(connection, set[str]().union(*found))
        entries = prepare(batch, BatchSealer(personal, master, batch.source, keys.__getitem__))
        check_sizes(entries)
        return Made(entries, [{who: keys[who] for who in ids} for ids in found])

    def _stand(self, connection: Connection[Any], batch: Batch) -> tuple[Verdict, Position]:
        """Lock the shard's watermark and decide."""
        key = [batch.pipeline, str(batch.shard)]
        return _verdict(connection.execute(watermarks.LOCK, key, prepare=True).fetchone(), batch)


def _glance(connection: Connection[Any], batch: Batch) -> Verdict:
    """What the rule says without a lock. Only APPLY can be another word by then; EARLY is asked again anyway."""
    row = connection.execute(_GLANCE, [batch.pipeline, str(batch.shard)], prepare=True).fetchone()
    return _verdict(row, batch)[0]


def _verdict(row: tuple[Any, ...] | None, batch: Batch) -> tuple[Verdict, Position]:
    """A shard that was never fenced is EARLY."""
    if row is None:
        return Verdict.EARLY, batch.after
    watermark = Position.parse(row[1])
    return decide(row[0], watermark, batch), watermark


def _translated(error: psycopg.Error, where: str) -> Exception:
    known = translate(error, where)
    if isinstance(known, Permanent):
        return Halt(State.TARGET_REJECTED, known.detail, "worker-sync audit verify, mend what it names")
    return known


def _no_holes() -> Halt:
    return Halt(
        State.TARGET_REJECTED, "a ledger has no holes: no change of it is parked", "worker-sync resume PIPELINE"
    )
