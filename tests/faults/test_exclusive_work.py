"""Long work whose message the broker delivers again, with workers that are killed and paused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from celery import Celery

from tests.fixtures.eventually import eventually
from tests.fixtures.exclusive_app import VISIBILITY_S
from tests.fixtures.running import ROOT, Role
from worker_sync.store import ControlStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LEASE = "task:long"


@dataclass
class Workers:
    """Workers of tests/fixtures/exclusive_app.py."""

    folder: Path
    control: ControlStore
    broker: redis.Redis
    app: Celery
    roles: list[Role] = field(default_factory=list)

    def start(self) -> Role:
        name = f"worker-{len(self.roles)}"
        log = self.folder / f"{name}.log"
        app = "tests.fixtures.exclusive_app"
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-Q", "long", "-n", f"{name}@%h", "-l", "info"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=output, stderr=output)
        role = Role(process, log)
        self.roles.append(role)
        eventually(lambda: "ready." in role.text() or process.poll() is not None, 60, "a worker is ready")
        assert process.poll() is None, role.text()
        return role

    @property
    def environment(self) -> dict[str, str]:
        config = str(self.folder / "worker-sync.yaml")
        ours = {"WORKER_SYNC_CONFIG": config, "PYTHONPATH": str(ROOT), "EXCLUSIVE_LOG": str(self.folder / "done")}
        return {**os.environ, **ours}

    def said(self) -> list[list[str]]:
        """What was done (begin, end, fenced), by which process, under which token."""
        done = self.folder / "done"
        return [line.split() for line in done.read_text().splitlines()] if done.exists() else []

    def words(self) -> list[str]:
        return [what for what, _, _ in self.said()]

    def until(self, words: list[str], seconds: float = 90.0) -> None:
        eventually(lambda: self.words() == words, seconds, f"{words}")

    def send(self, task: str) -> None:
        self.app.send_task(task, queue="long")

    def start_another(self) -> Role:
        """A second worker, once the message of the first counts as lost: one that starts gives such messages back at
        once, one that runs looks for them every minute or so."""
        eventually(self._counts_as_lost, 30, "the message counts as lost")
        return self.start()

    def _counts_as_lost(self) -> bool:
        taken: Any = self.broker.zrange("unacked_index", 0, 0, withscores=True)
        return bool(taken) and taken[0][1] + VISIBILITY_S < time.time()

    def let_end(self) -> None:
        (self.folder / "done.go").touch()

    def waiting(self) -> int:
        return int(self.broker.llen("long")) + int(self.broker.hlen("unacked"))

    def at_work(self) -> Role:
        """The worker that holds the lease."""
        process = self.said()[-1][1]
        return next(role for role in self.roles if str(role.process.pid) == process)


@pytest.fixture
def workers(target_db: str, redis_url: str, tmp_path: Path) -> Iterator[Workers]:
    data = {
        "control": target_db,
        "broker": redis_url,
        "state_dir": str(tmp_path / "state"),
        "databases": {"a": {"url": "postgresql://127.0.0.1:1/a"}, "b": {"url": "postgresql://127.0.0.1:1/b"}},
        "pipelines": {"a-to-b": {"source": "a", "target": "b", "tables": ["*"]}},
    }
    (tmp_path / "worker-sync.yaml").write_text(yaml.safe_dump(data))
    app = Celery("sender", broker=redis_url, set_as_current=False)
    with ControlStore(target_db) as control, redis.Redis.from_url(redis_url) as broker:
        control.migrate()
        made = Workers(tmp_path, control, broker, app)
        try:
            yield made
        finally:
            for role in made.roles:
                if role.process.poll() is None:
                    role.process.send_signal(signal.SIGCONT)
                    role.kill()
            app.close()


@pytest.mark.long
def test_without_a_lease_work_that_outlasts_the_visibility_timeout_runs_twice_at_once(workers: Workers) -> None:
    """What the others protect from: if this changes, they prove nothing."""
    workers.start()
    workers.send("plain")
    workers.start_another()
    workers.until(["begin", "begin"])


def test_a_redelivered_task_ends_quietly_while_the_first_is_at_work(workers: Workers) -> None:
    workers.start()
    workers.send("ending")
    workers.until(["begin"])
    workers.start_another()
    eventually(
        lambda: any("Another worker does it:" in role.text() for role in workers.roles), 90, "the second one ends"
    )
    assert workers.words() == ["begin"]
    workers.let_end()
    workers.until(["begin", "end"])
    assert not any("Traceback" in role.text() for role in workers.roles)


def test_a_paused_worker_is_replaced_and_stops_at_its_next_checkpoint(workers: Workers) -> None:
    workers.start()
    workers.send("retrying")
    workers.until(["begin"])
    workers.start_another()
    eventually(lambda: any("does it still" in role.text() for role in workers.roles), 90, "the second one waits")
    sleeper = workers.at_work()
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    workers.until(["begin", "begin"])
    first, second = workers.said()
    assert (first[1] != second[1], int(first[2]) < int(second[2])) == (True, True)
    os.kill(sleeper.process.pid, signal.SIGCONT)
    workers.until(["begin", "begin", "fenced"])
    assert workers.said()[2][1:] == first[1:]
    holding = workers.control.leases.holding(LEASE)
    assert holding is not None
    assert holding.token == int(second[2])
    workers.let_end()
    eventually(lambda: "end" in workers.words(), 60)


def test_the_lease_of_a_killed_worker_is_free_after_its_time_to_live(workers: Workers) -> None:
    workers.start()
    workers.send("retrying")
    workers.until(["begin"])
    dead = workers.control.leases.holding(LEASE)
    assert dead is not None
    workers.at_work().kill()
    workers.start_another()

    def is_free() -> bool:
        """Or was, and the other worker has it: the message comes again at any time."""
        holding = workers.control.leases.holding(LEASE)
        return holding is None or holding.token > dead.token

    eventually(is_free, 20, "the lease runs out")
    workers.until(["begin", "begin"])
    workers.let_end()
    workers.until(["begin", "begin", "end"])
    eventually(lambda: workers.control.leases.holding(LEASE) is None, 20, "the lease is given back")
