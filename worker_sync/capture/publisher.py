"""Hands cut batches to the broker, in order, from a thread of its own: a broker that hangs must not stop keepalives."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from typing import Final

from worker_sync.capture.background import Background
from worker_sync.capture.lane import Cut
from worker_sync.core import spans
from worker_sync.core.errors import Transient
from worker_sync.core.log import about, event
from worker_sync.core.spans import Kind, Span, Value

log = logging.getLogger(__name__)

#: Seconds between attempts while the broker can't be reached, doubling from the first to the last.
FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 5.0


class Publisher(Background):
    """Publishes each batch once it is accepted; while the broker is away the batch waits and so do those behind it.

    The queue needs no bound of its own: all it holds is in the window.
    """

    def __init__(self, publish: Callable[[Cut], None]) -> None:
        super().__init__("publisher")
        self._publish = publish
        self._queue: queue.SimpleQueue[Cut | None] = queue.SimpleQueue()

    def put(self, cut: Cut) -> None:
        self._queue.put(cut)

    def wake(self) -> None:
        self._queue.put(None)

    def work(self) -> None:
        while not self.stopping.is_set():
            cut = self._queue.get()
            if cut is not None:
                self._traced(cut)

    def _traced(self, cut: Cut) -> None:
        """One span for as long as the broker takes. What is sent again belongs to the trace of the first time."""
        lane = cut.lane
        reach = {"after": str(cut.after), "upto": str(cut.upto)}
        subject: dict[str, Value] = {"pipeline": lane.pipeline, "shard": lane.shard, **reach}
        with spans.span("publish", Kind.PRODUCER, parent=cut.trace) as span, about(**subject):
            if span.recording:
                _describe(span, cut)
                span.set(**subject)
            cut.trace = cut.trace or spans.traceparent()
            self._deliver(cut)

    def _deliver(self, cut: Cut) -> None:
        pause = FIRST_PAUSE_S
        while not self.stopping.is_set():
            try:
                self._publish(cut)
                return
            except Transient as error:
                log.warning("the broker does not take %s yet: %s", cut.lane, error, extra=event("publish_retry"))
                self.stopping.wait(pause)
                pause = min(pause * 2, LAST_PAUSE_S)


def _describe(span: Span, cut: Cut) -> None:
    span.set(source=cut.lane.source, changes=cut.changes, bytes=len(cut.data), resent=bool(cut.trace))
    if cut.oldest is not None:
        span.set(commit_age_ms=round(time.time() * 1000 - cut.oldest / 1000, 3))
