"""Celery's scheduler, which remembers in a file what ran last, with an ending that breaks nothing off."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Final

from celery import signals
from celery.beat import PersistentScheduler

from worker_sync.core.alive import Alive

NAME: Final = f"{__name__}:Scheduler"


class Scheduler(PersistentScheduler):
    """Makes the folder of its file: beat may be the first process of a system.

    Celery's own SIGTERM handler closes the broker connection under a publish that it interrupts, which then fails with
    whatever the half-closed socket raises. Here a publish that has begun ends first: it takes seconds at most.
    """

    #: Signs of life, if this process gives any.
    alive: Alive | None = None
    _publishing = False
    _asked_to_end = False

    def setup_schedule(self) -> None:
        Path(self.app.conf.beat_schedule_filename).parent.mkdir(parents=True, exist_ok=True)
        super().setup_schedule()

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        if self.alive is not None:
            self.alive.say()
        return super().tick(*args, **kwargs)

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        self._publishing = True
        try:
            return super().apply_async(*args, **kwargs)
        finally:
            self._publishing = False
            if self._asked_to_end:
                raise SystemExit

    def end(self, *_: object) -> None:
        """The handler of SIGTERM and SIGINT."""
        self._asked_to_end = True
        if not self._publishing:
            raise SystemExit


@signals.beat_init.connect
def _end_in_peace(sender: Any, **_: Any) -> None:
    """Celery sends this once its own handlers are in place."""
    scheduler = sender.scheduler
    if isinstance(scheduler, Scheduler):
        scheduler.alive = Alive("beat")
        signal.signal(signal.SIGTERM, scheduler.end)
        signal.signal(signal.SIGINT, scheduler.end)
