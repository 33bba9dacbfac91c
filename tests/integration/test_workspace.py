"""What a command works with is given back once, and whoever ends the process waits for that."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.fixtures.servers import server_directory
from worker_sync.composition import Workspace
from worker_sync.core.settings import parse

pytestmark = pytest.mark.slow

CONFIG = {
    "databases": {name: {"url": f"postgresql://nobody@localhost/{name}"} for name in ("shop", "reporting")},
    "pipelines": {"one": {"source": "shop", "target": "reporting", "tables": ["public.*"]}},
}


def test_who_closes_second_returns_when_the_servers_are_stopped() -> None:
    """A worker whose grace is over is closed by its watcher while its main thread leaves by itself."""
    with server_directory("workspace") as directory:
        data = {**CONFIG, "state_dir": str(directory / "state")}
        space = Workspace(parse(data, where="test", folder=Path()))
        begun = threading.Event()
        space.servers.postgres()
        # It gives back in reverse order, so this comes before the servers.
        space._stack.callback(begun.set)
        first = threading.Thread(target=space.close)
        first.start()
        assert begun.wait(60)
        space.close()
        # PostgreSQL removes it last of all.
        assert not (directory / "state" / "postgres" / "data" / "postmaster.pid").exists()
        first.join()
