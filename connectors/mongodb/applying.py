"""One batch, one transaction.

The usual batch follows the last one, so its transaction begins by moving the watermark from the batch's `after` to its
`upto`, and needs no read before: three round trips for a batch on one table. Only when the watermark stands elsewhere
is it read and the rule asked.
"""

from __future__ import annotations

from typing import Any, Final

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern

from connectors.base import Outcome
from connectors.mongodb.abandoned import patiently
from connectors.mongodb.conn import MAJORITY, PLAIN, RAW, Document
from connectors.mongodb.documents import codec_of
from connectors.mongodb.errors import COLLECTION_UUID_MISMATCH, outcome_unknown, retryable
from connectors.mongodb.marks import Stand, Watermarks
from connectors.mongodb.tables import Tables
from connectors.mongodb.writes import CollectionReplaced, Mode, Run, Writer, inserted_keys
from worker_sync.core.apply import Verdict, decide, fold
from worker_sync.core.change import Batch, Change
from worker_sync.core.errors import TargetRejected, Transient
from worker_sync.core.parking import Plan, choose, parked_text
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key

#: How often a transaction is done over in place before the batch goes back to its queue.
ATTEMPTS: Final = 12
#: How often a commit is asked for whose outcome is unknown.
COMMITS: Final = 3
#: From this many changes on, the time of the apply is set again after the writes: they take a while.
STAMP_FROM: Final = 50
#: For how many batches a table's rows are upserts after an insert met a row that was there.
UPSERT_BATCHES: Final = 50


class Applier:
    """Applies batches over one client. Raises the driver's errors where a retry in place is of no use."""

    def __init__(self, database: Database[Document], tables: Tables, watermarks: Watermarks) -> None:
        self._database = database
        self._tables = tables
        self._watermarks = watermarks
        self._upserts: dict[TableName, int] = {}

    def apply(self, batch: Batch, plan: Plan | None = None) -> str:
        stand, changes, mode = Stand(batch.after), batch.changes, Mode.INSERT
        if plan is not None:
            stand, changes = Stand(plan.watermark, plan.before, plan.after), plan.changes
        rehearsal = plan is not None and plan.rehearsal
        look_first = batch.upto <= batch.after
        if batch.alteration is not None:
            # Documents take any field; this is about names and keys that no document can have.
            codec_of(batch.alteration.after)
        for _ in range(ATTEMPTS):
            try:
                if not look_first and self._attempt(batch, stand, changes, mode, rehearsal=rehearsal):
                    return Outcome.APPLIED
            except DuplicateKeyError as error:
                mode = self._next_mode(batch, mode, error)
                continue
            except CollectionReplaced:
                self._tables.forget_ids()
                continue
            except PyMongoError as error:
                if isinstance(error, ServerSelectionTimeoutError) or not retryable(error):
                    raise
                if not isinstance(error, ConnectionFailure):
                    self._wait_turn(batch)
                continue
            look_first = False
            mark = self._watermarks.find(batch.pipeline, batch.shard)
            verdict = Verdict.EARLY if mark is None else decide(mark.epoch, mark.position, batch)
            if mark is None or verdict is not Verdict.APPLY:
                return verdict.value
            parked = parked_text(mark.parked)
            chosen = choose(batch, mark.position, parked, plan)
            if chosen is None:
                return Outcome.HELD
            changes = chosen
            stand = Stand(mark.position, parked, parked if plan is None else plan.after)
        raise Transient(f"{batch.summary()}: {ATTEMPTS} transactions in a row met conflicting writes")

    def _attempt(self, batch: Batch, stand: Stand, changes: list[Change], mode: Mode, *, rehearsal: bool) -> bool:
        """One transaction; False, and nothing done, when the watermark does not stand as `stand` says."""
        if not changes and not rehearsal:
            return self._watermarks.advance(batch, stand, 0)
        with self._database.client.start_session(causal_consistency=False) as session:
            # Leaving the block in any other way than by the commit aborts.
            session.start_transaction(ReadConcern("snapshot"), MAJORITY)
            if not self._watermarks.advance(batch, stand, len(changes), session):
                return False
            inserted = inserted_keys(batch, changes) if mode is Mode.INSERT else {}
            Writer(self._runner(session), mode, self._without_upserts(inserted)).write(fold(batch, changes))
            if rehearsal:
                return True
            if len(changes) >= STAMP_FROM:
                self._watermarks.stamp(batch, session)
            _commit(session)
        return True

    def _runner(self, session: ClientSession) -> Run:
        database = self._database

        def run(table: TableSchema, command: Document) -> Document:
            more = "getMore" in command
            if not more:
                command["collectionUUID"] = self._tables.id(table)
            try:
                options: Any = RAW if more or "find" in command else PLAIN
                return database.command(command, session=session, codec_options=options)
            except DocumentTooLarge:
                raise TargetRejected(f"{table.table}: a document is larger than MongoDB's 16 MB") from None
            except OperationFailure as error:
                if error.code == COLLECTION_UUID_MISMATCH:
                    raise CollectionReplaced(str(table.table)) from None
                raise

        return run

    def _wait_turn(self, batch: Batch) -> None:
        patiently(self._database, lambda: self._watermarks.wait_turn(batch))

    def _next_mode(self, batch: Batch, mode: Mode, error: DuplicateKeyError) -> Mode:
        pattern = (error.details or {}).get("keyPattern", {})
        if mode is Mode.INSERT and list(pattern) == ["_id"]:
            self._upserts.update((table.table, UPSERT_BATCHES) for table in batch.tables.values())
            return Mode.UPSERT
        return Mode.REPLACE

    def _without_upserts(self, inserted: dict[TableName, set[Key]]) -> dict[TableName, set[Key]]:
        """`inserted` without the tables of which a row was there a while ago."""
        for table in [table for table in inserted if table in self._upserts]:
            del inserted[table]
            self._upserts[table] -= 1
            if not self._upserts[table]:
                del self._upserts[table]
        return inserted


def _commit(session: ClientSession) -> None:
    for _ in range(COMMITS - 1):
        try:
            session.commit_transaction()
        except PyMongoError as error:
            if not outcome_unknown(error):
                raise
        else:
            return
    session.commit_transaction()
