"""Says to the control store how a worker process is: what it works on, and how it stands with what it uses."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from tasks.breakers import Breakers
from tasks.outcomes import outcomes
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.log import event
from worker_sync.core.usage import usage
from worker_sync.store import ControlStore

log = logging.getLogger(__name__)

#: The kind of these reports.
WORKER: Final = "worker"
#: The queues that this worker takes messages from; empty in a process that is no worker.
QUEUES: Final[list[str]] = []
#: Seconds between two looks, and between two reports of what stays the same.
LOOK_S: Final = 1.0
AT_LEAST_S: Final = 5.0
#: Seconds that the end of a process waits for the last report.
STOP_S: Final = 2.0


class Reporter:
    """Reports from a thread of its own, so that a control store that hangs holds up no task."""

    def __init__(self, breakers: Breakers, control: Callable[[], ControlStore]) -> None:
        self._breakers = breakers
        self._control = control
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._process = f"worker:{socket.gethostname()}:{os.getpid()}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the reports; the last one is removed, if the store answers in time."""
        self._stopping.set()
        self._thread.join(STOP_S)

    def _run(self) -> None:
        said: dict[str, Any] | None = None
        said_at = 0.0
        while True:
            found = self._breakers.report()
            if found != said or time.monotonic() - said_at >= AT_LEAST_S:
                said, said_at = (found if self._say(found) else None), time.monotonic()
            if self._stopping.wait(LOOK_S):
                break
        self._try(lambda store: store.reports.remove(self._process))

    def _say(self, breakers: dict[str, Any]) -> bool:
        tasks = outcomes.report()
        status = {"breakers": breakers, "queues": QUEUES, "tasks": tasks, "usage": usage()}
        return self._try(lambda store: store.reports.put(self._process, WORKER, socket.gethostname(), status))

    def _try(self, use: Callable[[ControlStore], None]) -> bool:
        try:
            use(self._control())
        except WorkerSyncError as error:
            log.debug("no report: %s", error, extra=event("control_retry"))
            return False
        return True
