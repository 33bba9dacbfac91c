"""One shard of one pipeline on the capture's side: the batch being filled and the batches not known to be applied."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.base import Mark
from worker_sync.capture.contexts import UNKNOWN, Author
from worker_sync.capture.routing import Routes
from worker_sync.core.alteration import Alteration
from worker_sync.core.change import Batch, Change, Section, SnapshotMark, TransactionInfo
from worker_sync.core.codec import encode
from worker_sync.core.position import WHOLE, Position
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.sections import is_trail
from worker_sync.core.values import Key


@dataclass(frozen=True, slots=True)
class LaneId:
    """What a lane's batches have in common."""

    source: str
    pipeline: str
    shard: int
    epoch: int

    def __str__(self) -> str:
        return f"{self.pipeline}/{self.shard}"


@dataclass(slots=True)
class Cut:
    """A batch as it was (or will be) published, kept until its shard's watermark passes it."""

    lane: LaneId
    after: Position
    upto: Position
    data: bytes
    summary: str
    #: Commit time of its oldest transaction, microseconds; None for a snapshot chunk.
    oldest: int | None
    changes: int = 0
    #: The traceparent of the span that sent it first; empty before that, and while nothing is traced.
    trace: str = ""


class Detour(Protocol):
    """A way for cut batches over the disk, between those that are pending and the newest."""

    #: How far what is on disk reaches without a gap, at the end of a transaction.
    @property
    def whole(self) -> Position | None: ...

    #: Everything that is cut goes over it.
    @property
    def active(self) -> bool: ...

    #: Nothing is on its way over it that isn't pending too.
    @property
    def is_passed(self) -> bool: ...

    def take(self, cut: Cut) -> bool:
        """Whether it takes the cut over."""


