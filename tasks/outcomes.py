"""How the tasks of this process ended, counted for the metrics."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

#: Nothing was wrong.
SUCCEEDED: Final = "succeeded"
#: A try failed and another one follows.
RETRIED: Final = "retried"
#: Nothing was tried yet: the batch is early, or its target is left alone.
DEFERRED: Final = "deferred"
#: The last try failed: the task is parked, given up, or halts its pipeline.
FAILED: Final = "failed"


class Outcomes:
    """Used by all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def count(self, task: str, pipeline: str | None, outcome: str) -> None:
        """One more end of a try of `task`; `pipeline` None for a task that is about none."""
        with self._lock:
            self._counts[task, pipeline or "", outcome] += 1

    def report(self) -> list[tuple[str, str, str, int]]:
        """Task, pipeline, outcome, and how often."""
        with self._lock:
            return [(*key, count) for key, count in sorted(self._counts.items())]


#: Since this process began. It needs neither settings nor connections, so that counting fails no task. A prefork child
#: begins at nothing, because its parent runs no task.
outcomes: Final = Outcomes()
