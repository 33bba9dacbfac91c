"""The end of a worker: what it has not finished when the grace is over goes back to its queue.

SIGTERM stops a worker from taking messages and lets its tasks end. Celery waits for them as long as they take; here a
watcher ends that once `worker-sync worker --grace` is over. It gives back what is not acknowledged and ends the
process: that works on every pool, also where the main thread itself is inside the task (solo) or waits for threads
that nobody can end (threads). A target takes back what an unfinished apply wrote when its connection is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Final

from celery import bootsteps, signals
from celery.worker import state

from tasks import liveness
from worker_sync.core import spans
from worker_sync.core.log import event

log = logging.getLogger(__name__)

#: Seconds from SIGTERM to the handing back.
GRACE_S: Final = 10.0
#: Seconds that a broker which doesn't answer may hold up the end.
BROKER_S: Final = 3.0

#: Seconds for what `at_the_end` names.
CLOSING_S: Final = 15.0

_grace: list[float] = [GRACE_S]
_closing: list[Callable[[], None]] = []


def set_grace(seconds: float) -> None:
    """How long tasks have to end after SIGTERM."""
    _grace[:] = [seconds]


def at_the_end(close: Callable[[], None]) -> None:
    """What the process has to close before it ends, also when its main thread can't: it may be the last user of
    embedded servers."""
    _closing[:] = [close]


class HandBack(bootsteps.StartStopStep):
    """Watches over the end of a worker."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        self._parent = parent
        self._ended = threading.Event()
        signals.worker_shutting_down.connect(self._shutting_down, weak=False)
        # Sent last of all, when everything is closed: from here on nothing can hang.
        signals.worker_shutdown.connect(self._all_closed, weak=False)

    def _shutting_down(self, **_: Any) -> None:
        threading.Thread(target=self._watch, name="hand-back", daemon=True).start()

    def _all_closed(self, **_: Any) -> None:
        self._ended.set()

    def _watch(self) -> None:
        if self._ended.wait(_grace[0]):
            return
        unfinished = [request for request in tuple(state.reserved_requests) if not request.acknowledged]
        fields = event("handed-back", tasks=[request.name for request in unfinished])
        log.warning("%d unfinished tasks go back to their queues", len(unfinished), extra=fields)
        self._end_processes()
        _bounded(BROKER_S, self._settle, unfinished)
        for close in _closing:
            _bounded(CLOSING_S, close)
        spans.end()
        liveness.close()
        os._exit(0)

    def _settle(self, unfinished: list[Any]) -> None:
        # What ended since the loop did is acknowledged by callbacks that nobody runs any more.
        hub = getattr(self._parent, "hub", None)
        for acknowledge in hub._pop_ready() if hub is not None else ():
            _logging_errors("a task that is done", acknowledge)
        for request in unfinished:
            # Not by the request, which leaves it to that loop too.
            if not request.message.acknowledged:
                _logging_errors(request.name, request.message.requeue)
        # The rest are tasks that a pool has let go without a word. RabbitMQ takes them back with the connection,
        # Redis would keep them until the visibility timeout.
        consumer = getattr(getattr(self._parent, "consumer", None), "task_consumer", None)
        kept = getattr(getattr(consumer, "channel", None), "qos", None)
        if kept is not None:
            _logging_errors("what a pool has let go", kept.restore_unacked)

    def _end_processes(self) -> None:
        """The children of a prefork pool: none may go on with what another worker begins anew."""
        pool = getattr(getattr(self._parent, "pool", None), "_pool", None)
        for process in list(getattr(pool, "_pool", None) or []):
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(process.pid, signal.SIGKILL)


def _bounded(seconds: float, work: Callable[..., None], *arguments: Any) -> None:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    thread.join(seconds)


def _logging_errors(what: str, tell: Callable[[], object]) -> None:
    try:
        tell()
    except Exception as error:  # noqa: BLE001 - the broker gives back what it doesn't hear of
        log.warning("the broker is not told about %s: %s", what, error, extra=event("hand-back-failed"))
