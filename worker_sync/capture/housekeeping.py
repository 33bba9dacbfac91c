"""Everything a capture tells to and asks of the control store, from a thread of its own.

The store may be slow or away for a moment; the stream must not notice. What it must notice is a lease that ran out, by
`check`: another capture may be running then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from connectors.base import Mark
from worker_sync.capture.background import Background
from worker_sync.capture.figures import Figures
from worker_sync.capture.reconcile import settled
from worker_sync.core.errors import Transient
from worker_sync.core.log import event
from worker_sync.core.parking import Parked, key_text
from worker_sync.core.usage import usage
from worker_sync.store import ControlStore
from worker_sync.store.checkpoints import Checkpoint
from worker_sync.store.dead_letters import LetterStatus, Place
from worker_sync.store.held import HeldLease
from worker_sync.store.signals import Signal, SignalKind

log = logging.getLogger(__name__)

#: Seconds between two looks at letters while no key was let go.
RECONCILE_S: Final = 30.0
#: Seconds between two questions to the source about the log that it keeps for us.
DESCRIBE_S: Final = 5.0


class Housekeeper(Background):
    """Saves checkpoints before they are confirmed, reports, and looks for work.

    `saved` is the newest commit position that the store holds as confirmed; only it may be confirmed to the source:
    a server that knows more than the store did would look like a server that lost log.
    """

    def __init__(
        self,
        store: ControlStore,
        lease: HeldLease,
        source: str,
        checkpoint: Checkpoint,
        signals: Iterable[Signal],
        built_for: object,
        wanted: Callable[[], object],
        describe: Callable[[str], Mapping[str, Any]],
        every_s: float,
        state_dir: Path,
    ) -> None:
        super().__init__("housekeeper")
        self._store = store
        self._lease = lease
        self._source = source
        self._checkpoint = checkpoint
        self._signals = {signal.id: signal for signal in signals}
        self._parked: dict[str, Parked] = {}
        self._reconcile_at = 0.0
        self._wanted = wanted
        self._describe = describe
        self._described: Mapping[str, Any] = {}
        self._describe_at = 0.0
        self._every_s = every_s
        self._state_dir = state_dir
        self._process = f"capture:{source}"
        self._built_for = built_for
        self._figures: Figures | None = None
        self.saved = checkpoint.confirmed
        #: What should run is not what runs.
        self.restart = False

    def offer(self, figures: Figures) -> None:
        """The newest figures; `figures.safe` may be confirmed once it is saved."""
        self._figures = figures

    @property
    def leads(self) -> bool:
        """Nobody else can hold the lease."""
        return self._lease.left_s > 0

    def check(self) -> None:
        # Asked of the clock, not of the store: a store that hangs must not keep a capture going that may be replaced.
        self._lease.check()
        super().check()

    def work(self) -> None:
        while not self.stopping.wait(self._every_s):
            try:
                self._round()
            except Transient as error:
                log.warning("the control store does not answer: %s", error, extra={"action": "control_retry"})
        self._finish()

    def _round(self) -> None:
        figures = self._figures
        if figures is not None:
            self._save(figures)
            self._reconcile(figures.marks())
            for number in self._signals.keys() - figures.open_signals():
                self._store.signals.finish(number, _result(self._signals[number], figures.marks()))
                del self._signals[number]
            self._store.reports.put(
                self._process, "capture", self._source, {**figures.as_json(), **self._description()}
            )
        self.restart = self._wanted() != self._built_for

    def _reconcile(self, marks: Mapping[str, Mapping[int, Mark]]) -> None:
        """Resolve the letters of keys that are not held any more: at once after keys were let go, else now and then."""
        now = time.monotonic()
        due = now >= self._reconcile_at
        for pipeline, shards in marks.items():
            parked = frozenset(key for mark in shards.values() for key in mark.parked)
            before = self._parked.get(pipeline)
            if due or before is None or not before <= parked:
                free = list(settled(shards, self._store.dead_letters.places(pipeline)))
                self._resolve(pipeline, free)
            self._parked[pipeline] = parked
        if due:
            self._reconcile_at = now + RECONCILE_S

    def _resolve(self, pipeline: str, free: Sequence[Place]) -> None:
        released = [signal for signal in self._signals.values() if signal.kind is SignalKind.RELEASE]
        for status in (LetterStatus.DISCARDED, LetterStatus.REPLAYED):
            is_release = status is LetterStatus.DISCARDED
            numbers = [p.id for p in free if any(_is_about(s, pipeline, p) for s in released) is is_release]
            note = "its key was released" if is_release else "its key is not held any more"
            done = self._store.dead_letters.resolve(numbers, status, self._process, note) if numbers else []
            if done:
                text, extra = "%s: %d parked changes are %s", event("unparked", pipeline=pipeline, letters=len(done))
                log.info(text, pipeline, len(done), status, extra=extra)

    def _description(self) -> Mapping[str, Any]:
        """What the source says of its stream; it is asked less often than figures are reported."""
        now = time.monotonic()
        if now >= self._describe_at:
            self._described = {**self._describe(self.saved), "usage": usage(self._state_dir)}
            self._describe_at = now + DESCRIBE_S
        return self._described

    def _save(self, figures: Figures) -> None:
        if figures.safe <= self.saved and not figures.unseen and not self._checkpoint.unseen:
            return
        self._checkpoint = replace(
            self._checkpoint,
            confirmed=max(figures.safe, self.saved),
            # Shards that don't run now keep their entry: it still says what must not be lost.
            lanes={
                **self._checkpoint.lanes,
                **{f"{lane.pipeline}/{lane.shard}": str(lane.mark.position) for lane in figures.lanes},
            },
            # In one row with what is confirmed: without these batches it would not be.
            spilled={**self._checkpoint.spilled, **figures.spilled},
            unseen=[(info.commit, info.committed_at, info.xid) for info in figures.unseen],
            token=self._lease.token,
        )
        self._store.checkpoints.save(self._checkpoint)
        self.saved = self._checkpoint.confirmed

    def _finish(self) -> None:
        """Save what the last moments brought; failing here loses nothing, it is read again."""
        try:
            if self._figures is not None:
                self._save(self._figures)
        except Transient as error:
            log.info("the last checkpoint was not saved: %s", error, extra={"action": "checkpoint_skipped"})


def _is_about(signal: Signal, pipeline: str, place: Place) -> bool:
    """Whether a request names the key of a letter."""
    if signal.pipeline != pipeline or signal.table not in (None, place.table):
        return False
    return signal.keys is None or place.key in signal.keys


def _result(signal: Signal, marks: Mapping[str, Mapping[int, Mark]]) -> str:
    """What became of a request."""
    if signal.kind is not SignalKind.REPLAY or not signal.keys:
        return "done"
    held = {
        key_text(key) for mark in marks.get(signal.pipeline, {}).values() for t, key in mark.parked if t == signal.table
    }
    again = len(held.intersection(signal.keys))
    return f"{again} of {len(signal.keys)} keys are still parked" if again else "done"
