"""The demo's process tree: the supervisor of `up`, in a thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from typing import Final

from worker_sync.composition.tree import specs
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.settings import Settings
from worker_sync.supervisor import Supervisor

#: Lines of the log that an error quotes.
TAIL: Final = 5


class ProcessesEnded(WorkerSyncError):
    """Nothing useful runs any more"""


class Processes:
    """Runs the processes of a configuration; what they say goes to a file."""

    def __init__(self, settings: Settings, config: Path, log: Path) -> None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._log = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)
        self._path = log
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._supervisor = Supervisor(specs(settings, config), self._write)
        self._thread = threading.Thread(target=self._supervisor.run, name="supervisor")
        self._thread.start()

    def _write(self, name: str, line: str) -> None:
        text = f"{name:<18} | {line}"
        self._tail.append(text)
        self._log.write(text + "\n")

    def check(self) -> None:
        """Raises ProcessesEnded when they have."""
        if not self._thread.is_alive():
            raise ProcessesEnded("the last lines of {}:\n  {}".format(self._path, "\n  ".join(self._tail)))

    def wait(self) -> None:
        """Until they end by themselves."""
        self._thread.join()

    def stop(self) -> None:
        """Stop them in order."""
        self._supervisor.stop()
        self._thread.join()
        self._log.close()
