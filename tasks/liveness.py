"""A worker's signs of life, from its main loop: see `worker_sync.core.alive`."""

from __future__ import annotations

import logging
from typing import Any, Final

from celery import bootsteps, signals
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown

from tasks.queues import BY_TASK
from worker_sync.core.alive import EVERY_S, Alive
from worker_sync.core.log import event

log = logging.getLogger(__name__)

#: Seconds of silence beyond a task's time limit that are no sign of death.
MARGIN_S: Final = 30.0
#: The longest pause between two attempts to reach the broker, in seconds: how late a worker may notice its return.
RECONNECT_S: Final = 5
#: For tasks that are not in the table of queues.
LIMIT_S: Final = 900

_here: list[Alive] = []


def say(*, ready: bool = True, silent_s: float = 0.0) -> None:
    """A sign of this worker, if it is one."""
    for alive in _here:
        alive.say(ready=ready, silent_s=silent_s)


def close() -> None:
    """This worker ends in order."""
    while _here:
        _here.pop().close()


class Signs(bootsteps.StartStopStep):
    """Says once a second that the main loop runs."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Hub")

    def start(self, parent: Any) -> None:
        _here[:] = [Alive("worker", str(parent.hostname).partition("@")[0])]
        say(ready=False)
        # Before the consumer starts: its timer entries end with its connection.
        parent.timer.call_repeatedly(EVERY_S, self._beat, (parent,))
        if parent.pool_cls.__module__.endswith("solo"):
            # The loop waits for the task.
            signals.task_prerun.connect(_before_task)
            signals.task_postrun.connect(_after_task)

    def _beat(self, parent: Any) -> None:
        consumer = getattr(parent, "consumer", None)
        say(ready=consumer is not None and consumer.connection is not None)

    def stop(self, parent: Any) -> None:
        """The worker has ended its work."""
        close()

    terminate = stop


def _before_task(task: Any = None, **_: Any) -> None:
    row = BY_TASK.get(getattr(task, "name", ""))
    say(silent_s=(row.time_limit_s if row else LIMIT_S) + MARGIN_S)


def _after_task(**_: Any) -> None:
    say()


class Consumer(CeleryConsumer):
    """Gives signs while it waits for the broker, where the loop doesn't run: a restart would not bring the broker."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long it takes."""

        def missed(error: Exception, interval_s: float) -> None:
            extra = event("broker_retry", retries=self.broker_connection_retry_attempt)
            log.error("the broker at %s: %s; again in %.0f s", conn.as_uri(), error, interval_s, extra=extra)
            self.broker_connection_retry_attempt += 1

        def waiting() -> None:
            say(ready=False)
            maybe_shutdown()

        connected = conn.ensure_connection(
            missed, interval_start=1, interval_step=1, interval_max=RECONNECT_S, callback=waiting
        )
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        return connected
