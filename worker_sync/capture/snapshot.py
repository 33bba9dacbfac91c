"""Copies existing rows while the stream goes on.

A table is read in key order, chunk by chunk, each in a short read transaction of its own. A chunk is put into the
stream as one batch per shard, at a place where three things hold:

- every transaction that its snapshot sees was routed before it (the stream has passed the chunk's `horizon`), so no
  older value can follow it;
- whatever its snapshot does not see but was routed before it has been laid over its rows, so it brings no value that
  is older than what the target has. That covers transactions that were in the log but not visible yet when the rows
  were read;
- no transaction is half routed.

An update that left a large column unsent finds no row in the target while the row's chunk is still to come: batches
say that the table is loading, the target skips it, and the chunk brings the row. Only a key change can carry such a
row out of a range that is still to be read into one that was read already, or, where rows are filtered, any such update
can bring in a row that its chunk left out; those keys are read once more, by key.

Progress is written by the target in the transaction that applies the chunk, so a restart reads again only the chunks
that were under way.

Tables without a key go another way: see `worker_sync.capture.bag_load`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from connectors.base import Closeable
from worker_sync.capture.bag_load import BagLoad, split
from worker_sync.capture.fetcher import Fetched, Fetcher, TableLoad
from worker_sync.capture.overlay import Overlay, lay_over
from worker_sync.capture.pipeline import Pipeline, bag_shard, shard_of
from worker_sync.capture.routing import Route
from worker_sync.core.change import Change, Op, Piece, SnapshotMark, TransactionInfo
from worker_sync.core.log import event
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import is_complete

log = logging.getLogger(__name__)

#: Chunk batches of one pipeline that may be cut and not applied; more would only make the stream behind them wait.
MAX_UNAPPLIED: Final = 8
#: Seconds until a chunk is read again when its snapshot did not see what it must.
LOOK_AGAIN_S: Final = 0.05
#: Seconds until a chunk is read again whose table has another definition than the target.
ALTERED_S: Final = 0.5


class Loader(Closeable):
    """The snapshots of one pipeline: a queue of tables, one chunk under way at a time.

    `must_see` are transactions that an earlier capture had passed on and that no snapshot was known to see, `begin`
    is the commit position up to which the lanes leave out what the stream repeats: the first chunk waits until all of
    that is visible, because what a chunk doesn't hold of it may not come by the stream.
    """

    def __init__(
        self, pipeline: Pipeline, fetcher: Fetcher, must_see: Iterable[TransactionInfo], begin: str = ""
    ) -> None:
        self._begin = begin
        self._pipeline = pipeline
        self._fetcher = fetcher
        self._must_see = {info.commit: info for info in must_see}
        self._queue: list[TableLoad] = []
        self._overlays: dict[TableName, Overlay] = {}
        self._bags: dict[TableName, BagLoad] = {}
        # Where the log was needed for tables without key, until these positions are reached.
        self._bag_holds: list[tuple[str, list[Position]]] = []
        self._requested = False
        #: What was asked for is not wanted any more.
        self._discard = False
        self._fetched: Fetched | None = None
        self._request_at = 0.0
        # Keys to read again are known to this process only, so the log that brought them must not be confirmed
        # before their rows are applied.
        self._hold: str | None = None
        self._release_at: list[Position] = []
        # Loads whose last chunk is on its way, with the positions at which it is applied.
        self._completing: list[tuple[TableLoad, list[Position]]] = []

    def close(self) -> None:
        for bag in self._bags.values():
            bag.close()

    # -- what to load

    def add(self, load: TableLoad) -> None:
        """Queue a table; a table that is queued already starts anew."""
        self._queue[1:] = [queued for queued in self._queue[1:] if queued.name != load.name]
        self._queue.append(load)
        if load.keyless:
            self._bags.setdefault(load.name, BagLoad(load)).load = load
            return
        self._overlays.setdefault(load.name, Overlay())
        self._pipeline.loading.add(load.name)

    def copy_again(self, name: TableName, info: TransactionInfo | None) -> None:
        """Copy a table from its first row on, whatever of it was copied already: its definition has changed. Its first
        chunk must see the transaction `info`."""
        old = next((load for load in self._queue if load.name == name), None)
        load = TableLoad(name) if old is None else TableLoad(name, old.signal, sweep=old.sweep)
        if old is None:
            self.add(load)
        else:
            at = self._queue.index(old)
            self._queue[at] = load
            if at == 0:
                self._fetched, self._discard = None, self._requested
        # Whoever wrote by the old definition had ended before it could be changed: every snapshot sees that.
        self._overlays[name] = Overlay()
        if info is not None:
            self._must_see[info.commit] = info

    @property
    def active(self) -> bool:
        return bool(self._queue)

    @property
    def loads(self) -> list[TableLoad]:
        """The loads that are not applied completely."""
        marks = [lane.mark.position for lane in self._pipeline.lanes]
        self._completing = [entry for entry in self._completing if not _reached(marks, entry[1])]
        return self._queue + [load for load, _ in self._completing]

    def safe_commit(self, read: str) -> str:
        """The newest commit position that may be confirmed as far as the snapshots are concerned."""
        marks = [lane.mark.position for lane in self._pipeline.lanes]
        self._bag_holds = [entry for entry in self._bag_holds if not _reached(marks, entry[1])]
        holds = [bag.hold for bag in self._bags.values()] + [hold for hold, _ in self._bag_holds]
        return min([self._safe_by_keys(read), *(hold for hold in holds if hold is not None)])

    def _safe_by_keys(self, read: str) -> str:
        if self._hold is None:
            return read
        marks = [lane.mark.position for lane in self._pipeline.lanes]
        if self._release_at and _reached(marks, self._release_at):
            self._hold, self._release_at = None, []
            return read
        return self._hold

    def unseen(self) -> list[TransactionInfo]:
        """Transactions that were passed on and that no snapshot is known to see."""
        seen = {info.commit: info for overlay in self._overlays.values() for info in overlay.transactions()}
        return list((self._must_see | seen).values())

    # -- what the stream brings meanwhile

    @property
    def crowded(self) -> bool:
        """Withheld changes can't follow as fast as the stream would bring new ones: it has to wait."""
        bag = self._bag()
        return bag is not None and bag.copied and self._unapplied() >= MAX_UNAPPLIED

    def _bag(self) -> BagLoad | None:
        """The table without key that is being copied."""
        return self._bags.get(self._queue[0].name) if self._queue else None

    def observe(self, piece: Piece, read: str) -> Piece:
        """Called with every piece before it is routed, while `active`; returns what is to be routed of it. `read` is
        the last complete transaction."""
        if self._bags:
            others, withheld = split(piece.changes, self._bags, self._pipeline.routes)
            for bag, changes in withheld.items():
                bag.withhold(read, piece.info, changes)
            if withheld:
                piece = Piece(piece.info, others, piece.last, piece.size, piece.messages, piece.sessions)
        if self._overlays:
            self._observe_keyed(piece.info, piece.changes, read)
        return piece

    def _observe_keyed(self, info: TransactionInfo, changes: Iterable[Change], read: str) -> None:
        for change in changes:
            route = self._pipeline.routes[change.table]
            overlay = None if route is None else self._overlays.get(route.source.table)
            if route is None or overlay is None:
                continue
            self._note_move(change, route, read)
            if info.commit <= self._begin:
                self._expect(info)
                continue
            overlay.observe(info, change, route.source)
            self._observe_current(info, change, route.source)

    def _expect(self, info: TransactionInfo) -> None:
        if self._fetched is None or not self._fetched.chunk.sees(info):
            self._must_see[info.commit] = info

    def _note_move(self, change: Change, route: Route, read: str) -> None:
        """Remember a key whose row must be read again; for a table that was not begun that is only once too often."""
        if change.after is None or is_complete(change.after):
            return
        if change.key is None and not route.filters:
            return
        schema = route.source
        load = next(load for load in self._queue if load.name == schema.table)
        load.again.append(tuple([change.after[index] for index in schema.key_indexes]))
        self._hold, self._release_at = self._hold or read, []

    def _observe_current(self, info: TransactionInfo, change: Change, schema: TableSchema) -> None:
        fetched = self._fetched
        if fetched is None or schema.table != self._queue[0].name or fetched.chunk.sees(info):
            return
        if change.op != Op.TRUNCATE and schema.column_names != fetched.route.source.column_names:
            self._fetched = None
            return
        lay_over(fetched.rows, change, fetched.route.source)

    # -- the work

    def step(self, read: str, now: float, *, room: bool) -> None:
        """Do what can be done now. `read` is the newest commit position that was routed completely; `room` says
        that the window is not full."""
        if not self._queue:
            return
        bag = self._bag()
        ready = room and self._pipeline.at_boundary and self._unapplied() < MAX_UNAPPLIED
        if bag is not None and bag.copied:
            if ready:
                self._follow(bag, now)
            return
        if self._fetched is None and not self._receive(now):
            return
        assert self._fetched is not None
        if self._must_see:
            self._fetched, self._request_at = None, now + LOOK_AGAIN_S
            return
        if not self._pipeline.fits(self._fetched.route.source):
            # A scan can't go on with other rows; a new one begins with those that fit.
            self._fetched, self._request_at, self._queue[0].scanning = None, now + ALTERED_S, False
            return
        if ready and read >= self._fetched.chunk.horizon:
            if bag is not None:
                self._send_bag(bag, bag.rows(self._fetched), done=False)
            else:
                self._emit(self._queue[0], self._fetched)
            self._fetched = None

    def _receive(self, now: float) -> bool:
        """Ask for the next chunk, or take it over once it is there."""
        if not self._requested and now >= self._request_at:
            self._fetcher.request(self._queue[0])
            self._requested = True
        fetched = self._fetcher.take()
        if fetched is None:
            return False
        self._requested = False
        if self._discard:
            self._discard = False
            return False
        self._must_see = {commit: info for commit, info in self._must_see.items() if not fetched.chunk.sees(info)}
        if self._must_see:
            self._request_at = now + LOOK_AGAIN_S
            # Another snapshot is needed, not more rows of this one.
            self._queue[0].scanning = False
            return False
        for overlay in self._overlays.values():
            overlay.forget(fetched.chunk.sees)
        bag = self._bag()
        for other in self._bags.values():
            if other is not bag:
                other.seen_by(fetched.chunk)
        if bag is not None:
            bag.begin(fetched)
        else:
            overlay = self._overlays[self._queue[0].name]
            if not overlay.agrees(fetched.route.source):
                self._request_at = now + LOOK_AGAIN_S
                return False
            overlay.lay_over(fetched.rows, fetched.route.source)
        self._fetched = fetched
        return True

    def _unapplied(self) -> int:
        return max(sum(cut.oldest is None for cut in lane.pending) for lane in self._pipeline.lanes)

    def _emit(self, load: TableLoad, fetched: Fetched) -> None:
        self._pipeline.flush()
        self._advance(load, fetched)
        done = load.rows_read and not load.again and (load.swept or not load.sweep)
        load.chunk += 1
        mark = SnapshotMark(str(load.name), load.chunk, load.last_key, done)
        shards = len(self._pipeline.lanes)
        groups: list[list[Change]] = [[] for _ in range(shards)]
        for number, (key, row) in enumerate(fetched.rows.items(), 1):
            change = fetched.route.read(number, key, row, again=bool(fetched.asked))
            if change is not None:
                groups[shard_of(key, shards) if shards > 1 else 0].append(change)
        for lane, group in zip(self._pipeline.lanes, groups, strict=True):
            # All rows of the table follow: what is parked of it is old by then.
            lane.send_chunk(fetched.route.target, group, mark, supersedes=load.sweep and load.chunk == 1)
        load.rows += len(fetched.rows)
        if done:
            self._finish(load)

    # -- tables without key

    def _follow(self, bag: BagLoad, now: float) -> None:
        """Send what was withheld, and with the last of it let the table join the stream."""
        changes = bag.following(self._pipeline.routes)
        if not bag.is_complete:
            self._send_bag(bag, changes, done=False)
            return
        self._pipeline.flush()
        if bag.last is not None:
            # After a restart the stream brings these changes again: the marks must say that they are applied.
            for lane in self._pipeline.lanes:
                lane.touch(bag.last, now)
        self._send_bag(bag, changes, done=True)
        self._join(bag)

    def _send_bag(self, bag: BagLoad, changes: list[Change], *, done: bool) -> None:
        self._pipeline.flush()
        load, lanes = bag.load, self._pipeline.lanes
        load.chunk += 1
        mark = SnapshotMark(str(load.name), load.chunk, None, done)
        home = bag_shard(bag.route.target, len(lanes))
        for shard, lane in enumerate(lanes):
            lane.send_chunk(bag.route.target, changes if shard == home else [], mark)

    def _join(self, bag: BagLoad) -> None:
        load = bag.load
        self._say_done(load)
        self._queue.pop(0)
        del self._bags[load.name]
        tails = [lane.tail for lane in self._pipeline.lanes]
        self._completing.append((load, tails))
        if bag.hold is not None:
            self._bag_holds.append((bag.hold, tails))
        bag.close()

    def _say_done(self, load: TableLoad) -> None:
        extra = event("snapshot_done", pipeline=self._pipeline.name, table=str(load.name), rows=load.rows)
        log.info("snapshot of %s is complete: %d rows", load.name, load.rows, extra=extra)

    def _advance(self, load: TableLoad, fetched: Fetched) -> None:
        if not load.rows_read:
            load.rows_read = fetched.chunk.done
            if fetched.chunk.rows:
                indexes = fetched.route.source.key_indexes
                load.last_key = tuple([fetched.chunk.rows[-1][index] for index in indexes])
        elif fetched.asked:
            for _ in fetched.asked:
                load.again.popleft()
        else:
            load.swept_to, load.swept = fetched.swept_to, fetched.chunk.done

    def _finish(self, load: TableLoad) -> None:
        self._say_done(load)
        self._queue.pop(0)
        tails = [lane.tail for lane in self._pipeline.lanes]
        self._completing.append((load, tails))
        if self._hold is not None:
            self._release_at = tails
        if all(queued.name != load.name for queued in self._queue):
            self._pipeline.loading.discard(load.name)
            del self._overlays[load.name]


def _reached(marks: list[Position], tails: list[Position]) -> bool:
    return all(mark >= tail for mark, tail in zip(marks, tails, strict=True))
