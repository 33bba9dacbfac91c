"""Processes that may be another process's children: recognise, signal, await them. Linux only, as the wheels are."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# A Popen object that is collected while its process runs warns; a server may outlive the object that started it.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class Owner:
    """The unprivileged user that a server runs as."""

    uid: int
    gid: int

    def can_enter(self, path: Path) -> bool:
        probe = ["test", "-x", str(path)]
        return (
            subprocess.run(probe, user=self.uid, group=self.gid, extra_groups=[], cwd="/", check=False).returncode == 0
        )


@dataclass(frozen=True, slots=True)
class Process:
    """A process id that can't be mistaken for a later process with the same number."""

    pid: int
    started: int
    """Clock ticks from boot to its start."""

    @classmethod
    def find(cls, pid: int) -> Process | None:
        started = _started(pid)
        return None if started is None else cls(pid, started)

    def alive(self) -> bool:
        return _started(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, at the latest after so many seconds."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if self.alive():
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                if not poll.poll(seconds * 1000):
                    return False
        finally:
            os.close(descriptor)
        if child := _CHILDREN.pop(self.pid, None):
            child.wait()
        return True

    def end(self, number: signal.Signals, seconds: float) -> None:
        """Ask it to end, and kill it when it takes too long."""
        self.send(number)
        if not self.wait(seconds):
            self.send(signal.SIGKILL)
            self.wait(seconds)


def launch(
    command: Sequence[str],
    *,
    cwd: Path,
    log: IO[bytes],
    owner: Owner | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a server in a session of its own, so that a Ctrl-C in the terminal reaches us and not it."""
    child = subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
    )
    _CHILDREN[child.pid] = child
    # A child that we have not waited for keeps its entry, so it is found even if it has ended already.
    return Process.find(child.pid) or Process(child.pid, -1)


def working_in(directory: Path) -> list[Process]:
    """The processes whose working directory this is: what a killed server or a killed starter left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                here = (entry / "cwd").readlink() == directory
            except OSError:
                continue
            if here and (process := Process.find(int(entry.name))):
                found.append(process)
    return found


def end_all(processes: Sequence[Process], number: signal.Signals, seconds: float) -> None:
    for process in processes:
        process.send(number)
    deadline = time.monotonic() + seconds
    for process in processes:
        if not process.wait(max(0.0, deadline - time.monotonic())):
            process.end(signal.SIGKILL, seconds)


def _started(pid: int) -> int | None:
    """The start time of a running process; None if there is none, or only its zombie."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = line.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(rest[18])
