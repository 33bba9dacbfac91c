"""A running pipeline on the capture's side: its routes, its lanes, and the barriers between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import xxhash

from worker_sync.capture.alterer import Alterer
from worker_sync.capture.contexts import Contexts
from worker_sync.capture.lane import Lane
from worker_sync.capture.routing import Routes
from worker_sync.capture.versions import Definitions
from worker_sync.core.change import Change, Op, Piece, TransactionInfo, divided
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.sections import is_trail
from worker_sync.core.values import Key

#: With this many batches on their way the open one grows instead of following them: what waits in a queue is late by
#: the time that each batch before it takes, what waits in the open batch by that of one.
UNDER_WAY: Final = 2
#: With this many, cutting another one would bring its changes to the target no sooner: it is left to grow.
CROWDED: Final = 16

_DONE: Final = object()


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is cut: by changes, by bytes, or by the seconds since its first change."""

    changes: int
    size: int
    linger_s: float
    max_linger_s: float


def shard_of(key: Key, shards: int) -> int:
    """The shard of a key: stable over processes and machines."""
    return xxhash.xxh64_intdigest(msgspec.msgpack.encode(key)) % shards


def bag_shard(target: TableSchema, shards: int) -> int:
    """The one shard of a table without key: its order is that of all its rows."""
    return shard_of((str(target.table),), shards)


def _divided(piece: Piece, at: int) -> tuple[Piece, Piece]:
    """The first `at` changes, and the others."""
    size = piece.size * at // len(piece.changes)
    ends = piece.changes[at - 1].ordinal if at else 0
    said, messages = divided(piece.messages, ends)
    known, sessions = divided(piece.sessions, ends)
    head = Piece(piece.info, piece.changes[:at], False, size, said, known)
    return head, Piece(piece.info, piece.changes[at:], piece.last, piece.size - size, messages, sessions)


