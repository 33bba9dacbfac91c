"""PostgreSQL as a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar

import msgspec
import psycopg
from psycopg import Connection, Cursor, Pipeline

from connectors.base import Finding, Mark, Outcome, Sink, TableReader
from connectors.postgres import catalog, checks, ddl, watermarks
from connectors.postgres.alter import alter_table
from connectors.postgres.errors import translate
from connectors.postgres.merge import Manner, Statement, Work, compile_steps
from connectors.postgres.reader import PostgresReader
from connectors.postgres.refusals import check_count, is_transient, refusal
from connectors.postgres.render import copy_buffer
from connectors.postgres.session import Session, pipelined
from worker_sync.core.alteration import Alteration
from worker_sync.core.apply import Verdict, decide, fold
from worker_sync.core.change import Batch, Change, Op
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.parking import Parked, Plan, choose
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema

_OUTCOMES = {
    Verdict.DUPLICATE: Outcome.DUPLICATE,
    Verdict.EARLY: Outcome.EARLY,
    Verdict.STALE: Outcome.STALE,
}

#: Two rows stood in each other's way: worth one try with the rows rewritten.
_COLLISIONS = (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation)

#: The same words as a source's, so that a database is recognized in both roles.
IDENTITY = (
    "SELECT system_identifier::text || '/' || d.oid::text FROM pg_control_system(), pg_database d "
    "WHERE d.datname = current_database()"
)


class PostgresSink(Sink):
    """Applies batches with set-wise statements, in one transaction with the shard's watermark.

    Sequences of the target are left alone: after a switch-over, set them by hand.
    """

    engine: ClassVar[str] = "postgresql"

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url
        self._session = Session(url)
        self._copied: list[TableName] = []

    def close(self) -> None:
        self._session.close()

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
            return checks.preflight(connection, tables, self._session.silent)

    def prepare(self) -> None:
        with self._ready() as connection:
            watermarks.create(connection)

    def map_table(self, source: TableSchema, to: str | None) -> TableSchema:
        natural = source.table if source.engine == self.engine else TableName("public", source.table.name)
        if to is None:
            name = TableName(source.table.namespace or "public", source.table.name)
        else:
            parsed = TableName.parse(to)
            name = TableName(parsed.namespace or natural.namespace or "public", parsed.name)
        return msgspec.structs.replace(source, table=name)

    def create_table(self, table: TableSchema) -> bool:
        with self._ready() as connection:
            return ddl.create_table(connection, table)

    def fence(self, pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
        with self._ready() as connection:
            return watermarks.fence(connection, pipeline, shard, epoch, identity, start)

    def marks(self, pipeline: str) -> dict[int, Mark]:
        with self._ready() as connection:
            try:
                return watermarks.marks(connection, pipeline)
            except psycopg.errors.UndefinedTable:
                return {}
            except psycopg.errors.UndefinedColumn as error:
                if not self._is_old(error):
                    raise
                return watermarks.marks(connection, pipeline)

    def forget(self, pipeline: str) -> None:
        with self._ready() as connection:
            watermarks.forget(connection, pipeline)

    def reader(self) -> TableReader:
        return PostgresReader(self._url)

    @contextmanager
    def _ready(self) -> Iterator[Connection[Any]]:
        """The connection, with driver errors in our terms; after any error it is opened anew."""
        try:
            yield self._session.connection()
        except psycopg.Error as error:
            self._session.close()
            raise translate(error, self._name) from error

    def park(self, pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
        with self._ready() as connection:
            watermarks.park(connection, pipeline, shard, epoch, parked)

    def apply(self, batch: Batch, plan: Plan | None = None) -> str:
        if batch.alteration is not None:
            return self._alter(batch, batch.alteration)
        manner = Manner.INSERT
        while True:
            try:
                return self._attempt(batch, manner, plan)
            except _COLLISIONS as error:
                self._undo()
                if manner is Manner.REWRITE:
                    raise refusal(error, batch) from error
                manner = self._after_collision()
            except (psycopg.Error, WorkerSyncError) as error:
                self._undo()
                if self._is_old(error):
                    continue
                # The target's tables may have been altered since they were read; not since the batch was refused.
                if is_transient(error) or _is_rehearsal(plan) or not self._session.forget_tables():
                    raise refusal(error, batch) from error
            except BaseException:
                self._session.close()
                raise

    def _alter(self, batch: Batch, change: Alteration) -> str:
        with self._ready() as connection, connection.transaction():
            verdict, _, _ = self._stand(connection, batch)
            if verdict is not Verdict.APPLY:
                return _OUTCOMES[verdict]
            alter_table(connection, change)
            sql, values = watermarks.advance(batch, 0)
            connection.execute(sql, values, prepare=True)
        self._session.forget_tables()
        return Outcome.APPLIED

    def _after_collision(self) -> Manner:
        if not self._copied:
            return Manner.REWRITE
        self._session.expect_collisions(self._copied)
        return Manner.UPSERT

    def _is_old(self, error: psycopg.Error | WorkerSyncError) -> bool:
        """The watermarks were made by a version without parked keys, and are of this version now."""
        if not isinstance(error, psycopg.errors.UndefinedColumn) or '"parked"' not in (
            error.diag.message_primary or ""
        ):
            return False
        self.prepare()
        return True

    def _attempt(self, batch: Batch, manner: Manner, plan: Plan | None) -> str:
        self._session.begin()
        self._copied = []
        connection = self._session.connection()
        with pipelined(connection) as pipeline:
            connection.execute("BEGIN", prepare=True)
            verdict, watermark, parked = self._stand(connection, batch)
            changes = choose(batch, watermark, parked, plan) if verdict is Verdict.APPLY else None
            if changes is None:
                # Nothing was written. The driver answers a ROLLBACK by preparing every statement anew.
                connection.execute("COMMIT", prepare=True)
                return _OUTCOMES.get(verdict, Outcome.HELD)
            work = compile_steps(fold(batch, changes), _inserted(batch, changes), self._session, manner)
            if not work.loads:
                self._finish(pipeline, work, batch, len(changes), plan)
        if work.loads:
            self._copied = work.copied
            _load(connection, work)
            with pipelined(connection) as pipeline:
                self._finish(pipeline, work, batch, len(changes), plan)
        if _is_rehearsal(plan):
            self._session.rollback()
        return Outcome.APPLIED

    def _stand(self, connection: Connection[Any], batch: Batch) -> tuple[Verdict, Position, str]:
        """Lock the shard's watermark and decide; what it holds. A shard that was never fenced is EARLY."""
        key = [batch.pipeline, str(batch.shard)]
        row = connection.execute(watermarks.LOCK, key, prepare=True).fetchone()
        if row is None:
            return Verdict.EARLY, batch.after, ""
        watermark = Position.parse(row[1])
        return decide(row[0], watermark, batch), watermark, row[2]

    def _finish(self, pipeline: Pipeline, work: Work, batch: Batch, changes: int, plan: Plan | None) -> None:
        connection = self._session.connection()
        if work.statements and not self._session.silent:
            connection.execute("SET CONSTRAINTS ALL DEFERRED", prepare=True)
        counted = _send(connection, work)
        sql, values = watermarks.advance(batch, changes)
        connection.execute(sql, values, prepare=True)
        if plan is not None and plan.after != plan.before:
            connection.execute(watermarks.PARK, [batch.pipeline, str(batch.shard), plan.after], prepare=True)
        if counted:
            pipeline.sync()
            for statement, cursor in counted:
                check_count(statement, cursor.rowcount)
        # A rehearsal must not forget what a commit would have checked.
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE" if _is_rehearsal(plan) else "COMMIT", prepare=True)

    def _undo(self) -> None:
        try:
            self._session.rollback()
        except psycopg.Error:
            self._session.close()


def _is_rehearsal(plan: Plan | None) -> bool:
    return plan is not None and plan.rehearsal


def _inserted(batch: Batch, changes: Sequence[Change]) -> set[TableName]:
    """The tables of which `changes` hold nothing but inserts."""
    seen = {(change.table, change.op) for change in changes}
    changed = {batch.tables[table].table for table, op in seen if op not in (Op.INSERT, Op.READ)}
    return {batch.tables[table].table for table, _ in seen} - changed


def _load(connection: Connection[Any], work: Work) -> None:
    with connection.cursor() as cursor:
        for load in work.loads:
            with cursor.copy(load.statement) as copy:
                copy.write(copy_buffer(load.rows))


def _send(connection: Connection[Any], work: Work) -> list[tuple[Statement, Cursor[Any]]]:
    """Queue all statements; returns those whose row counts are to be checked."""
    counted = []
    shared = connection.cursor()
    for statement in work.statements:
        cursor = shared if statement.expected is None else connection.cursor()
        cursor.execute(statement.sql, statement.parameters, prepare=True)
        if statement.expected is not None:
            counted.append((statement, cursor))
    return counted
