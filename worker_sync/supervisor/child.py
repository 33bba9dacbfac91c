"""One child: its process, its output line by line, when it may start again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

#: Pause before a restart, doubling from the first to the last; a child that ran so long begins with the first again.
FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 30.0
STEADY_S: Final = 60.0
#: Longest line of output that is kept together.
LINE_BYTES: Final = 64 * 1024

_LAUNCH: Final = str(Path(__file__).with_name("launch.py"))


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run and how.

    `stage`: children stop in ascending order of it. `final`: exit codes after which a restart can't help.
    `essential`: when no essential child is left to run, nothing useful runs. `stop_s`: seconds from SIGTERM to
    SIGKILL.
    """

    name: str
    command: Sequence[str]
    stage: int
    final: frozenset[int] = frozenset()
    essential: bool = False
    stop_s: float = 20.0
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """One child of the calling thread. While it runs, `pidfd` becomes readable at its end and `output` when it says
    something."""

    def __init__(self, spec: Spec, say: Callable[[str, str], None]) -> None:
        self.spec = spec
        self.pidfd = -1
        self.output = -1
        #: The exit code of the last run; negative for a signal.
        self.code: int | None = None
        #: Monotonic time of the next start; None when none is due.
        self.start_at: float | None = None
        self.restarts = 0
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._pause = FIRST_PAUSE_S
        self._started_at = 0.0
        self._line = b""

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, now: float) -> None:
        """Start it in a session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", _LAUNCH, str(os.getpid()), *self.spec.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **self.spec.environment},
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.output, False)
        self.pidfd = os.pidfd_open(self._process.pid)
        self.start_at, self.code, self._started_at = None, None, now

    def read(self) -> bool:
        """Pass on what it has said since; False once it can say no more."""
        try:
            data = os.read(self.output, LINE_BYTES)
        except BlockingIOError:
            return True
        self._pass_on(data)
        return bool(data)

    def _pass_on(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        if not data or len(self._line) > LINE_BYTES:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            if text := line.decode(errors="replace").rstrip():
                self._say(self.spec.name, text)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            # Not reaped yet, so the number still is this process's.
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it and all that it started, now."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def reap(self, now: float) -> None:
        """Take note of its end; `start_at` says when to start it again, if at all."""
        assert self._process is not None
        assert self._process.stdout is not None
        self.kill()  # a pool may have outlived it
        self.code = self._process.wait()
        os.set_blocking(self.output, True)  # all writers are gone, so it ends
        while self.read():
            pass
        self._process.stdout.close()
        os.close(self.pidfd)
        self.pidfd = self.output = -1
        self._process = None
        if self.code not in self.spec.final:
            self._plan_restart(now)

    def _plan_restart(self, now: float) -> None:
        if now - self._started_at >= STEADY_S:
            self._pause = FIRST_PAUSE_S
        self.start_at = now + self._pause
        self._pause = min(self._pause * 2, LAST_PAUSE_S)
        self.restarts += 1
