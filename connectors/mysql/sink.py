"""MySQL or MariaDB as a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any, ClassVar

import msgspec
import pymysql

from connectors.base import Finding, Mark, Outcome, Sink, TableReader
from connectors.mysql import checks, ddl, watermarks
from connectors.mysql.alter import alter_table
from connectors.mysql.catalog import ENGINE, server_identity, server_time
from connectors.mysql.conn import Connection, database_name, redact
from connectors.mysql.errors import translate, translated
from connectors.mysql.reader import MysqlReader
from connectors.mysql.refusals import is_collision, is_transient, refusal
from connectors.mysql.session import Session
from connectors.mysql.sql import flat
from connectors.mysql.writes import Manner, Writing, written_tables
from worker_sync.core.alteration import Alteration
from worker_sync.core.apply import Step, Verdict, decide, fold
from worker_sync.core.change import Batch
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.parking import Parked, Plan, choose
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema

_OUTCOMES = {
    Verdict.DUPLICATE: Outcome.DUPLICATE,
    Verdict.EARLY: Outcome.EARLY,
    Verdict.STALE: Outcome.STALE,
}


class MysqlSink(Sink):
    """Applies batches with multi-row statements, in one transaction with the shard's watermark.

    Triggers of the target fire for applied changes: MySQL has no way to hold them back.
    """

    engine: ClassVar[str] = ENGINE

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url
        self._database = database_name(url)
        self._session = Session(url, self._database)

    def close(self) -> None:
        self._session.close()

    def identity(self) -> str:
        with self._ready() as connection:
            return f"{server_identity(connection)}/{self._database}"

    def now(self) -> datetime:
        with self._ready() as connection:
            return server_time(connection)

    def preflight(self, tables: Sequence[TableSchema]) -> list[Finding]:
        with self._ready() as connection:
            return checks.preflight(connection, self._database, tables)

    def prepare(self) -> None:
        with self._ready() as connection:
            watermarks.create(connection)

    def map_table(self, source: TableSchema, to: str | None) -> TableSchema:
        if to is not None:
            # All of it is a table's name, dots too: other databases are other targets.
            return msgspec.structs.replace(source, table=TableName("", to))
        return msgspec.structs.replace(source, table=flat(source.table))

    def create_table(self, table: TableSchema) -> bool:
        with self._ready() as connection:
            return ddl.create_table(connection, self._database, table)

    def fence(self, pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
        with self._ready() as connection:
            return watermarks.fence(connection, pipeline, shard, epoch, identity, start)

    def marks(self, pipeline: str) -> dict[int, Mark]:
        with self._ready() as connection:
            try:
                return watermarks.marks(connection, pipeline)
            except pymysql.Error as error:
                if not watermarks.is_old(error):
                    raise
                watermarks.create(connection)
                return watermarks.marks(connection, pipeline)

    def forget(self, pipeline: str) -> None:
        with self._ready() as connection:
            watermarks.forget(connection, pipeline)

    def reader(self) -> TableReader:
        return MysqlReader(self._url, locate=flat)

    @contextmanager
    def _ready(self) -> Iterator[Connection]:
        """The connection, with driver errors in our terms; after any error it is opened anew."""
        try:
            yield self._session.connection()
        except pymysql.Error as error:
            self._session.close()
            raise translate(error, redact(self._url)) from error

    def park(self, pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
        with self._ready() as connection:
            watermarks.park(connection, pipeline, shard, epoch, parked)

    def apply(self, batch: Batch, plan: Plan | None = None) -> str:
        if batch.alteration is not None:
            return self._alter(batch, batch.alteration)
        manner = Manner.UPSERT
        while True:
            try:
                return self._attempt(batch, manner, plan)
            except (pymysql.Error, WorkerSyncError) as error:
                self._undo()
                if watermarks.is_old(error):
                    self.prepare()
                    continue
                again = self._next_manner(error, manner, plan)
                if again is None:
                    if _is_rehearsal(plan):
                        raise refusal(error, batch) from error
                    # A session keeps the server's settings; what a person mends is seen by a new one.
                    self._session.close()
                    raise refusal(error, batch) from error
                manner = again
            except BaseException:
                self._session.close()
                raise

    def _alter(self, batch: Batch, change: Alteration) -> str:
        """Change the table over another connection while this one holds the watermark, then move it."""
        try:
            with translated(redact(self._url)):
                found = self._session.transaction(watermarks.lock(batch))
                verdict, _, _ = _decide(found, batch)
                if verdict is Verdict.APPLY:
                    with closing(self._session.another()) as connection:
                        alter_table(connection, self._database, change)
                    self._advance(batch, 0, found)
        except BaseException:
            self._session.close()
            raise
        if verdict is not Verdict.APPLY:
            self._session.rollback()
            return _OUTCOMES[verdict]
        self._session.forget_tables()
        return Outcome.APPLIED

    def _next_manner(self, error: pymysql.Error | WorkerSyncError, manner: Manner, plan: Plan | None) -> Manner | None:
        """How to try the batch once more; None when that is of no use."""
        if isinstance(error, pymysql.Error) and is_collision(error) and manner is Manner.UPSERT:
            self._forget_tables()
            return Manner.REWRITE
        # The target's tables may have been altered since they were read; not since the batch was refused.
        if is_transient(error) or _is_rehearsal(plan) or not self._forget_tables():
            return None
        return manner

    def _forget_tables(self) -> bool:
        try:
            return self._session.forget_tables()
        except (pymysql.Error, WorkerSyncError):
            self._session.close()
            return False

    def _attempt(self, batch: Batch, manner: Manner, plan: Plan | None) -> str:
        session = self._session
        session.begin()
        if manner is Manner.REWRITE:
            session.prepare_asides(map(session.table, written_tables(fold(batch, batch.changes))))
        found = session.transaction(watermarks.lock(batch))
        verdict, watermark, parked = _decide(found, batch)
        changes = choose(batch, watermark, parked, plan) if verdict is Verdict.APPLY else None
        if changes is None:
            session.run("ROLLBACK")
            return _OUTCOMES.get(verdict, Outcome.HELD)
        steps: list[Step] = fold(batch, changes)
        Writing(session, manner).run(steps)
        self._advance(batch, len(changes), found, plan)
        return Outcome.APPLIED

    def _advance(self, batch: Batch, changes: int, found: list[tuple[Any, ...]], plan: Plan | None = None) -> None:
        snapshots = found[0][3] if batch.snapshot else ""
        advance = watermarks.advance(batch, changes, snapshots, None if plan is None else plan.after)
        end = "ROLLBACK" if _is_rehearsal(plan) else "COMMIT"
        self._session.run_all([advance, end], "the watermark")

    def _undo(self) -> None:
        try:
            self._session.rollback()
        except (pymysql.Error, WorkerSyncError):
            self._session.close()


def _is_rehearsal(plan: Plan | None) -> bool:
    return plan is not None and plan.rehearsal


def _decide(found: list[tuple[Any, ...]], batch: Batch) -> tuple[Verdict, Position, str]:
    """The verdict on a batch, the watermark and the parked keys, from the locked row. A shard that was never fenced is
    EARLY."""
    if not found:
        return Verdict.EARLY, batch.after, ""
    watermark = Position.parse(found[0][1])
    return decide(int(found[0][0]), watermark, batch), watermark, found[0][2] or ""
