"""How beat ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.beat import Service

from tasks.beat import Scheduler


class Firing:
    """Does what the test says at every step."""

    def __init__(self, steps: list[str], scheduler: Scheduler) -> None:
        self.steps = steps

    def step(self) -> float:
        self.steps.append("begun")
        os.kill(os.getpid(), signal.SIGTERM)
        self.steps.append("ended")
        return 10.0

    def close(self) -> None:
        self.steps.append("closed")


@pytest.fixture
def handlers() -> Iterator[None]:
    """The process's own signal handlers are put back."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture
def service() -> Service:
    app = Celery("beat-test", broker="memory://", set_as_current=False)
    return Service(app=app, scheduler_cls=Scheduler)


def test_a_publish_that_has_begun_ends_before_beat_does(
    service: Service, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(Scheduler, "_firing", lambda scheduler: Firing(steps, scheduler))
    service.start()
    assert steps == ["begun", "ended", "closed"]


def test_while_it_waits_beat_ends_at_once(service: Service, handlers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    class Waiting(Firing):
        def step(self) -> float:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return 60.0

    begun = time.monotonic()
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(Scheduler, "_firing", lambda scheduler: Waiting(steps, scheduler))
    try:
        service.start()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert steps == ["closed"]
    assert time.monotonic() - begun < 10
