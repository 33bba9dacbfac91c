"""Applies batches and parks what the target refuses of them.

Letters are written first, by an identity that is the same whenever the same change is parked; then the rest is applied
and the keys are held, in the transaction that moves the watermark, if the shard still stands as the plan assumed. So
a crash in between repeats, two workers with the same batch write the same letters, and a worker whose batch is out of
date leaves at most a letter of a change that was applied, which the capture resolves.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import msgspec

from connectors.base import Mark, Outcome, Sink
from tasks.bisection import REFUSALS, TooMany, find_refused
from tasks.transaction import apply
from worker_sync.core import sections, spans
from worker_sync.core.apply import Verdict, changes_beyond, decide
from worker_sync.core.change import Batch, Change, Op, Section, TransactionInfo
from worker_sync.core.codec import encode
from worker_sync.core.errors import Permanent, TargetRejected, Transient
from worker_sync.core.log import event
from worker_sync.core.parking import Division, Held, Plan, divide, key_text, parked_text
from worker_sync.core.position import Position
from worker_sync.store.dead_letters import DeadLetters, Letter, LetterKind

log = logging.getLogger(__name__)

#: How often a batch is begun anew because the shard had moved meanwhile.
ROUNDS: Final = 5
#: The error type of a change that nothing but an earlier one of its key keeps from the target.
WAITING: Final = "Waiting"
WAITING_WHY: Final = "waits for an earlier change of its key"


class _Moved(Exception):
    """The shard does not stand any more where the rehearsals began."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a change stands in the source's log."""

    info: TransactionInfo
    position: Position


class Parker:
    """Applies the batches of one pipeline. `letters` opens the place where refused changes are kept."""

    def __init__(
        self,
        sink: Sink,
        pipeline: sections.Pipeline,
        limits: sections.DeadLetters,
        letters: Callable[[], DeadLetters],
    ) -> None:
        self._sink = sink
        self._parks = pipeline.on_rejected == "park"
        self._limits = limits
        self._letters = letters

    def apply(self, batch: Batch) -> str:
        """Apply the batch, or what of it the target takes; returns the `Outcome`. Raises what the target refused where
        it can't be parked: in a table without key, with `on_rejected: halt`, and beyond the limits."""
        for _ in range(ROUNDS):
            refusal: Permanent | None = None
            try:
                outcome = apply(self._sink, batch)
            except REFUSALS as error:
                if not self._parks or batch.alteration is not None:
                    raise
                refusal = error
                outcome = Outcome.HELD
            if outcome == Outcome.HELD:
                outcome = self._apply_without(batch, refusal)
            if outcome != Outcome.HELD:
                return outcome
        raise Transient(f"{batch.summary()}: the shard moved {ROUNDS} times while changes were being parked")

    def _apply_without(self, batch: Batch, refusal: Permanent | None) -> str:
        """Park what concerns held keys and, after a refusal, what is refused; apply the rest. HELD: begin anew."""
        mark = self._sink.marks(batch.pipeline).get(batch.shard)
        if mark is None or decide(mark.epoch, mark.position, batch) is not Verdict.APPLY:
            return Outcome.HELD
        work = _Work(self._sink, batch, mark)
        started = time.monotonic()
        try:
            refused = {} if refusal is None else work.refused(self._limits.per_batch)
        except _Moved:
            return Outcome.HELD
        except TooMany as error:
            limit = f"more than dead_letters.per_batch ({self._limits.per_batch}) changes of one batch are refused"
            raise type(error.last)(f"{error.last.detail}; {limit}") from error.last
        division = work.divide(refused)
        if (
            refusal is None
            and division.held
            and (found := self._refused_of_the_rest(batch, work, division)) is not None
        ):
            return self._apply_without(batch, found)
        self._check_limits(batch, mark, division)
        self._park(work, division, refused)
        try:
            outcome = apply(self._sink, batch, work.plan(division))
        except REFUSALS as error:
            if not self._parks:
                raise
            # What is refused was not looked for yet, or the target has changed meanwhile.
            return self._apply_without(batch, error) if refusal is None else Outcome.HELD
        if division.held and outcome == Outcome.APPLIED:
            _report(batch, division, refused, time.monotonic() - started)
        return outcome

    def _refused_of_the_rest(self, batch: Batch, work: _Work, division: Division) -> Permanent | None:
        """What the target says of the rest. It must be known before the first letter is written, because the letters of
        a key stand in the order of the log."""
        try:
            apply(self._sink, batch, work.plan(division, rehearsal=True))
        except REFUSALS as error:
            if not self._parks:
                raise
            return error
        return None

    def _check_limits(self, batch: Batch, mark: Mark, division: Division) -> None:
        keys, limit = len(division.parked), self._limits.keys
        if keys > max(limit, len(mark.parked)):
            raise TargetRejected(
                f"{batch.pipeline}/{batch.shard}: {keys} keys would be parked, more than dead_letters.keys ({limit}); "
                "replay or discard some, or raise it"
            )
        if not division.held:
            return
        letters, limit = self._letters().changes(batch.pipeline) + len(division.held), self._limits.letters
        if letters > limit:
            raise TargetRejected(
                f"{batch.pipeline}: {letters} changes would be parked, more than dead_letters.letters ({limit}); "
                "discard some, or raise it"
            )

    def _park(self, work: _Work, division: Division, refused: dict[int, Permanent]) -> None:
        letters: list[Letter] = []
        for held in division.held:
            error = refused.get(held.index)
            if error is None or not work.is_refused_again(held, self._letters(), error):
                letters += work.letters(held, error)
        if letters:
            self._letters().park(letters)


