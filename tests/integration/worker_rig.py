"""Workers with trial tasks as processes, real servers, and what the broker, the control store and the probe say."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis
import yaml
from celery import Celery

from tasks.celeryconfig import celery_settings
from tasks.configuration import forget
from tests.fixtures.eventually import eventually
from tests.fixtures.program import Ended, environment, worker_sync
from tests.fixtures.running import ROOT, Role
from worker_sync.cli.entry import run
from worker_sync.core.settings import load
from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import DeadLetter, Wanted

TRIAL = ROOT / "tests/integration/trial_worker.py"
READY = "ready."
QUEUE_KEYS = ("sync", "audit", "backup", "archive", "cleanup", "default", "dead_letter")


@dataclass
class Rig:
    config: Path
    control_url: str
    target_url: str
    control: ControlStore
    broker: redis.Redis
    app: Celery
    roles: list[Role] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.config.parent

    def change(self, values: dict[str, Any]) -> None:
        """Replace top-level entries of the configuration, for processes that start from now on."""
        data = yaml.safe_load(self.config.read_text())
        self.config.write_text(yaml.safe_dump({**data, **values}))

    def start(self, *arguments: str, ready: str = READY, trial: bool = True) -> Role:
        """`worker-sync ARGUMENTS` with the trial tasks, once its log says `ready`."""
        log = self.directory / f"role-{len(self.roles)}.log"
        program = [str(TRIAL)] if trial else ["-m", "worker_sync"]
        more = {"WORKER_SYNC_CONFIG": str(self.config), "PYTHONUNBUFFERED": "1", **self.variables}
        with log.open("wb") as output:
            command = [sys.executable, *program, *arguments]
            process = subprocess.Popen(command, env=environment(more), stdout=output, stderr=output)
        role = Role(process, log)
        self.roles.append(role)
        eventually(lambda: ready in role.text() or process.poll() is not None, 60, f"{arguments[0]} is ready")
        assert process.poll() is None, role.text()
        return role

    def worker(self, *options: str, queues: str = "default") -> Role:
        return self.start("worker", f"--queues={queues}", *options)

    @property
    def variables(self) -> dict[str, str]:
        return {"WORKER_SYNC_RUN_DIR": str(self.directory / "run")}

    def send(self, task: str, *args: Any, queue: str = "default", **kwargs: Any) -> str:
        return str(self.app.send_task(task, args, kwargs, queue=queue).id)

    def program(self, *arguments: str) -> Ended:
        """`worker-sync ARGUMENTS` as a process of its own, nobody at the keyboard."""
        return worker_sync(*arguments, config=self.config, more=self.variables)

    def cli(self, *arguments: str) -> Ended:
        """The same within this process, which takes a tenth of the time; not for what sends tasks."""
        out, err = io.StringIO(), io.StringIO()
        before = dict(os.environ)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["--config", str(self.config), *arguments])
        os.environ.clear()
        os.environ.update(before)
        forget()
        return Ended(code, out.getvalue(), err.getvalue())

    def letters(self, **wanted: Any) -> list[DeadLetter]:
        return self.control.dead_letters.find(Wanted(**wanted))

    def waiting(self) -> int:
        """Messages in the broker that no worker has finished."""
        queued = sum(int(self.broker.llen(key)) for key in QUEUE_KEYS)
        return queued + int(self.broker.hlen("unacked"))

    def waiting_clients(self) -> int:
        """Connections to the broker that wait for a message."""
        return sum("b" in client["flags"] for client in self.broker.client_list())

    def connections(self, url: str) -> int:
        """Connections of ours to that database, but for the tests' own."""
        with psycopg.connect(url) as connection:
            rows = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND application_name LIKE 'worker-sync%'"
            ).fetchone()
        assert rows is not None
        return int(rows[0])

    def close(self) -> None:
        for role in self.roles:
            if role.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(role.process.pid, 18)  # one that was stopped
                role.kill()
        self.app.close()


@contextlib.contextmanager
def worker_rig(directory: Path, control_url: str, target_url: str, broker_url: str) -> Iterator[Rig]:
    """A configured system; nothing runs yet."""
    config = directory / "worker-sync.yaml"
    data = {
        "control": control_url,
        "broker": broker_url,
        "state_dir": str(directory / "state"),
        "databases": {"shop": {"url": "memory://shop"}, "reporting": {"url": target_url}},
        "pipelines": {"shop-to-reporting": {"source": "shop", "target": "reporting", "tables": ["public.*"]}},
        "exporter": {"port": 0},
    }
    config.write_text(yaml.safe_dump(data))
    app = Celery("test", set_as_current=False)
    app.add_defaults(lambda: celery_settings(load(config)))
    with ControlStore(control_url) as control, redis.Redis.from_url(broker_url) as broker:
        control.migrate()
        rig = Rig(config, control_url, target_url, control, broker, app)
        try:
            yield rig
        finally:
            rig.close()
