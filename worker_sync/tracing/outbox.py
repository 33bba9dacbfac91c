"""Finished spans on their way to the collector: a bounded queue and a thread that empties it.

Whoever ends a span never waits: what finds the queue full, or the collector away, is dropped and counted.
OpenTelemetry's own processor counts neither, and after a fork goes on with its parent's connection.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from worker_sync.core.log import event

log = logging.getLogger(__name__)

#: Spans in one request, and seconds for which fewer than that wait for more.
BATCH: Final = 512
LINGER_S: Final = 1.0
#: Seconds that the end of a process waits for the last spans.
END_S: Final = 2.0


class Outbox(SpanProcessor):
    """Holds up to `limit` spans. `connect` opens the way to the collector, which errors call `place`; every process of
    a pool opens its own, with its first span."""

    def __init__(self, connect: Callable[[], SpanExporter], place: str, limit: int) -> None:
        self._connect = connect
        self._place = place
        self._limit = limit
        self._renew()
        this = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: outbox._renew() if (outbox := this()) else None)

    def _renew(self) -> None:
        """Begin with nothing: what a parent holds, it sends itself."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._waiting: deque[ReadableSpan] = deque()
        self._thread: threading.Thread | None = None
        self._exporter: SpanExporter | None = None
        self._sent = self._dropped = 0
        self._is_away = False

    # -- in the threads that trace

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        if not span.context.trace_flags.sampled:
            return
        with self._lock:
            if len(self._waiting) >= self._limit or self._ending.is_set():
                self._dropped += 1
                return
            self._waiting.append(span)
            if len(self._waiting) >= BATCH:
                self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
                self._thread.start()

    def counts(self) -> Mapping[str, int]:
        with self._lock:
            return {"sent": self._sent, "dropped": self._dropped}

    def shutdown(self) -> None:
        """Send what waits if that takes no longer than `END_S`; the thread is a daemon and holds up nothing."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(END_S)
        if self._exporter is not None:
            # It ends a pause between the exporter's own attempts, too.
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing of ours asks for it."""
        return True

    # -- in the thread that sends

    def _work(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(LINGER_S)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while batch := self._taken():
            sent = self._send(batch)
            with self._lock:
                self._sent += len(batch) if sent else 0
                self._dropped += 0 if sent else len(batch)
            self._say(is_away=not sent)

    def _taken(self) -> Sequence[ReadableSpan]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _send(self, batch: Sequence[ReadableSpan]) -> bool:
        try:
            if self._exporter is None:
                self._exporter = self._connect()
            return self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - spans may be lost, the thread that sends them may not
            log.debug("spans were not sent: %s", type(error).__name__, extra=event("tracing-away"))
            return False

    def _say(self, *, is_away: bool) -> None:
        if is_away == self._is_away:
            return
        self._is_away = is_away
        if is_away:
            log.warning("%s takes no spans; they are dropped until it does", self._place, extra=event("tracing-away"))
        else:
            log.info("%s takes spans again", self._place, extra=event("tracing-back"))
