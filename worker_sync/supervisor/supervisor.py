"""Starts children, restarts those that crash, stops all in order."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from worker_sync.supervisor.child import Child, Spec

SELF: Final = "up"


def describe_end(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


class Supervisor:
    """Runs children until `stop` is called or nothing useful is left to run.

    `say(name, line)` gets every line of output, and the supervisor's own under the name `up`. All children belong to
    the thread that calls `run`: they end when it ends, however that happens.
    """

    def __init__(self, specs: Sequence[Spec], say: Callable[[str, str], None]) -> None:
        self._children = [Child(spec, say) for spec in specs]
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._requests = 0
        self._stopping = False
        self._lock = threading.Lock()
        #: Set once every child has been started the first time.
        self.started = threading.Event()

    def stop(self) -> None:
        """Ask for an orderly stop; asked a second time, kill. From any thread or signal handler, returns at once."""
        self._requests += 1
        with self._lock:
            if self._wake_writer >= 0:
                with contextlib.suppress(BlockingIOError):  # it is awake already
                    os.write(self._wake_writer, b"x")

    @property
    def pids(self) -> dict[str, int]:
        """The running children's process ids by name."""
        return {child.spec.name: child.pid for child in self._children if child.pid is not None}

    def run(self) -> int:
        """Returns 0 after an asked-for stop, 1 when nothing useful runs any more."""
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        code = 1
        try:
            for child in self._children:
                self._start(child)
            self.started.set()
            while not self._requests and self._useful():
                self._wait(self._next_start())
                self._start_due()
            code = 0 if self._requests else 1
        finally:
            self._stop_all()
            self._close()
        return code

    # -- running

    def _useful(self) -> bool:
        essential = [child for child in self._children if child.spec.essential]
        return any(child.running or child.start_at is not None for child in essential or self._children)

    def _start(self, child: Child) -> None:
        child.start(time.monotonic())
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        self._selector.register(child.output, selectors.EVENT_READ, child)

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.start_at is not None and child.start_at <= now:
                self._start(child)

    def _next_start(self) -> float | None:
        due = [child.start_at for child in self._children if child.start_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _wait(self, seconds: float | None) -> None:
        """Until something happens, at most so long; deals with what happened."""
        for key, _ in self._selector.select(seconds):
            child: Child | None = key.data
            if child is None:
                self._drain_wake()
            elif key.fd == child.output:
                if not child.read():
                    self._selector.unregister(key.fd)
            elif key.fd == child.pidfd:
                self._ended(child)

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)

    def _ended(self, child: Child) -> None:
        """Called once for each end of a child."""
        self._selector.unregister(child.pidfd)
        if child.output in self._selector.get_map():
            self._selector.unregister(child.output)
        child.reap(time.monotonic())
        assert child.code is not None
        if self._stopping or self._requests:
            return
        if child.start_at is None:
            self._say(SELF, f"{child.spec.name} stopped for good ({describe_end(child.code)}); its last lines say why")
        else:
            pause = child.start_at - time.monotonic()
            self._say(SELF, f"{child.spec.name} ended ({describe_end(child.code)}), starting again in {pause:.1f} s")

    # -- stopping

    def _stop_all(self) -> None:
        self._stopping = True
        for child in self._children:
            child.start_at = None
        for stage in sorted({child.spec.stage for child in self._children}):
            self._stop_stage([child for child in self._children if child.spec.stage == stage])

    def _stop_stage(self, children: list[Child]) -> None:
        began, asked = time.monotonic(), self._requests
        for child in children:
            child.send(signal.SIGTERM)
        killed = False
        while any(child.running for child in children):
            patience = max(child.spec.stop_s for child in children if child.running)
            left = began + patience - time.monotonic()
            if not killed and (left <= 0 or self._requests > max(asked, 1)):
                killed = True
                for child in children:
                    child.kill()
            self._wait(None if killed else left)

    def _close(self) -> None:
        self._selector.close()
        with self._lock:
            os.close(self._wake_writer)
            self._wake_writer = -1
        os.close(self._wake_reader)
