"""A whole system under test: capture and workers as processes, real servers, and what must hold at the end.

`System.assert_same` is the judge of every scenario: `worker-sync verify` and a comparison of its own, key by key.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import yaml
from pymongo import MongoClient

from connectors.base import Mark
from connectors.registry import open_sink
from tests.fixtures.eventually import eventually
from tests.fixtures.running import ROOT, Role
from worker_sync.store import ControlStore

T = TypeVar("T")
Rows = list[tuple[Any, ...]]

#: Short times, so that losses are noticed within a test's patience.
CAPTURE = {
    "batch_changes": 100,
    "snapshot_rows": 100,
    "resend_after_s": 0.5,
    "confirm_every_s": 0.2,
    "lease_s": 3,
}
TABLES = """
CREATE TABLE items (id bigint PRIMARY KEY, name text, amount numeric(12,2), body text);
ALTER TABLE items ALTER body SET STORAGE EXTERNAL;
CREATE TABLE tags (item bigint, label text, note text, PRIMARY KEY (item, label));
"""
QUERIES = {
    "items": "SELECT id, name, amount::text, body FROM items",
    "tags": "SELECT item, label, note FROM tags",
}
CLI_SECONDS = 90.0
#: The module that `python -m` runs, with arguments of its own.
PROGRAM = ("worker_sync",)


@dataclass(frozen=True)
class Done:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class System:
    """One source, any number of targets, each behind a pipeline named after it."""

    def __init__(self, config: Path, source: str, targets: Mapping[str, str], control: str, broker: str) -> None:
        self.config = config
        self.source = source
        self.targets = dict(targets)
        self.control = control
        self.broker = broker
        self.roles: list[Role] = []

    def move_broker(self, url: str) -> None:
        """Use another broker; nothing may run yet."""
        assert not self.roles
        self.broker = url
        self.change({"broker": url})

    def change(self, values: Mapping[str, Any]) -> None:
        """Replace top-level entries of the configuration, for processes that start from now on."""
        data = yaml.safe_load(self.config.read_text())
        self.config.write_text(yaml.safe_dump({**data, **values}))

    def change_pipeline(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace entries of one pipeline."""
        pipelines = yaml.safe_load(self.config.read_text())["pipelines"]
        self.change({"pipelines": {**pipelines, name: {**pipelines[name], **values}}})

    # -- processes

    def start(self, *arguments: str, program: Sequence[str] = PROGRAM, config: Path | None = None) -> Role:
        """`worker-sync ARGUMENTS` as a process of its own, killed after the test at the latest; `program` is what runs
        them, `config` a file other than the system's."""
        log = self.config.parent / f"{arguments[0]}-{len(self.roles)}.log"
        command = self._command(*arguments, program=program, config=config)
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=_environment(), stdout=output, stderr=output)
        role = Role(process, log)
        self.roles.append(role)
        return role

    def capture(self) -> Role:
        return self.start("capture", "source")

    def worker(self) -> Role:
        return self.start("worker", "--queues", "sync,audit", "--grace", "1")

    def strike(self, failpoint: str, *arguments: str, seconds: float = 90.0) -> None:
        """Run `worker-sync ARGUMENTS` until the failpoint ends it; what is going on already has to pass it."""
        mark = self.config.parent / f"struck-{len(self.roles)}"
        role = self.start(*arguments, program=("tests.faults.failpoint", failpoint, str(mark)))
        self.until(lambda: role.process.poll() is not None, f"failpoint {failpoint!r} strikes", seconds)
        assert role.process.returncode == -signal.SIGKILL, role.text()
        assert mark.read_text() == failpoint

    def close(self) -> None:
        for role in self.roles:
            if role.process.poll() is None:
                role.process.send_signal(signal.SIGCONT)
                role.kill()

    # -- commands

    def cli(self, *arguments: str, seconds: float = CLI_SECONDS) -> Done:
        done = subprocess.run(
            self._command(*arguments), env=_environment(), capture_output=True, text=True, timeout=seconds
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def cli_wait(self, pipeline: str, seconds: float) -> Done:
        """`worker-sync wait`, for long work."""
        return self.cli("wait", pipeline, "--timeout", str(seconds), seconds=seconds + CLI_SECONDS)

    def recover(self, recovery: str) -> None:
        """Run the command in a recovery text."""
        found = re.findall(r"worker-sync (resume|resync) ([\w-]+)", recovery)
        assert found, f"no command in {recovery!r}"
        done = self.cli(*found[-1])
        assert done.code == 0, done.text

    def status(self, pipeline: str) -> dict[str, Any]:
        """The pipeline's part of `status --json`; the exit code must fit it."""
        done = self.cli("status", "--json")
        entries = json.loads(done.out)["pipelines"]
        assert done.code == int(any(entry["state"] == "halted" for entry in entries)), done.text
        return next(entry for entry in entries if entry["pipeline"] == pipeline)

    def _command(self, *arguments: str, program: Sequence[str] = PROGRAM, config: Path | None = None) -> list[str]:
        return [sys.executable, "-m", *program, "-c", str(config or self.config), *arguments]

    # -- how far it is

    def until(self, condition: Callable[[], T], what: str, seconds: float = 45.0) -> T:
        try:
            return eventually(condition, seconds, what)
        except AssertionError as error:
            logs = "\n".join(f"--- {role.log.name}\n{role.text()[-1500:]}" for role in self.roles[-4:])
            raise AssertionError(f"{error}\n{logs}") from None

    def marks(self) -> dict[str, int]:
        """Changes that every target has applied since its beginning."""
        return {name: changes_in(url, name) for name, url in self.targets.items()}

    def loaded(self) -> bool:
        """The snapshots of both tables are applied in every target."""
        return all(snapshot_done(url, name) for name, url in self.targets.items())

    def await_progress(self, changes: int = 1, seconds: float = 45.0) -> None:
        """Until every target has applied so many more changes."""
        before = self.marks()
        self.until(
            lambda: all(now >= before[name] + changes for name, now in self.marks().items()),
            f"every target applies {changes} changes more than {before}",
            seconds,
        )

    # -- the end

    def assert_same(self, seconds: float = 240.0) -> None:
        """Every target holds the source's rows: says `worker-sync verify`, and so do we."""
        self.assert_verified(seconds)
        for table in QUERIES:
            truth = by_key(self.source, table)
            for name, url in self.targets.items():
                assert differences(truth, by_key(url, table)) == [], f"{table} in {name}"

    def assert_verified(self, seconds: float = 240.0) -> None:
        """Every target holds the source's rows, says `worker-sync verify`."""
        checks = [self._verify(name, seconds) for name in self.targets]
        for process in checks:
            out, err = process.communicate(timeout=2 * seconds)
            logs = "\n".join(f"--- {role.log.name}\n{role.text()[-1500:]}" for role in self.roles[-4:])
            assert process.returncode == 0, f"{out}{err}\n{logs}"
            assert json.loads(out)["ok"]

    def _verify(self, pipeline: str, seconds: float) -> subprocess.Popen[str]:
        command = self._command("verify", pipeline, "--json", "--timeout", str(seconds))
        return subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def running_system(
    directory: Path,
    source: str,
    targets: Mapping[str, str],
    control: str,
    broker: str,
    capture: Mapping[str, Any] | None = None,
    **pipeline: Any,
) -> Iterator[System]:
    """A configured system with the two tables in its source; nothing runs yet."""
    config = directory / "worker-sync.yaml"
    common = {"source": "source", "tables": ["public.*"], **pipeline}
    data = {
        "control": control,
        "broker": broker,
        "state_dir": str(directory / "state"),
        "databases": {"source": {"url": source}, **{name: {"url": url} for name, url in targets.items()}},
        "pipelines": {name: {**common, "target": name} for name in targets},
        "capture": {**CAPTURE, **(capture or {})},
    }
    config.write_text(yaml.safe_dump(data))
    with ControlStore(control) as store:
        store.migrate()
    system = System(config, source, targets, control, broker)
    try:
        yield system
    finally:
        system.close()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


# -- asking databases


def execute(url: str, *statements: str) -> Rows:
    """Run statements, each by itself; the rows of the last one."""
    rows: Rows = []
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
    return rows


def is_mongo(url: str) -> bool:
    return url.startswith("mongodb")


@contextlib.contextmanager
def mongo(url: str) -> Iterator[Any]:
    """The database of a MongoDB URL."""
    client: MongoClient[dict[str, Any]] = MongoClient(url, serverSelectionTimeoutMS=20_000)
    try:
        yield client.get_default_database()
    finally:
        client.close()


def marks_in(target: str, pipeline: str) -> list[Mark]:
    """Where the pipeline's shards stand in the target; empty before it was prepared."""
    with open_sink("target", target) as sink:
        return list(sink.marks(pipeline).values())


def changes_in(target: str, pipeline: str) -> int:
    return sum(mark.changes for mark in marks_in(target, pipeline))


def snapshot_states(target: str, pipeline: str) -> list[int]:
    """How many tables each shard has copied; empty before the target was prepared."""
    return [sum(table.done for table in mark.snapshots.values()) for mark in marks_in(target, pipeline)]


def snapshot_done(target: str, pipeline: str) -> bool:
    marks = marks_in(target, pipeline)
    return bool(marks) and all(
        len(mark.snapshots) == len(QUERIES) and all(table.done for table in mark.snapshots.values()) for mark in marks
    )


def by_key(url: str, table: str) -> dict[Any, tuple[Any, ...]]:
    """The table's rows by key, the same from every engine."""
    width = 1 if table == "items" else 2
    rows = _documents(url, table) if is_mongo(url) else execute(url, QUERIES[table])
    return {row[:width]: row[width:] for row in rows}


def _documents(url: str, table: str) -> Rows:
    with mongo(url) as database:
        found = list(database[table].find())
    if table == "tags":
        return [(one["_id"]["item"], one["_id"]["label"], one["note"]) for one in found]
    return [
        (one["_id"], one["name"], None if one["amount"] is None else str(one["amount"]), one["body"]) for one in found
    ]


def differences(truth: Mapping[Any, Any], found: Mapping[Any, Any]) -> list[tuple[Any, str]]:
    """Keys that are missing, too many or different; the first of them, which is enough to know."""
    missing = [(key, "missing") for key in truth.keys() - found.keys()]
    extra = [(key, "extra") for key in found.keys() - truth.keys()]
    different = [(key, "different") for key in truth.keys() & found.keys() if truth[key] != found[key]]
    return (missing + extra + different)[:10]
