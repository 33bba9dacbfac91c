"""Celery's scheduler, which remembers in a file what ran last."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from celery.beat import PersistentScheduler

NAME: Final = f"{__name__}:Scheduler"


class Scheduler(PersistentScheduler):
    """Makes the folder of its file: beat may be the first process of a system."""

    def setup_schedule(self) -> None:
        Path(self.app.conf.beat_schedule_filename).parent.mkdir(parents=True, exist_ok=True)
        super().setup_schedule()
