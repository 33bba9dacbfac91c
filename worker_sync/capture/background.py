"""Threads that work beside the capture's main loop."""

from __future__ import annotations

import contextvars
import threading
from abc import ABC, abstractmethod
from typing import Final

#: Seconds that `stop` waits for a thread which is inside a call to another system.
STOP_WAIT_S: Final = 10.0


class Background(ABC):
    """Work in a thread whose failure is raised in the main loop instead of being lost.

    The thread is a daemon, so that one which hangs in a driver call can't keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        # What the log says of the thread that makes it, it says of this one, too.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True)
        self._failure: Exception | None = None
        self.stopping = threading.Event()

    @abstractmethod
    def work(self) -> None:
        """Do the work until `stopping` is set."""

    def wake(self) -> None:  # noqa: B027 - most have nothing to wake
        """End a wait of `work` early."""

    def _run(self) -> None:
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 - raised again by `check`
            self._failure = error

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the work, if anything did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ask the work to end and wait for it."""
        self.stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)
