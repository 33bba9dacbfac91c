"""How beat ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.beat import PersistentScheduler, Service

from tasks.beat import Scheduler


@pytest.fixture
def handlers() -> Iterator[None]:
    """The process's own signal handlers are put back."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture
def service(tmp_path: Any) -> Service:
    app = Celery("beat-test", broker="memory://", set_as_current=False)
    app.conf.beat_schedule_filename = str(tmp_path / "folder" / "schedule")
    app.conf.beat_schedule = {"often": {"task": "nothing", "schedule": 0.01}}
    return Service(app=app, scheduler_cls=Scheduler, schedule_filename=app.conf.beat_schedule_filename)


def test_a_publish_that_has_begun_ends_before_beat_does(
    service: Service, handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def publish(*_: Any, **__: Any) -> None:
        steps.append("begun")
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append("ended")

    monkeypatch.setattr(PersistentScheduler, "apply_async", publish)
    service.start()
    assert steps == ["begun", "ended"]


def test_while_it_waits_beat_ends_at_once(service: Service, handlers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def tick(_: Scheduler) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("beat went on")

    monkeypatch.setattr(Scheduler, "tick", tick)
    service.start()
