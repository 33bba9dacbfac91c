"""One line of the schedule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """Runs `task` every `every_s` seconds, or by `crontab` (five fields, in `timezone`); exactly one of them is given.

    A run that no worker has begun `expires_s` seconds after it was sent is dropped: the next one does its work. Without
    a `timezone` the configuration's counts.
    """

    task: str
    every_s: float | None = None
    crontab: str | None = None
    expires_s: float = 60.0
    timezone: str = ""

    def __post_init__(self) -> None:
        if (self.every_s is None) == (self.crontab is None):
            raise ValueError(f"{self.task}: give either every_s or crontab")
