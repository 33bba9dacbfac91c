"""Run the program until it passes a failpoint, and end it there as a crash would.

``python -m tests.faults.failpoint NAME MARK ARGUMENTS...``: MARK is a file that is written just before.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.failpoints import FAILPOINTS, Failpoint, located


class Trap:
    """Counts calls over all threads; at the last one it writes `mark` and ends the process, or sends it `blow`."""

    def __init__(self, point: Failpoint, mark: Path, blow: signal.Signals = signal.SIGKILL) -> None:
        self._point = point
        self._mark = mark
        self._blow = blow
        self._calls = 0
        self._lock = threading.Lock()

    def wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._point.moment == "before" and self._is_last(args, kwargs):
                self._strike(args)
            result = original(*args, **kwargs)
            if self._point.moment == "after" and self._is_last(args, kwargs):
                self._strike(args)
            return result

        return call

    def _is_last(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        if self._point.given and self._point.given not in (*args, *kwargs.values()):
            return False
        with self._lock:
            self._calls += 1
            return self._calls == self._point.call

    def _strike(self, args: Sequence[Any]) -> None:
        queued = getattr(args[0], "_pipeline", None) if args else None
        if isinstance(queued, psycopg.Pipeline):
            queued.sync()  # what psycopg has only queued has not happened yet
        self._mark.write_text(self._point.name)
        os.kill(os.getpid(), self._blow)


def set_trap(point: Failpoint, mark: Path, blow: signal.Signals = signal.SIGKILL) -> None:
    """Wrap the failpoint's place in this process."""
    holder, attribute, original = located(point.place)
    setattr(holder, attribute, Trap(point, mark, blow).wrapped(original))


def main(arguments: list[str]) -> int:
    name, mark, *rest = arguments
    set_trap(FAILPOINTS[name], Path(mark))
    from worker_sync.cli import main as program

    sys.argv = ["worker-sync", *rest]
    code: int | None = program()
    return code or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
