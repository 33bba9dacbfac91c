"""Brings a change of a table's definition to the target, in order with the data.

All lanes are applied up to the change; then it goes alone, as a batch without changes on the first lane; then they go
on. What is on its way is recorded before it is sent, with its place in the stream: after a crash the first shard's
watermark tells whether it is done. A table whose rows may have changed without a word in the log is copied again, and
each lane's record of the copy is taken back in the same step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from worker_sync.capture.lane import Lane
from worker_sync.capture.versions import Definitions, Move, Plan, Policy, Refusal, Versions
from worker_sync.core.change import Change, Piece, SnapshotMark, TransactionInfo
from worker_sync.core.errors import Halt, Transient
from worker_sync.core.log import event
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.sections import is_trail
from worker_sync.store.versions import TableVersion

log = logging.getLogger(__name__)

Drain = Callable[[], Iterator[None]]
CopyAgain = Callable[[TableName, "TransactionInfo | None"], None]


class Recorder(Protocol):
    """Writes down what an alteration does, in its own time."""

    def save(self, pipeline: str, version: TableVersion) -> Callable[[], bool]:
        """Returns what tells whether it is saved."""

    def halt(self, pipeline: str, halt: Halt, version: TableVersion) -> None:
        """Stop the pipeline; what runs is built anew without it."""

    def resync(self, pipeline: str, version: TableVersion) -> None:
        """Copy the table's rows anew, and take out those that are gone."""

    def rebuild(self) -> None:
        """Build what runs anew: there are other tables now."""


class Alterer:
    """The alterations of one pipeline."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        versions: Versions,
        schemas: Mapping[int, TableSchema],
        truncated: Mapping[str, str],
        recorder: Recorder,
    ) -> None:
        self._name = name
        self._policy = policy
        self.versions = versions
        self._schemas = schemas
        self._truncated = truncated
        self._recorder = recorder
        self._settled: set[int] = set()
        #: Called with the table and the transaction that its copy must see.
        self.copy_again: CopyAgain = lambda _name, _info: None

    def news(self, piece: Piece, repeated: Callable[[TransactionInfo, Change], bool]) -> int | None:
        """The index of the first change whose table has another definition than the target. `repeated` tells what the
        stream only repeats: it may be older than the target."""
        if self._settled.issuperset([change.table for change in piece.changes]):
            return None
        for index, change in enumerate(piece.changes):
            if change.table in self._settled or repeated(piece.info, change):
                continue
            schema = self._schemas[change.table]
            if self.versions.predates(schema.table, piece.info.commit):
                continue
            if self.versions.plan(schema, piece.info.commit) is not None:
                return index
            self._settled.add(change.table)
        return None

    def alter(self, info: TransactionInfo, schema: TableSchema, lanes: Sequence[Lane], drain: Drain) -> Iterator[None]:
        """Follow a definition that a change of the transaction `info` has."""
        plan = self.versions.plan(schema, info.commit)
        assert plan is not None
        yield from self._follow(plan, info.commit, info, lanes, drain)

    def review(self, found: Definitions, lanes: Sequence[Lane], drain: Drain) -> Iterator[None]:
        """Follow what the source's catalog says, once the stream has passed its horizon."""
        for refusal in self.versions.missing(found):
            yield from self._lose(refusal, lanes, drain)
        for plan in self.versions.review(found):
            yield from self._follow(plan, found.horizon, None, lanes, drain)
        for move in self.versions.moved(found, self._truncated):
            yield from self._move(move, drain)
        for refusal in self.versions.new_tables(found):
            yield from self._welcome(refusal, drain)

    def _follow(
        self, plan: Plan | Refusal, commit: str, info: TransactionInfo | None, lanes: Sequence[Lane], drain: Drain
    ) -> Iterator[None]:
        yield from drain()
        if isinstance(plan, Refusal):
            yield from self._stop(plan)
            return
        table = plan.schema.table
        log.warning("%s", plan.change, extra={"action": "schema_changed", "pipeline": self._name})
        saved = self._recorder.save(self._name, self.versions.on_its_way(plan, lanes[0].next_place))
        while not saved():
            yield
        mark = SnapshotMark(str(table), 0, None, False) if plan.copy else None
        lanes[0].send_alteration(plan.change if plan.alter else None, mark)
        yield from drain()
        if mark is not None:
            for lane in lanes[1:]:
                lane.send_alteration(None, mark)
            yield from drain()
            if not plan.schema.key:
                # Its copy must begin before the stream does.
                raise Transient(f"{table} has no key and is copied anew, because its definition has changed")
            self.copy_again(table, info)
        self._recorder.save(self._name, self.versions.done(plan, commit))
        # What was the target's definition is not any more, should the source go back to it.
        self._settled.clear()

    def _stop(self, refusal: Refusal, version: TableVersion | None = None) -> Iterator[None]:
        """Stand still until what runs is built anew without this pipeline."""
        self._recorder.halt(self._name, refusal.halt(), version or self.versions.refused(refusal))
        while True:
            yield

    def _lose(self, refusal: Refusal, lanes: Sequence[Lane], drain: Drain) -> Iterator[None]:
        yield from self._tell_end(refusal, lanes[0], drain)
        if self._policy == "halt" or (self._policy == "apply" and refusal.renamed is not None):
            yield from drain()
            yield from self._stop(refusal)
        log.warning("%s; the target keeps it", refusal.detail, extra={"action": "table_gone", "pipeline": self._name})
        self._recorder.save(self._name, self.versions.forget(refusal.table, refusal.detail))

    def _move(self, move: Move, drain: Drain) -> Iterator[None]:
        if not move.detail:
            self._recorder.save(self._name, move.version)
        elif self._policy == "ignore" or is_trail(self._name):
            log.warning("%s", move.detail, extra=event("rows_moved", pipeline=self._name))
            self._recorder.save(self._name, move.version)
        elif self._policy == "apply":
            log.warning("%s; its rows are copied anew", move.detail, extra=event("rows_moved", pipeline=self._name))
            self._recorder.resync(self._name, move.version)
        else:
            yield from drain()
            yield from self._stop(move.refusal(), move.version)

    def _tell_end(self, refusal: Refusal, lane: Lane, drain: Drain) -> Iterator[None]:
        """Tell a trail that a table is gone, behind all that was changed in it."""
        ending = self.versions.ending(refusal)
        if ending is None:
            return
        yield from drain()
        saved = self._recorder.save(self._name, self.versions.end_on_its_way(refusal, lane.next_place))
        while not saved():
            yield
        lane.send_alteration(ending, None)
        yield from drain()

    def _welcome(self, refusal: Refusal, drain: Drain) -> Iterator[None]:
        assert refusal.schema is not None
        is_new = refusal.table not in self.versions.records
        if not is_new or self._policy == "halt":
            yield from drain()
            yield from self._stop(refusal)
        if self._policy == "ignore":
            words = f"{refusal.detail} and is left alone"
            if self.versions.first_time(words):
                log.warning("%s", words, extra={"action": "table_left_alone", "pipeline": self._name})
            return
        self._recorder.rebuild()
