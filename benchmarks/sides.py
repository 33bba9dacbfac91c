"""The two sides of a ratio: Worker-Sync and native logical replication, started and stopped alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
import yaml
from psycopg import sql

from benchmarks.bed import Bed
from benchmarks.load import LoadFailed
from tasks.configuration import VARIABLE
from worker_sync.composition.setup import create_all
from worker_sync.composition.workspace import Workspace
from worker_sync.core.settings import Settings, load

PIPELINE: Final = "bench"
READY_S: Final = 60.0
STOP_S: Final = 20.0
_LOOK_S: Final = 0.01

#: CPU seconds by process.
Usage = dict[str, float]


class Side(ABC):
    """A way to keep one table in step. `usage` says what its processes have used since they started."""

    name: str

    def __init__(self, bed: Bed) -> None:
        self._bed = bed

    @contextmanager
    def running(self, table: str) -> Iterator[None]:
        """Keep `table` in step from here on; everything that was started has ended afterwards."""
        self.set_up(table)
        try:
            self.go()
            self.ready()
            yield
        finally:
            self.tear_down()

    @abstractmethod
    def set_up(self, table: str) -> None:
        """Remember everything from now on, apply nothing yet."""

    @abstractmethod
    def go(self) -> None:
        """Begin to apply."""

    @abstractmethod
    def ready(self) -> None:
        """Return once what was committed before is applied."""

    @abstractmethod
    def tear_down(self) -> None:
        """End it and leave nothing on the servers that could slow the other side down."""

    @abstractmethod
    def usage(self) -> Usage: ...


class Native(Side):
    """One publication, one subscription, with their defaults."""

    name = "native"

    def set_up(self, table: str) -> None:
        _run(self._bed.source, sql.SQL("CREATE PUBLICATION bench FOR TABLE {}").format(sql.Identifier("public", table)))
        create = (
            "CREATE SUBSCRIPTION bench CONNECTION {} PUBLICATION bench WITH (copy_data = false, enabled = false, "
            "create_slot = true)"
        )
        _run(self._bed.target, sql.SQL(create).format(sql.Literal(self._bed.source)))

    def go(self) -> None:
        _run(self._bed.target, sql.SQL("ALTER SUBSCRIPTION bench ENABLE"))

    def ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not self._pids():
            if time.monotonic() > deadline:
                raise LoadFailed("native replication does not stream")
            time.sleep(_LOOK_S)

    def tear_down(self) -> None:
        _run(self._bed.target, sql.SQL("DROP SUBSCRIPTION IF EXISTS bench"))
        _run(self._bed.source, sql.SQL("DROP PUBLICATION IF EXISTS bench"))

    def usage(self) -> Usage:
        return {name: _cpu(pid) for name, pid in self._pids().items()}

    def _pids(self) -> dict[str, int]:
        senders = "SELECT pid FROM pg_stat_replication WHERE state = 'streaming' AND application_name = 'bench'"
        appliers = "SELECT pid FROM pg_stat_subscription WHERE subname = 'bench' AND received_lsn IS NOT NULL"
        sender = _run(self._bed.source, sql.SQL(senders))
        applier = _run(self._bed.target, sql.SQL(appliers))
        return {"walsender": sender[0][0], "apply worker": applier[0][0]} if sender and applier else {}


class WorkerSync(Side):
    """One capture and one worker, as `worker-sync up` starts them, with the configuration's defaults."""

    name = "worker-sync"

    def __init__(self, bed: Bed, target: str | None = None, source: str | None = None, tables: str = "public.") -> None:
        """`tables`: what stands before a table's name in the pipeline."""
        super().__init__(bed)
        self._source = source or bed.source
        self._target = target or bed.target
        self._tables = tables
        self._config = bed.directory / "worker-sync.yaml"
        self._settings: Settings | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def settings(self) -> Settings:
        assert self._settings is not None
        return self._settings

    def set_up(self, table: str) -> None:
        _run(self._bed.target, sql.SQL("CREATE DATABASE control"))
        self._config.touch(mode=0o600)
        self._config.write_text(yaml.safe_dump(self._document(table)))
        self._settings = load(self._config)
        with Workspace(self.settings) as space:
            create_all(space)

    def _document(self, table: str) -> dict[str, Any]:
        pipeline = {"source": "shop", "target": "reporting", "tables": [f"{self._tables}{table}"], "snapshot": "none"}
        return {
            "control": self._bed.control,
            "broker": self._bed.broker,
            "state_dir": "state",
            "databases": {"shop": {"url": self._source}, "reporting": {"url": self._target}},
            "pipelines": {PIPELINE: pipeline},
        }

    def go(self) -> None:
        self._work("worker")
        self._start("capture", "capture", "shop")

    def _work(self, name: str) -> None:
        self._start(name, "worker", "--queues=sync,default", "--grace=1")

    def _start(self, name: str, *arguments: str) -> None:
        environment = {**os.environ, VARIABLE: str(self._config)}
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "worker_sync", *arguments], env=environment, stdout=log, stderr=log
            )

    def _log(self, name: str) -> Path:
        return self._bed.directory / f"{name}.log"

    def ready(self) -> None:
        with Workspace(self.settings) as space:
            space.waiter(self.settings.pipeline(PIPELINE)).wait(READY_S)

    def tear_down(self) -> None:
        for name in reversed(list(self._processes)):
            self._end(name)
        if self._settings is not None:
            with Workspace(self.settings) as space:
                if PIPELINE in self.settings.pipelines:
                    space.sink("reporting").forget(PIPELINE)
                space.source("shop").drop_stream()
        _run(self._bed.target, sql.SQL("DROP DATABASE IF EXISTS control WITH (FORCE)"))

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code not in (0, -signal.SIGTERM):
            print(f"{name} ended with {code}:\n{self._log(name).read_text(errors='replace')[-2000:]}", file=sys.stderr)

    def usage(self) -> Usage:
        return {name: _cpu(process.pid) for name, process in self._processes.items()}


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _run(url: str, statement: sql.SQL | sql.Composed) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
