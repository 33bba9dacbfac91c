"""Flower as `worker-sync flower` starts it: who may look, what is shown, and what is known after a restart."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tasks.celeryconfig import celery_settings
from tasks.parcels import Parcel, publish
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import simple_config, start, worker_sync, write_config
from worker_sync.core.settings import load
from worker_sync.embedded.server import free_port
from worker_sync.store import ControlStore

USER, PASSWORD = "watcher", "the-watchers-password"
SUMMARY = "shop-to-reporting/0 3 changes, 1 transactions, up to 02"
ROW = b"a-value-of-a-row"


@dataclass
class Watched:
    """A system whose Flower is looked at."""

    config: Path
    port: int
    app: Celery
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *role: str) -> subprocess.Popen[bytes]:
        log = self.config.with_name(f"{role[0]}-{len(self.processes)}.log")
        self.processes.append(start(["--config", str(self.config), *role], log))
        return self.processes[-1]

    def get(self, path: str, *, known: bool = True) -> tuple[int, str]:
        """The answer's code and text; 0 while nobody answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/watch{path}")
        if known:
            credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            request.add_header("Authorization", f"Basic {credentials}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def tasks(self) -> dict[str, Any]:
        code, text = self.get("/api/tasks")
        return dict(json.loads(text)) if code == 200 else {}

    def ask(self) -> str:
        """A task for the worker; its id."""
        return str(self.app.send_task("sync.pause", ("shop-to-reporting",)).id)

    def shows(self, task: str, seconds: float = 60) -> dict[str, Any]:
        def ended() -> dict[str, Any]:
            found = self.tasks().get(task) or {}
            return found if found.get("state") in {"SUCCESS", "FAILURE"} else {}

        return eventually(ended, seconds, f"Flower shows {task}")

    def shows_one(self) -> dict[str, Any]:
        """A task that it saw end. What happens before it listens to events it never hears of."""
        for _ in range(12):
            with contextlib.suppress(AssertionError):
                return self.shows(self.ask(), 5)
        raise AssertionError("Flower hears of no task")


@pytest.fixture
def watched(postgres: str, redis_url: str, tmp_path: Path) -> Iterator[Watched]:
    with new_database(postgres, "control") as control, ControlStore(control) as store, contextlib.ExitStack() as stack:
        store.migrate()
        port = free_port()
        flower = {"port": port, "user": USER, "password": PASSWORD, "url_prefix": "/watch/", "save_every_s": 1}
        more = {"control": control, "broker": redis_url, "state_dir": "state", "log": {"format": "json"}}
        document = simple_config("memory://shop", "memory://reporting", **more) | {"flower": flower}
        config = write_config(tmp_path / "worker-sync.yaml", document)
        app = Celery("test", set_as_current=False)
        app.add_defaults(lambda: celery_settings(load(config)))
        stack.callback(app.close)
        made = Watched(config, port, app)
        try:
            yield made
        finally:
            for process in made.processes:
                process.kill()
                process.wait()


@pytest.mark.slow
@pytest.mark.long
def test_flower_asks_who_it_is_shows_summaries_and_remembers_over_restarts(watched: Watched, tmp_path: Path) -> None:
    flower = watched.start("flower")
    eventually(lambda: watched.get("/healthcheck")[0] == 200, 60, "Flower answers")
    watched.start("worker", "--queues=sync,default", "--name=one")
    eventually(lambda: "one@" in watched.get("/api/workers?refresh=1")[1], 60, "Flower knows the worker")
    before = watched.shows_one()
    assert (before["name"], before["args"]) == ("sync.pause", "('shop-to-reporting',)")

    # A batch goes by its summary: what it holds is shown nowhere.
    publish(watched.app, Parcel("shop-to-reporting", 0, "01", "02", ROW, SUMMARY))
    applied = eventually(lambda: [one for one in watched.tasks().values() if one["name"] == "sync.apply"], 60)
    assert [one["args"] for one in applied] == [SUMMARY]
    pages = [watched.get(path)[1] for path in ("/tasks", f"/task/{applied[0]['uuid']}", "/api/tasks")]
    assert not any(ROW.decode() in page for page in pages)

    # Without the password only what holds no task is answered.
    codes = {
        path: watched.get(path, known=False)[0] for path in ("/", "/tasks", "/api/tasks", "/metrics", "/healthcheck")
    }
    assert codes == {"/": 401, "/tasks": 401, "/api/tasks": 401, "/metrics": 200, "/healthcheck": 200}

    flower.send_signal(signal.SIGTERM)
    assert flower.wait(30) == 0
    flower = watched.start("flower")
    assert watched.shows(before["uuid"])["name"] == "sync.pause"

    # Killed: what is older than a second or so is known.
    second = watched.shows_one()["uuid"]
    for _ in range(2):  # the first may have begun before
        begun = saved_at(tmp_path / "state")
        eventually(partial(is_saved_since, tmp_path / "state", begun), 20, "it saves")
    flower.kill()
    flower.wait()
    watched.start("flower")
    assert watched.shows(second)["name"] == "sync.pause"
    for log in tmp_path.glob("flower-*.log"):
        for line in log.read_text().splitlines():
            assert json.loads(line)["level"] in {"info", "warning"}, line
        assert PASSWORD not in log.read_text()


def saved_at(directory: Path) -> float:
    """When the newest save was finished; 0 while one is being written."""
    files = list(directory.glob("flower*"))
    try:
        return 0.0 if any(".tmp" in file.name for file in files) else max(file.stat().st_mtime for file in files)
    except (FileNotFoundError, ValueError):
        return 0.0


def is_saved_since(directory: Path, begun: float) -> bool:
    return saved_at(directory) > begun


def test_flower_does_not_listen_for_others_without_a_password(tmp_path: Path) -> None:
    more = {"control": "postgresql://h/c", "broker": "redis://h/0", "flower": {"persistent": False}}
    config = write_config(tmp_path / "worker-sync.yaml", simple_config("memory://a", "memory://b") | more)
    refused = worker_sync("flower", "--host", "0.0.0.0", config=config)
    assert refused.code == 2
    assert "flower would listen on 0.0.0.0 and let everybody in; set flower.user" in refused.err
