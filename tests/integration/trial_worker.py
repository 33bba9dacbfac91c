"""`worker-sync` with tasks that fail, sleep, use systems and take memory: `python trial_worker.py worker`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tasks.app import app
from tasks.base import DisposedTask
from tasks.resources import resources
from tasks.retry import Policy
from worker_sync.__main__ import main
from worker_sync.core.errors import Fenced, Shutdown, TargetRejected, Transient

QUICK = Policy(2, 0.05, 0.1, 30.0)
#: Many tries, but three seconds only.
BRIEF = Policy(1000, 0.2, 0.2, 3.0)
ERRORS = {"transient": Transient, "permanent": TargetRejected, "fenced": Fenced, "shutdown": Shutdown}


@app.task(name="trial.fails", base=DisposedTask, policy=QUICK)
def fails(kind: str, detail: str = "") -> None:
    """Fails as `kind` says."""
    raise ERRORS.get(kind, KeyError)(detail)


@app.task(name="trial.fails_briefly", base=DisposedTask, policy=BRIEF)
def fails_briefly(path: str) -> None:
    """Fails for as long as it may."""
    say(path, f"tried {time.time()}")
    raise Transient("not yet")


@app.task(name="trial.beats", base=DisposedTask, policy=QUICK, parked=False)
def beats() -> None:
    """Fails, and is no dead letter."""
    raise TargetRejected("again")


@app.task(name="trial.mends", base=DisposedTask, policy=QUICK)
def mends(path: str, number: int) -> None:
    """Fails until the file `path` is there."""
    if not Path(path).exists():
        raise TargetRejected("there is no file")
    say(path, str(number))


@app.task(name="trial.carries", base=DisposedTask, policy=QUICK, parked=False)
def carries(data: bytes) -> None:
    """Fails with much in its message."""
    raise Transient(f"{len(data)} bytes")


@app.task(name="trial.sleeps", base=DisposedTask, policy=QUICK)
def sleeps(path: str, number: int, seconds: float) -> None:
    """Says when it begins and when it ends."""
    say(path, f"begin {number}")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.02)
    say(path, f"end {number}")


@app.task(name="trial.uses", base=DisposedTask, policy=QUICK)
def uses(path: str, number: int) -> None:
    """Asks the control store and a target."""
    resources().control().ping()
    with resources().using("reporting") as sink:
        sink.identity()
    say(path, f"{number} {os.getpid()}")


@app.task(name="trial.takes", base=DisposedTask, policy=QUICK)
def takes(path: str, megabytes: int) -> None:
    """Takes memory, and keeps it."""
    _taken.append(b"x" * (megabytes * 1024 * 1024))
    say(path, str(os.getpid()))


_taken: list[bytes] = []


def say(path: str, line: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{line}\n")


if __name__ == "__main__":
    main()
