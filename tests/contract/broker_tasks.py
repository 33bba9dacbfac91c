"""The application with tasks for tests of the broker: `celery -A tests.contract.broker_tasks worker`.

What a task does is a line in the file `notes` of its folder.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from tasks import handing_back
from tasks.app import app
from tasks.base import DisposedTask
from tasks.consumer import Consumer
from tasks.retry import NEVER, Policy
from worker_sync.core.errors import Transient

#: The variable with a worker's seconds from SIGTERM to the handing back.
GRACE = "WORKER_SYNC_TEST_GRACE"

#: While there is such a file, a worker meets that its queue was deleted just before it begins to consume.
DELETED = "deleted"

handing_back.set_grace(float(os.environ.get(GRACE, handing_back.GRACE_S)))


class Unlucky(Consumer):
    def connect(self) -> Any:
        connection = super().connect()
        mark = Path(os.environ["WORKER_SYNC_CONFIG"]).parent / DELETED
        if mark.exists():
            mark.unlink()
            with connection, connection.channel() as channel:
                place = self.app.amqp.queues["default"](channel)
                place.delete()
                place.consume(self.hostname, callback=None)
        return connection


app.conf.worker_consumer = f"{__name__}:Unlucky"


def _note(folder: str, word: str) -> None:
    with (Path(folder) / "notes").open("a") as notes:
        notes.write(word + "\n")


@app.task(name="test.note", base=DisposedTask, policy=NEVER)
def note(folder: str, word: str) -> None:
    """Done at once."""
    _note(folder, word)


@app.task(name="test.hold", base=DisposedTask, policy=NEVER)
def hold(folder: str, word: str) -> None:
    """Takes until the file `go` is there."""
    _note(folder, f"{word} begun")
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)
    _note(folder, f"{word} done")


@app.task(name="test.work", base=DisposedTask, policy=NEVER)
def work(folder: str, word: str) -> None:
    """Takes as long as a small task does."""
    time.sleep(0.01)
    _note(folder, word)


@app.task(name="test.stick", base=DisposedTask, policy=NEVER)
def stick(folder: str, word: str) -> None:
    """Never ends the first time, and at once the second."""
    begun = Path(folder) / word
    first = not begun.exists()
    begun.touch()
    while first:
        time.sleep(0.01)
    _note(folder, word)


@app.task(name="test.crash", base=DisposedTask, policy=NEVER)
def crash(folder: str, word: str) -> None:
    """Takes its process down."""
    _note(folder, word)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="test.short", base=DisposedTask, policy=Policy(3, 0.05, 0.4, 60.0, factor=3, jitter=False), bind=True)
def short(self: DisposedTask, folder: str, word: str) -> None:
    """Succeeds at the fourth try, with less than a second between them."""
    _try(self, folder, word)


@app.task(name="test.long", base=DisposedTask, policy=Policy(3, 0.9, 1.5, 60.0, factor=1.5, jitter=False), bind=True)
def long(self: DisposedTask, folder: str, word: str) -> None:
    """Succeeds at the fourth try, with a second or more between them."""
    _try(self, folder, word)


def _try(task: DisposedTask, folder: str, word: str) -> None:
    _note(folder, f"{word} {time.time()}")
    if task.request.retries < 3:
        raise Transient("once more")