class _Work:
    """One batch for a shard that stands at `mark`."""

    def __init__(self, sink: Sink, batch: Batch, mark: Mark) -> None:
        self._sink = sink
        self._batch = batch
        self._mark = mark
        self._before = parked_text(mark.parked)
        self._changes = changes_beyond(batch, mark.position)
        self._places = list(_places(batch, mark.position))

    def divide(self, refused: Collection[int], count: int | None = None) -> Division:
        return divide(self._batch, self._changes[:count], self._mark.parked, refused)

    def plan(self, division: Division, *, rehearsal: bool = False) -> Plan:
        return Plan(self._mark.position, self._before, parked_text(division.parked), division.kept, rehearsal)

    def refused(self, limit: int) -> dict[int, Permanent]:
        """The changes that the target refuses, by rehearsals. Raises the refusal of one that can't be parked."""
        refused = find_refused(self._ends(), self._attempt, limit)
        for place, error in refused.items():
            change = self._changes[place]
            if change.op == Op.TRUNCATE or not self._batch.tables[change.table].key:
                raise error
        return refused

    def _ends(self) -> list[int]:
        """Numbers of changes after which a transaction ends. Rows that were read are no transactions: each may stand
        alone."""
        if not self._batch.sections:
            return list(range(1, len(self._changes) + 1))
        return list(accumulate(Counter(place.info.commit for place in self._places).values()))

    def _attempt(self, refused: Collection[int], count: int) -> Permanent | None:
        plan = Plan(self._mark.position, self._before, self._before, self.divide(refused, count).kept, rehearsal=True)
        try:
            outcome = apply(self._sink, self._batch, plan)
        except REFUSALS as error:
            return error
        if outcome != Outcome.APPLIED:
            raise _Moved
        return None

    def is_refused_again(self, held: Held, letters: DeadLetters, error: Permanent) -> bool:
        """Whether the change is the row of a parked key, read again in vain; then its letters say so."""
        if not self._batch.released:
            return False
        (table, key), *_ = held.keys
        return letters.refuse(self._batch.pipeline, table, key_text(key), type(error).__name__, str(error)) > 0

    def letters(self, held: Held, error: Permanent | None) -> Iterator[Letter]:
        """One letter for each key that the change holds, so that no key is held without one."""
        place, change = self._places[held.index], held.change
        payload = encode(self._alone(change, place))
        for table, key in held.keys:
            yield Letter(
                identity=self._identity(change, place, table, key_text(key)),
                kind=LetterKind.CHANGE,
                payload=payload,
                error_type=WAITING if error is None else type(error).__name__,
                error=WAITING_WHY if error is None else str(error),
                attempts=0 if error is None else 1,
                pipeline=self._batch.pipeline,
                shard=self._batch.shard,
                table=table,
                key=key_text(key),
                position=str(place.position),
                ordinal=change.ordinal,
                op=change.op,
                trace=spans.traceparent(),
            )

    def _identity(self, change: Change, place: _Place, table: str, key: str) -> str:
        # The key, too: a row that is read has no place of its own in the log, another may be read there next time.
        where = (self._batch.pipeline, self._batch.source, self._mark.identity, place.position.commit,
                 str(place.position.chunk), str(change.ordinal))  # fmt: skip
        return ":".join((*where, hashlib.sha256(f"{table}\n{key}".encode()).hexdigest()[:32]))

    def _alone(self, change: Change, place: _Place) -> Batch:
        sections = [Section(place.info, 1)] if self._batch.sections else []
        tables = {change.table: self._batch.tables[change.table]}
        origins = {change.table: self._batch.origin(change.table)}
        return msgspec.structs.replace(
            self._batch, upto=place.position, sections=sections, tables=tables, origins=origins, changes=[change],
            snapshot=None, released=[], split=False, loading=[],
        )  # fmt: skip


def _places(batch: Batch, watermark: Position) -> Iterator[_Place]:
    """Where the changes beyond the watermark stand, in order."""
    if not batch.sections:
        info = TransactionInfo(batch.upto.commit, 0)
        yield from (_Place(info, batch.upto) for _ in batch.changes)
        return
    for info, _, position in batch.positions():
        if position > watermark:
            yield _Place(info, position)


def _report(batch: Batch, division: Division, refused: Collection[int], seconds: float) -> None:
    fields = {"pipeline": batch.pipeline, "shard": batch.shard, "refused": len(refused)}
    extra = event("parked", **fields, parked=len(division.held), keys=len(division.parked))
    # One refused change makes a warning, those that wait for it none.
    level = logging.WARNING if refused else logging.INFO
    text = "%s/%s: parked %d changes (%d refused) of %d in %.2f s, keys held now: %d; worker-sync dead-letters list"
    counts = len(division.held), len(refused), len(division.held) + len(division.kept)
    log.log(level, text, batch.pipeline, batch.shard, *counts, seconds, len(division.parked), extra=extra)
