"""Celery's beat with its memory in the control store: any number of them run, one fires.

Celery's own scheduler remembers in a file, which two processes can't share and a new machine doesn't have.
"""

from __future__ import annotations

import signal
from typing import Any

from celery import signals
from celery.apps.beat import Beat as CeleryBeat
from celery.beat import Scheduler as CeleryScheduler

from beat_schedule import Entry, schedule
from tasks.configuration import control_url, settings
from tasks.firing import Firing
from tasks.queues import BY_TASK
from tasks.scheduled import send
from worker_sync.core.alive import Alive
from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import Settings
from worker_sync.core.usage import usage
from worker_sync.store import ControlStore


def entries(of: Settings) -> dict[str, Entry]:
    """The schedule of a configuration. Raises ConfigError for an entry that can't run."""
    found = schedule(of)
    for name, entry in found.items():
        if entry.task not in BY_TASK:
            raise ConfigError(f"schedule entry {name!r}: no task {entry.task!r} in tasks/queues.py")
    return found


class Scheduler(CeleryScheduler):
    """Celery's SIGTERM handler closes the broker connection under a publish that it interrupts, which then fails with
    whatever the half-closed socket raises. Here what has begun ends first: it takes seconds at most.
    """

    #: Signs of life, if this process gives any.
    alive: Alive | None = None
    _busy = False
    _asked_to_end = False

    def setup_schedule(self) -> None:
        self.firing = self._firing()

    def _firing(self) -> Firing:
        return Firing(
            entries(settings()),
            ControlStore(control_url(settings())),
            lambda claim, entry: send(self.app, claim, entry),
            ending=lambda: self._asked_to_end,
            describe_process=lambda: {"usage": usage()},
        )

    def tick(self, *_: Any, **__: Any) -> float:
        """Do what is due; returns the seconds until the next time."""
        if self.alive is not None:
            self.alive.say()
        self._busy = True
        try:
            return self.firing.step()
        finally:
            self._busy = False
            if self._asked_to_end:
                raise SystemExit

    def should_sync(self) -> bool:
        return False

    def close(self) -> None:
        self._busy = True
        self.firing.close()

    def end(self, *_: object) -> None:
        """The handler of SIGTERM and SIGINT."""
        self._asked_to_end = True
        if not self._busy:
            raise SystemExit


class Beat(CeleryBeat):
    """Ends when it is asked to before there is a scheduler, too; Celery's handler would then make one to close it."""

    def install_sync_handler(self, service: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)


def _leave(*_: object) -> None:
    raise SystemExit


@signals.beat_init.connect
def _end_in_peace(sender: Any, **_: Any) -> None:
    """Celery sends this once its own handlers are in place."""
    scheduler = sender.scheduler
    if isinstance(scheduler, Scheduler):
        scheduler.alive = Alive("beat")
        signal.signal(signal.SIGTERM, scheduler.end)
        signal.signal(signal.SIGINT, scheduler.end)
