"""The capture's main loop: one stream, from its opening to its end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from connectors.base import Stream
from worker_sync.capture.absent import AbsentTargets
from worker_sync.capture.background import Background
from worker_sync.capture.catalogue import Catalogue
from worker_sync.capture.fetcher import Fetcher
from worker_sync.capture.figures import Figures, LaneFigures
from worker_sync.capture.housekeeping import Housekeeper
from worker_sync.capture.pipeline import Pipeline
from worker_sync.capture.publisher import Publisher
from worker_sync.capture.replay import Replayer
from worker_sync.capture.snapshot import Loader
from worker_sync.capture.spilling import Spills
from worker_sync.capture.versions import Definitions
from worker_sync.capture.watcher import Watcher
from worker_sync.capture.window import Retransmission, WindowLimits, usage
from worker_sync.core import markers
from worker_sync.core.change import Piece, Progress, TransactionInfo
from worker_sync.core.errors import Transient

#: Longest waits, in seconds, for the log: when all is quiet, while batches are pending, while a snapshot runs.
QUIET_S: Final = 0.2
PENDING_S: Final = 0.02
LOADING_S: Final = 0.002
#: Seconds between two offers of figures to the housekeeper.
OFFER_EVERY_S: Final = 0.1


class Ending(Enum):
    """Why a session ended without an error."""

    STOPPED = "stopped"
    #: What should run has changed: build it anew.
    CHANGED = "changed"


@dataclass(slots=True)
class Running:
    """A pipeline with what serves it."""

    pipeline: Pipeline
    watcher: Watcher
    loader: Loader
    fetcher: Fetcher
    retransmissions: list[Retransmission]
    replayer: Replayer | None = None
    #: What the source's catalog said when it was looked at last.
    reviewed: Definitions | None = None

    @property
    def is_reading(self) -> bool:
        """Rows are being read that are to join the stream."""
        return self.loader.active or (self.replayer is not None and self.replayer.active)

    def unseen(self) -> list[TransactionInfo]:
        """Transactions that were passed on and that no read is known to see."""
        found = {info.commit: info for info in self.loader.unseen()}
        if self.replayer is not None:
            found |= {info.commit: info for info in self.replayer.unseen()}
        return list(found.values())


class Session:
    """Reads the stream, keeps the window full but bounded, and confirms what every target has applied.

    All state belongs to this thread; the helpers hand over through queues, events and values replaced as a whole.
    """

    def __init__(
        self,
        stream: Stream,
        running: Sequence[Running],
        publisher: Publisher,
        housekeeper: Housekeeper,
        absent: AbsentTargets,
        catalogue: Catalogue,
        spills: Spills,
        limits: WindowLimits,
        batch_changes: int,
        confirmed: str,
        frozen: bool,
        draining: bool,
        changed: threading.Event,
        stop: threading.Event,
    ) -> None:
        self._stream = stream
        self._running = running
        self._lanes = [lane for entry in running for lane in entry.pipeline.lanes]
        self._publisher = publisher
        self._housekeeper = housekeeper
        self._absent = absent
        self._catalogue = catalogue
        self._spills = spills
        self._limits = limits
        self._read_limit = batch_changes
        self._confirmed = confirmed
        #: A pipeline of this source stands still: the log behind it must stay.
        self._frozen = frozen
        #: Shards of another number are to take over once everything that was read is applied.
        self._draining = draining
        #: The newest transaction that was read completely.
        self._read_to = confirmed
        self._taken_to = confirmed
        self._events: deque[Piece | Progress] = deque()
        self._changes = 0
        self._resent = 0
        self._changed = changed
        self._stop = stop
        self._full = False
        self._offered_at = 0.0

    def run(self) -> Ending:
        """Work until asked to stop or until what should run has changed. Raises what ends the session otherwise."""
        for helper in self._helpers():
            helper.start()
        try:
            while not self._stop.is_set():
                self._round(time.monotonic())
                if self._housekeeper.restart or self._catalogue.outdated or self._is_drained():
                    self._offered_at = 0.0
                    self._report(time.monotonic())
                    return Ending.CHANGED
            return Ending.STOPPED
        finally:
            for helper in self._helpers():
                helper.stop()
            self._spills.close()
            if self._housekeeper.leads:
                self._confirm_saved()

    def _helpers(self) -> list[Background]:
        helpers: list[Background] = [self._publisher, self._housekeeper, self._absent, self._catalogue]
        for entry in self._running:
            helpers += [entry.watcher, entry.fetcher]
            if entry.replayer is not None:
                helpers.append(entry.replayer.fetcher)
        return list(dict.fromkeys(helpers))

    def _round(self, now: float) -> None:
        for helper in self._helpers():
            helper.check()
        self._take_marks(now)
        self._make_room(now)
        self._read(self._wait_of(now))
        self._review()
        for entry in self._running:
            # A chunk behind spilled batches would be read long before it is applied.
            room = not self._full and not self._spills.active
            entry.loader.step(self._read_to, now, room=room)
            if entry.replayer is not None:
                entry.replayer.step(self._read_to, now, room=room)
        self._send_again(now)
        self._report(now)

    def _make_room(self, now: float) -> None:
        self._spills.step(now)
        self._full = self._is_full()
        if not self._frozen and not self._draining:
            movable = [entry for entry in self._running if not entry.loader.active and not entry.pipeline.blocked]
            self._spills.begin([lane for entry in movable for lane in entry.pipeline.lanes], now, full=self._full)
            self._full = self._is_full()

    def _is_full(self) -> bool:
        size, batches = usage(self._spills.direct(self._lanes))
        return size >= self._limits.size or batches >= self._limits.batches or self._spills.stuck

    # -- reading

    def _wait_of(self, now: float) -> float:
        """Cut what is due; how long reading may wait for more."""
        dues = [entry.pipeline.cut_due(now) for entry in self._running]
        wait = min((due for due in dues if due is not None), default=QUIET_S)
        if any(entry.is_reading for entry in self._running):
            return min(wait, LOADING_S)
        return min(wait, PENDING_S) if any(lane.pending for lane in self._lanes) else wait

    def _is_drained(self) -> bool:
        return self._read_enough() and not self._events and all(lane.is_drained for lane in self._lanes)

    def _read_enough(self) -> bool:
        """Time to stop reading and let the lanes run empty: what they have applied is read completely, and no
        snapshot is under way, whose progress the shards of another number would not know."""
        if not self._draining or self._read_to != self._taken_to or any(e.loader.active for e in self._running):
            return False
        return self._read_to >= max(lane.mark.position.commit for lane in self._lanes)

    def _read(self, wait: float) -> None:
        if self._full or self._held_up() or self._read_enough() or any(e.loader.crowded for e in self._running):
            self._stream.tick()
            self._changed.wait(PENDING_S)
            self._changed.clear()
            self._proceed()
        elif not self._events:
            self._events.extend(self._stream.read(wait, self._read_limit))
        now = time.monotonic()
        while self._events and not self._held_up():
            self._take(self._events.popleft(), now)

    def _proceed(self) -> None:
        for entry in self._running:
            entry.pipeline.proceed()
        if not self._held_up():
            self._read_to = self._taken_to

    def _held_up(self) -> bool:
        return any(entry.pipeline.blocked for entry in self._running)

    def _take(self, event: Piece | Progress, now: float) -> None:
        if isinstance(event, Progress):
            self._read_to = self._taken_to = event.commit
            return
        marker = any(message.prefix in markers.CARRIED for message in event.messages)
        for entry in self._running:
            if entry.replayer is not None and entry.replayer.active:
                entry.replayer.observe(event)
            piece = entry.loader.observe(event, self._read_to) if entry.loader.active else event
            entry.pipeline.take(piece, now, marker=marker)
        self._changes += len(event.changes)
        if event.last:
            # While a barrier holds part of the transaction up it is taken, but not read completely.
            self._taken_to = event.info.commit
            if not self._held_up():
                self._read_to = self._taken_to

    def _review(self) -> None:
        """Follow what the source's catalog says, once all that is older has been read."""
        found = self._catalogue.found
        if found is None or self._read_to < found.horizon or self._held_up():
            return
        for entry in self._running:
            if entry.reviewed is not found and entry.pipeline.at_boundary:
                entry.reviewed = found
                entry.pipeline.review(found)

    # -- what is applied

    def _take_marks(self, now: float) -> None:
        for entry in self._running:
            marks = entry.watcher.marks
            for lane, retransmission in zip(entry.pipeline.lanes, entry.retransmissions, strict=True):
                mark = marks.get((lane.id.pipeline, lane.id.shard))
                if mark is not None and mark.position < lane.mark.position:
                    raise Transient(f"the target of {lane.id} went back from {lane.mark.position} to {mark.position}")
                if mark is not None and lane.advance(mark):
                    retransmission.moved(now)
            entry.watcher.expect(pending=any(lane.pending for lane in entry.pipeline.lanes))

    def _send_again(self, now: float) -> None:
        for entry in self._running:
            for retransmission in entry.retransmissions:
                for cut in retransmission.due(now):
                    self._publisher.put(cut)
                    self._resent += 1

    def _report(self, now: float) -> None:
        """Offer for saving what may be confirmed, and confirm what has been saved."""
        if now - self._offered_at < OFFER_EVERY_S:
            return
        self._offered_at = now
        size, batches = usage(self._lanes)
        self._housekeeper.offer(
            Figures(
                safe=self._confirmed if self._frozen else self._safe_commit(),
                read=self._read_to,
                window_bytes=size,
                window_batches=batches,
                full=self._full,
                changes=self._changes,
                resent=self._resent,
                lanes=[LaneFigures.of(lane) for lane in self._lanes],
                loads=[(entry.pipeline.name, load) for entry in self._running for load in entry.loader.loads],
                unseen=[info for entry in self._running for info in entry.unseen()],
                replays={signal for entry in self._running if entry.replayer for signal in entry.replayer.open()},
                spilled=self._spills.spilled(),
                spill=self._spills.as_json(),
            )
        )
        self._confirm_saved()

    def _safe_commit(self) -> str:
        """Up to where no lane and no snapshot needs the log any more."""
        read = self._read_to
        lanes = [lane.safe_commit(read) for lane in self._lanes]
        return min(lanes + [entry.loader.safe_commit(read) for entry in self._running])

    def _confirm_saved(self) -> None:
        saved = self._housekeeper.saved
        if saved > self._confirmed:
            self._stream.confirm(saved)
            self._confirmed = saved
