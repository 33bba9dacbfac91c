"""What a target says about its watermarks, and when that can't be right."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest

from connectors.memory import MemorySink
from connectors.memory_store import MemoryDatabase
from tests.fixtures.eventually import eventually
from worker_sync.capture.watcher import Watcher
from worker_sync.core.errors import Transient
from worker_sync.core.position import Position


@pytest.fixture
def url() -> Iterator[str]:
    name = f"memory://{uuid.uuid4().hex}"
    yield name
    MemoryDatabase.drop(name)


def raised(watcher: Watcher) -> str:
    """What the watcher's thread ended with; empty while it works."""
    try:
        watcher.check()
    except Transient as error:
        return str(error)
    return ""


def test_a_target_that_has_lost_its_watermarks_is_noticed(url: str) -> None:
    with MemorySink("target", url) as sink:
        sink.prepare()
        sink.fence("pipeline", 0, 1, "source", Position("0001"))
        changed = threading.Event()
        watcher = Watcher(MemorySink("target", url), ["pipeline"], changed)
        watcher.expect(pending=True)
        watcher.start()
        try:
            assert changed.wait(10)
            sink.forget("pipeline")
            assert "has lost its watermarks" in eventually(lambda: raised(watcher))
        finally:
            watcher.stop()
