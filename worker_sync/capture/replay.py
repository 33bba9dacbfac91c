"""Brings the rows of parked keys to the target as they are now, and lets the keys go.

The rows are read by key and put into the stream as one batch per shard, where the same holds as for the chunks of a
snapshot (`worker_sync.capture.snapshot`): the stream has passed the read's horizon, no transaction is half routed, and
what was routed without being seen by the read is laid over its rows. Until that batch is applied the target parks every
change of the keys, so here also rows that appeared or vanished meanwhile have to be brought along: every key that was
asked for is written or deleted. Changes behind the batch flow as usual, so a replay never goes back in time.

Nothing of a replay is kept but the request itself: after a crash it is done again, from its first key on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from worker_sync.capture.fetcher import Fetched, Fetcher, TableLoad
from worker_sync.capture.overlay import ChunkRows
from worker_sync.capture.pipeline import Pipeline, shard_of
from worker_sync.capture.snapshot import ALTERED_S, LOOK_AGAIN_S
from worker_sync.core.change import Change, Op, Piece, TransactionInfo
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row, is_complete, merge

#: Keys that are read and released in one batch.
KEYS: Final = 500


@dataclass(frozen=True, slots=True)
class Request:
    """Keys of one source table to let go; their rows are brought along when they are to be `read`. None: all keys."""

    signal: int
    table: TableName
    keys: Sequence[Key] | None
    read: bool


class _Unknown(Exception):
    """What was seen of a row does not tell all of it: it must be read again."""


class Replayer:
    """The replays and releases of one pipeline, one after the other.

    `must_see` and `begin` are as those of `worker_sync.capture.snapshot.Loader`: transactions that the first read must
    see, because the stream does not bring them, or brings them only to be left out.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        fetcher: Fetcher,
        requests: Iterable[Request],
        must_see: Iterable[TransactionInfo],
        begin: str,
    ) -> None:
        self.fetcher = fetcher
        self._pipeline = pipeline
        self._queue = deque(part for request in requests for part in _parts(request))
        self._must_see = {info.commit: info for info in must_see}
        self._begin = begin
        self._tables = {request.table for request in self._queue if request.read}
        #: What the stream brought of these tables that no read is known to have seen, in order.
        self._brought: list[tuple[TransactionInfo, Change, TableSchema]] = []
        self._requested = False
        self._fetched: Fetched | None = None
        self._request_at = 0.0
        self._sent: list[tuple[int, list[Position]]] = []

    @property
    def active(self) -> bool:
        return bool(self._queue)

    def open(self) -> set[int]:
        """The signals whose batches are not all applied."""
        marks = [lane.mark.position for lane in self._pipeline.lanes]
        self._sent = [
            (signal, tails)
            for signal, tails in self._sent
            if any(mark < tail for mark, tail in zip(marks, tails, strict=True))
        ]
        return {request.signal for request in self._queue} | {signal for signal, _ in self._sent}

    def unseen(self) -> list[TransactionInfo]:
        """Transactions that were passed on and that no read is known to see."""
        return list((self._must_see | {info.commit: info for info, _, _ in self._brought}).values())

    def observe(self, piece: Piece) -> None:
        """Called with every piece before it is routed, while `active`."""
        for change in piece.changes:
            route = self._pipeline.routes[change.table]
            if route is None or route.source.table not in self._tables:
                continue
            if piece.info.commit > self._begin:
                self._brought.append((piece.info, change, route.source))
            elif self._fetched is None or not self._fetched.chunk.sees(piece.info):
                self._must_see[piece.info.commit] = piece.info

    def step(self, read: str, now: float, *, room: bool) -> None:
        """Do what can be done now; as `worker_sync.capture.snapshot.Loader.step`."""
        if not self._queue:
            return
        request = self._queue[0]
        ready = room and self._pipeline.at_boundary
        if not request.read:
            if ready:
                self._send(request, None, {})
        elif self._receive(request, now) and ready:
            fetched = self._fetched
            assert fetched is not None
            if read >= fetched.chunk.horizon:
                self._bring(request, fetched, now)

    def _receive(self, request: Request, now: float) -> bool:
        """Whether the rows are there and see what they must; asks for them otherwise."""
        if self._fetched is not None and not self._must_see:
            return True
        if not self._requested and now >= self._request_at:
            self._fetched = None
            # The estimate is for displays; it need not be asked for.
            load = TableLoad(request.table, rows_read=True, again=deque(request.keys or ()), estimate=1)
            self.fetcher.request(load)
            self._requested = True
        fetched = self.fetcher.take()
        if fetched is None:
            return False
        self._requested = False
        sees = fetched.chunk.sees
        self._must_see = {commit: info for commit, info in self._must_see.items() if not sees(info)}
        self._brought = [entry for entry in self._brought if not sees(entry[0])]
        if self._must_see:
            self._request_at = now + LOOK_AGAIN_S
            return False
        self._fetched = fetched
        return True

    def _bring(self, request: Request, fetched: Fetched, now: float) -> None:
        if not self._pipeline.fits(fetched.route.source):
            self._fetched, self._request_at = None, now + ALTERED_S
            return
        rows: ChunkRows = {key: fetched.rows.get(key) for key in request.keys or ()}
        try:
            for info, change, schema in self._brought:
                if schema.table == request.table and not fetched.chunk.sees(info):
                    lay_over(rows, change, schema, fetched.route.source)
        except _Unknown:
            self._fetched, self._request_at = None, now + LOOK_AGAIN_S
            return
        self._send(request, fetched, rows)

    def _send(self, request: Request, fetched: Fetched | None, rows: ChunkRows) -> None:
        self._pipeline.flush()
        lanes = self._pipeline.lanes
        groups: list[list[Change]] = [[] for _ in lanes]
        for number, (key, row) in enumerate(rows.items(), 1):
            assert fetched is not None
            change = fetched.route.read(number, key, row, again=True)
            assert change is not None
            groups[shard_of(key, len(lanes)) if len(lanes) > 1 else 0].append(change)
        name = str(request.table)
        released = [(name, key) for key in (request.keys if request.keys is not None else [None])]
        for lane, group in zip(lanes, groups, strict=True):
            lane.send_release(released, fetched.route.target if fetched is not None and group else None, group)
        self._sent.append((request.signal, [lane.tail for lane in lanes]))
        self._queue.popleft()
        self._fetched = None
        self._tables = {request.table for request in self._queue if request.read}
        self._brought = [entry for entry in self._brought if entry[2].table in self._tables]


def _parts(request: Request) -> list[Request]:
    keys = request.keys
    if keys is None:
        return [request]
    return [
        Request(request.signal, request.table, keys[at : at + KEYS], request.read) for at in range(0, len(keys), KEYS)
    ]


def lay_over(rows: ChunkRows, change: Change, seen_as: TableSchema, schema: TableSchema) -> None:
    """Apply a change that a read did not see to the rows of the keys that it was asked for; None stands for a row that
    is not there. Raises _Unknown where the change alone doesn't tell what became of a row."""
    if change.op == Op.TRUNCATE:
        rows.update(dict.fromkeys(rows))
        return
    if change.after is None:
        assert change.key is not None
        if change.key in rows:
            rows[change.key] = None
        return
    new = tuple([change.after[index] for index in seen_as.key_indexes])
    old = new if change.key is None else change.key
    before: Row | None = rows.get(old)
    if old in rows:
        rows[old] = None
    if new not in rows:
        return
    if seen_as.column_names != schema.column_names or (before is None and not is_complete(change.after)):
        raise _Unknown
    rows[new] = change.after if before is None else merge(before, change.after)