class Lane:
    """Fills and cuts batches; each cut batch begins where the one before it ended, so the chain has no gap.

    Used by the capture's main thread only.
    """

    def __init__(self, identity: LaneId, mark: Mark, floor: str, publish: Callable[[Cut], None]) -> None:
        self.id = identity
        self.mark = mark
        # The newest transaction known to be applied as a whole; the mark itself may stand inside one.
        self._floor = mark.position.commit if mark.position.ordinal == WHOLE else floor
        #: Where the last cut batch ended: the next one's `after`.
        self.tail = mark.position
        self.pending: deque[Cut] = deque()
        self.detour: Detour | None = None
        self._publish = publish
        self._host = socket.gethostname() if is_trail(identity.pipeline) else ""
        self._replaying = True
        self._sections: list[Section] = []
        self._changes: list[Change] = []
        self._bytes = 0
        self._opened_at = 0.0

    # -- filling

    def add(
        self, info: TransactionInfo, changes: list[Change], size: int, now: float, author: Author = UNKNOWN
    ) -> None:
        """Append changes of one transaction. What the watermark covers already is left out."""
        if self._replaying:
            changes = self._beyond_mark(info, changes)
        if not changes:
            return
        if not self._sections:
            self._opened_at = now
        if self._ends_in(info) and author == (self._sections[-1].context, self._sections[-1].session):
            self._sections[-1].count += len(changes)
        else:
            self._sections.append(Section(info, len(changes), *author))
        self._changes += changes
        self._bytes += size

    def _beyond_mark(self, info: TransactionInfo, changes: list[Change]) -> list[Change]:
        start = self._beginning
        if info.commit > start.commit:
            self._replaying = False
            return changes
        return [change for change in changes if Position(info.commit, change.ordinal) > start]

    @property
    def _beginning(self) -> Position:
        """What the stream brings up to here it only repeats: it is applied, or on its way."""
        return self.mark.position if not self.pending and self._is_passed else self.tail

    def touch(self, info: TransactionInfo, now: float) -> None:
        """Open an empty section, so that the watermark moves to this transaction though it holds nothing for us."""
        if Position(info.commit) > self.tail and not self._ends_in(info):
            self._opened_at = self._opened_at if self._sections else now
            self._sections.append(Section(info, 0))

    # -- cutting

    @property
    def is_open(self) -> bool:
        return bool(self._sections)

    def is_full(self, changes: int, size: int) -> bool:
        return len(self._changes) >= changes or self._bytes >= size

    def age(self, now: float) -> float:
        """Seconds since the first change of the open batch."""
        return now - self._opened_at if self._sections else 0.0

    def _ends_in(self, info: TransactionInfo) -> bool:
        return bool(self._sections) and self._sections[-1].info.commit == info.commit

    def cut(self, routes: Routes, loading: set[TableName], inside: TransactionInfo | None) -> None:
        """Close the open batch and hand it to the publisher. `loading` names source tables whose snapshot is not
        complete; `inside` is the transaction of which more may come."""
        if not self._sections:
            return
        last = self._sections[-1]
        ordinal = self._changes[-1].ordinal if inside is not None and self._ends_in(inside) else WHOLE
        used = {change.table for change in self._changes}
        self._send(
            upto=Position(last.info.commit, ordinal),
            sections=self._sections,
            changes=self._changes,
            tables={table: routes.targets[table] for table in used},
            split=ordinal != WHOLE,
            loading=[table for table in used if routes.source_of(table) in loading] if loading else [],
            origins={table: str(routes.source_of(table)) for table in used},
        )
        self._sections, self._changes, self._bytes = [], [], 0

    def close_transaction(self, info: TransactionInfo, now: float) -> None:
        """Called when a transaction is complete: one that was split must end with a whole position, or its log could
        not be confirmed before the next change arrives."""
        if not self._sections and self.tail.commit == info.commit and self.tail.ordinal != WHOLE:
            self.touch(info, now)

    def send_chunk(
        self, schema: TableSchema, changes: list[Change], mark: SnapshotMark, *, supersedes: bool = False
    ) -> None:
        """Put a snapshot chunk into the stream here. The open batch must have been cut, at a transaction's end. A chunk
        that `supersedes` what is parked of its table lets the table's keys go."""
        assert not self._sections
        assert self.tail.ordinal == WHOLE
        self._send(
            upto=self.next_place,
            sections=[],
            changes=changes,
            tables={0: schema},
            snapshot=mark,
            loading=[0],
            origins={0: mark.table},
            released=[(mark.table, None)] if supersedes else [],
        )

    def send_release(
        self, released: list[tuple[str, Key | None]], schema: TableSchema | None = None, changes: Sequence[Change] = ()
    ) -> None:
        """Let parked keys go here, all of one source table; `changes` bring their rows, of table 0 with that `schema`.
        The open batch must have been cut; without changes a transaction may be half routed."""
        assert not self._sections
        self._send(
            upto=self.next_place,
            sections=[],
            changes=list(changes),
            tables={} if schema is None else {0: schema},
            split=self.tail.ordinal != WHOLE,
            origins={} if schema is None else {0: released[0][0]},
            released=released,
        )

    def covers(self, info: TransactionInfo, ordinal: int) -> bool:
        """Whether the watermark covers a change, which the stream only repeats."""
        start = self._beginning
        return self._replaying and Position(info.commit, ordinal) <= start

    @property
    def next_place(self) -> Position:
        """Where something that is put into the stream now will stand."""
        return Position(self.tail.commit, self.tail.ordinal, self.tail.chunk + 1)

    def send_alteration(self, change: Alteration | None, mark: SnapshotMark | None) -> None:
        """Alter the target's table here, `mark` its rows as to be copied, or both. The open batch must have been cut;
        a transaction may be half routed."""
        assert not self._sections
        split = self.tail.ordinal != WHOLE
        self._send(self.next_place, [], [], {}, snapshot=mark, split=split, alteration=change)

    def inherit(self, mark: SnapshotMark) -> None:
        """Tell the shard of a snapshot that was finished before it existed."""
        state = self.mark.snapshots.get(mark.table)
        if state is None or not state.done:
            self._send(upto=self.next_place, sections=[], changes=[], tables={}, snapshot=mark)

    def _send(
        self,
        upto: Position,
        sections: list[Section],
        changes: list[Change],
        tables: dict[int, TableSchema],
        snapshot: SnapshotMark | None = None,
        split: bool = False,
        loading: list[int] | None = None,
        alteration: Alteration | None = None,
        origins: dict[int, str] | None = None,
        released: list[tuple[str, Key | None]] | None = None,
    ) -> None:
        batch = Batch(
            source=self.id.source,
            pipeline=self.id.pipeline,
            shard=self.id.shard,
            epoch=self.id.epoch,
            after=self.tail,
            upto=upto,
            sections=sections,
            tables=tables,
            changes=changes,
            snapshot=snapshot,
            split=split,
            loading=loading or [],
            alteration=alteration,
            origins={n: name for n, name in (origins or {}).items() if name != str(tables[n].table)},
            released=released or [],
            captured_at=time.time_ns() // 1000 if self._host else 0,
            host=self._host,
        )
        oldest = sections[0].info.committed_at if sections else None
        cut = Cut(self.id, self.tail, upto, encode(batch), batch.summary(), oldest, len(changes))
        self.tail = upto
        if self.detour is None or not self.detour.take(cut):
            self.send(cut)

    def send(self, cut: Cut) -> None:
        """Publish a batch, in the chain's order, and remember it."""
        self.pending.append(cut)
        self._publish(cut)

    # -- what is applied

    def advance(self, mark: Mark) -> bool:
        """Take over a newer mark from the target; True when the watermark moved."""
        if mark.position <= self.mark.position:
            return False
        self.mark = mark
        if mark.position.ordinal == WHOLE:
            self._floor = mark.position.commit
        while self.pending and self.pending[0].upto <= mark.position:
            self.pending.popleft()
        return True

    @property
    def is_drained(self) -> bool:
        """Everything that this lane was given is applied."""
        return not self.pending and not self._sections and self._is_passed

    @property
    def goes_over_disk(self) -> bool:
        """What is cut does not wait in memory for the target."""
        return self.detour is not None and self.detour.active

    @property
    def _is_passed(self) -> bool:
        return self.detour is None or self.detour.is_passed

    def safe_commit(self, read: str) -> str:
        """The newest commit position up to which this lane needs nothing from the log any more; `read` is that of
        the last transaction that was read completely."""
        if self.is_drained:
            return read
        spilled = None if self.detour is None else self.detour.whole
        if spilled is None:
            return min(self._floor, read)
        if spilled == self.tail and not self._sections:
            # All that it was given is on disk; what was read since holds nothing for it.
            return read
        return min(max(self._floor, spilled.commit), read)