class Pipeline:
    """Spreads the changes of a source's transactions over the pipeline's lanes.

    Order within a key holds because a key has one lane. A change that concerns more than one lane (a truncate, a key
    change that moves a row to another shard) is a barrier: all lanes are applied up to it, then it alone, then they
    go on. While a barrier stands, `blocked` is true and the capture reads nothing more.
    """

    def __init__(
        self, name: str, lanes: list[Lane], routes: Routes, limits: BatchLimits, alterer: Alterer | None = None
    ) -> None:
        self.name = name
        self.lanes = lanes
        self.routes = routes
        self.loading: set[TableName] = set()
        self._limits = limits
        self._alterer = alterer
        self._contexts = Contexts() if is_trail(name) else None
        #: The transaction that is routed in part.
        self._inside: TransactionInfo | None = None
        #: The rest of the piece at hand, while a barrier holds it up.
        self._rest: Iterator[None] | None = None

    # -- taking changes

    def take(self, piece: Piece, now: float, *, marker: bool) -> None:
        """Route one piece; `marker` asks every lane to carry its position even if nothing in it is for us.

        Not to be called while `blocked`.
        """
        assert self._rest is None
        if not piece.last and self._inside is None:
            self._cut_all()
        self._inside = piece.info
        self._rest = self._finish(self._hand_out(piece, now), piece, now, marker)
        self.proceed()

    def _hand_out(self, piece: Piece, now: float) -> Iterator[None]:
        """Give the changes to the lanes; before the first one of another version of a table, its target is altered."""
        alterer = self._alterer
        while alterer is not None and (at := alterer.news(piece, self._is_repeated)) is not None:
            head, piece = _divided(piece, at)
            yield from self._give(head, now)
            yield from alterer.alter(piece.info, self.routes.version(piece.changes[0].table), self.lanes, self._drain)
        yield from self._give(piece, now)

    def _give(self, piece: Piece, now: float) -> Iterator[None]:
        return self._take_one_lane(piece, now) if len(self.lanes) == 1 else self._spread(piece, now)

    def _is_repeated(self, info: TransactionInfo, change: Change) -> bool:
        shard = 0
        if len(self.lanes) > 1 and self.routes[change.table] is not None:
            shard = self._shard(change) or 0
        return self.lanes[shard].covers(info, change.ordinal)

    def fits(self, schema: TableSchema) -> bool:
        """Whether rows of this definition can go to the target as it is."""
        return self._alterer is None or self._alterer.versions.fits(schema)

    def review(self, found: Definitions) -> None:
        """Follow what the source's catalog says, at a transaction's end. Not to be called while `blocked`."""
        assert self.at_boundary
        if self._alterer is not None:
            self._rest = self._alterer.review(found, self.lanes, self._drain)
            self.proceed()

    def _take_one_lane(self, piece: Piece, now: float) -> Iterator[None]:
        if self._contexts is None:
            self.lanes[0].add(piece.info, self._routed(piece.changes), piece.size, now)
            return iter(())
        size = piece.size // max(1, len(piece.changes))
        for author, changes in self._contexts.parts(piece):
            self.lanes[0].add(piece.info, self._routed(changes), size * len(changes), now, author)
        return iter(())

    def _routed(self, changes: Iterable[Change]) -> list[Change]:
        routes = self.routes
        routed = []
        for change in changes:
            route = routes[change.table]
            if route is None:
                continue
            if route.shaper is None:
                routed.append(change)
            elif (shaped := route.change(change)) is not None:
                routed.append(shaped)
        return routed

    def _finish(self, steps: Iterator[None], piece: Piece, now: float, marker: bool) -> Iterator[None]:
        yield from steps
        if piece.last:
            self._inside = None
            for lane in self.lanes:
                lane.close_transaction(piece.info, now)
                if marker:
                    lane.touch(piece.info, now)
        for lane in self.lanes:
            if lane.is_full(self._limits.changes, self._limits.size):
                self._cut(lane)

    def proceed(self) -> None:
        """Go on with what a barrier held up, as far as it can be done now."""
        if self._rest is not None and next(self._rest, _DONE) is _DONE:
            self._rest = None

    @property
    def blocked(self) -> bool:
        return self._rest is not None

    # -- several lanes

    def _spread(self, piece: Piece, now: float) -> Iterator[None]:
        changes = self._routed(piece.changes)
        size = piece.size // max(1, len(changes))
        groups: list[list[Change]] = [[] for _ in self.lanes]
        for change in changes:
            shard = self._shard(change)
            if shard is not None:
                groups[shard].append(change)
                continue
            self._add_groups(piece.info, groups, size, now)
            groups = [[] for _ in self.lanes]
            yield from self._barrier(piece.info, change, size, now)
        self._add_groups(piece.info, groups, size, now)

    def _shard(self, change: Change) -> int | None:
        """The lane of a change; None when it concerns more than one."""
        if change.op == Op.TRUNCATE:
            return None
        target = self.routes.targets[change.table]
        if not target.key:
            return bag_shard(target, len(self.lanes))
        old = None if change.key is None else shard_of(change.key, len(self.lanes))
        if change.after is None:
            return old
        new = shard_of(tuple([change.after[index] for index in target.key_indexes]), len(self.lanes))
        return new if old is None or old == new else None

    def _add_groups(self, info: TransactionInfo, groups: list[list[Change]], size: int, now: float) -> None:
        for lane, group in zip(self.lanes, groups, strict=True):
            lane.add(info, group, size * len(group), now)

    def _barrier(self, info: TransactionInfo, change: Change, size: int, now: float) -> Iterator[None]:
        lane = self.lanes[0 if change.key is None else shard_of(change.key, len(self.lanes))]
        yield from self._drain()
        lane.add(info, [change], size, now)
        yield from self._drain()
        if change.op == Op.TRUNCATE:
            self._release_elsewhere(lane, str(self.routes.source_of(change.table)))

    def _release_elsewhere(self, lane: Lane, table: str) -> None:
        """The lane that emptied a table let its parked keys go; those of the others are empty as well. All lanes are
        drained, so their marks are up to date."""
        for other in self.lanes:
            if other is not lane and any(parked == table for parked, _ in other.mark.parked):
                other.send_release([(table, None)])

    def _drain(self) -> Iterator[None]:
        for lane in self.lanes:
            self._cut(lane)
        while not all(lane.is_drained for lane in self.lanes):
            yield

    # -- cutting

    def _cut(self, lane: Lane) -> None:
        lane.cut(self.routes, self.loading, self._inside)

    def _cut_all(self) -> None:
        for lane in self.lanes:
            self._cut(lane)

    @property
    def at_boundary(self) -> bool:
        """No transaction is half routed."""
        return self._inside is None and self._rest is None

    def flush(self) -> None:
        """Cut what is open, at a transaction's end."""
        assert self.at_boundary
        self._cut_all()

    def cut_due(self, now: float) -> float | None:
        """Cut the batches that have waited long enough; returns the seconds until the next one is due, None when
        nothing is open. Inside a transaction only its size cuts it."""
        if not self.at_boundary:
            return None
        waits = []
        for lane in self.lanes:
            if lane.is_open:
                wait = self._linger(lane) - lane.age(now)
                if wait <= 0:
                    self._cut(lane)
                else:
                    waits.append(wait)
        return min(waits, default=None)

    def _linger(self, lane: Lane) -> float:
        """Seconds that an open batch may wait for more. With nothing under way a change leaves at once; with enough
        under way it waits until one has arrived, unless the source's log waits for it to be on disk."""
        pending = len(lane.pending)
        if pending == 0:
            return 0.0
        if pending < UNDER_WAY:
            return self._limits.linger_s
        return self._limits.max_linger_s if pending < CROWDED or lane.goes_over_disk else math.inf
