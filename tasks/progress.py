"""Workers report how far they are in each queue of RabbitMQ, which tells nobody how old its messages are."""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any, Final

from celery.signals import task_received, worker_ready, worker_shutting_down

from tasks.application import PUBLISHED_AT, uses_rabbitmq
from tasks.rabbitmq import queue_of
from tasks.resources import resources
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.log import event

log = logging.getLogger(__name__)

#: The kind of these reports.
KIND: Final = "queues"
#: Seconds between two reports.
EVERY_S: Final = 2.0


class Progress:
    """Reports from a thread of its own: a control store that hangs must not hold up the worker."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="progress", daemon=True).start()

    def stop(self) -> None:
        """The last report stays: what it says remains true."""
        self._stopping.set()

    def begin(self, queue: str, published_at: float) -> None:
        """A message was taken. Retries keep the time of their first try, so the newest counts."""
        self._begun[queue] = max(published_at, self._begun.get(queue, 0.0))

    def _run(self) -> None:
        said: dict[str, float] = {}
        while not self._stopping.wait(EVERY_S):
            found = dict(self._begun)
            if found != said and self._say(found):
                said = found

    def _say(self, found: dict[str, float]) -> bool:
        process = f"queues:{socket.gethostname()}:{os.getpid()}"
        try:
            resources().control().reports.put(process, KIND, socket.gethostname(), {"begun": found})
        except WorkerSyncError as error:
            log.debug("the progress is not reported: %s", error, extra=event("not-reported"))
            return False
        return True


progress: Final = Progress()


@worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    if uses_rabbitmq(sender.app):
        progress.start()


@worker_shutting_down.connect
def _end(**_: Any) -> None:
    progress.stop()


@task_received.connect
def _taken(request: Any, **_: Any) -> None:
    info = request.delivery_info or {}
    queue, published_at = queue_of(info.get("routing_key")), request.request_dict.get(PUBLISHED_AT)
    if queue is not None and isinstance(published_at, int | float):
        progress.begin(queue, float(published_at))
