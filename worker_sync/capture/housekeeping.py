"""Everything a capture tells to and asks of the control store, from a thread of its own.

The store may be slow or away for a moment; the stream must not notice. What it must notice is a lost lease: another
capture may be running then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from worker_sync.capture.background import Background
from worker_sync.capture.figures import Figures
from worker_sync.core.errors import Fenced, Transient
from worker_sync.store import ControlStore
from worker_sync.store.checkpoints import Checkpoint
from worker_sync.store.leases import Lease

log = logging.getLogger(__name__)

#: A lease is renewed at least this many times while it lasts.
RENEWALS: Final = 3
#: Seconds between two questions to the source about the log that it keeps for us.
DESCRIBE_S: Final = 5.0


class Housekeeper(Background):
    """Renews the lease, saves checkpoints before they are confirmed, reports, and looks for work.

    `saved` is the newest commit position that the store holds as confirmed; only it may be confirmed to the source:
    a server that knows more than the store did would look like a server that lost log.
    """

    def __init__(
        self,
        store: ControlStore,
        lease: Lease,
        source: str,
        checkpoint: Checkpoint,
        signals: Iterable[int],
        built_for: object,
        wanted: Callable[[], object],
        describe: Callable[[str], Mapping[str, Any]],
        every_s: float,
    ) -> None:
        super().__init__("housekeeper")
        self._store = store
        self._lease = lease
        self._source = source
        self._checkpoint = checkpoint
        self._signals = set(signals)
        self._wanted = wanted
        self._describe = describe
        self._described: Mapping[str, Any] = {}
        self._describe_at = 0.0
        self._every_s = min(every_s, lease.ttl_s / RENEWALS)
        self._process = f"capture:{source}"
        self._built_for = built_for
        self._figures: Figures | None = None
        self.saved = checkpoint.confirmed
        #: What should run is not what runs.
        self.restart = False

    def offer(self, figures: Figures) -> None:
        """The newest figures; `figures.safe` may be confirmed once it is saved."""
        self._figures = figures

    def work(self) -> None:
        renewed = time.monotonic()
        while not self.stopping.wait(self._every_s):
            try:
                self._renew()
                renewed = time.monotonic()
                self._round()
            except Transient as error:
                log.warning("the control store does not answer: %s", error, extra={"action": "control_retry"})
                if time.monotonic() - renewed > self._lease.ttl_s:
                    raise Fenced(f"the lease {self._lease.name} could not be renewed") from error
        self._finish()

    def _renew(self) -> None:
        if not self._store.leases.renew(self._lease):
            raise Fenced(f"the lease {self._lease.name} was taken over")

    def _round(self) -> None:
        figures = self._figures
        if figures is not None:
            self._save(figures)
            for signal in self._signals - figures.open_signals():
                self._store.signals.finish(signal, "done")
                self._signals.discard(signal)
            self._store.reports.put(
                self._process, "capture", self._source, {**figures.as_json(), **self._description()}
            )
        self.restart = self._wanted() != self._built_for

    def _description(self) -> Mapping[str, Any]:
        """What the source says of its stream; it is asked less often than figures are reported."""
        now = time.monotonic()
        if now >= self._describe_at:
            self._described, self._describe_at = self._describe(self.saved), now + DESCRIBE_S
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
