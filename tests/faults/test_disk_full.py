"""A disk under the state directory that is full: a clear message, and after it has room again nothing is lost.

The spill's disk is in `tests/integration/test_spill.py`.
"""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.faults.harness import execute, running_system
from tests.faults.test_worker_killed import table_held
from tests.fixtures.eventually import eventually
from worker_sync.core import log
from worker_sync.core.errors import Transient
from worker_sync.core.sections import Log
from worker_sync.embedded import EmbeddedPostgres, EmbeddedRedis
from worker_sync.store import ControlStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FILL = (
    "INSERT INTO items SELECT n, 'row', n, string_agg(md5(random()::text), '') "
    "FROM generate_series({0}, {0} + 19) n, generate_series(1, 1000) m GROUP BY n"
)


class Disk:
    """A small file system of a test's own."""

    def __init__(self, megabytes: int) -> None:
        # Not among pytest's own directories: PostgreSQL runs as another user, to whom those are closed.
        self.path = Path(tempfile.mkdtemp(prefix="worker-sync-disk-"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            self.path.rmdir()
            pytest.skip(f"only root can mount a small file system here: {done.stderr.strip()}")

    def grow(self, megabytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.path)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)
        self.path.rmdir()


@pytest.fixture
def disk_of() -> Iterator[Callable[[int], Disk]]:
    made: list[Disk] = []

    def make(megabytes: int) -> Disk:
        made.append(Disk(megabytes))
        return made[-1]

    yield make
    for disk in made:
        disk.close()


def test_a_broker_whose_disk_is_full_is_waited_for_and_loses_nothing(
    tables: str, target_db: str, control_db: str, tmp_path: Path, disk_of: Callable[[int], Disk]
) -> None:
    disk = disk_of(6)
    broker = EmbeddedRedis(disk.path / "redis")
    url = broker.start()
    try:
        execute(tables, FILL.format(0))
        with running_system(tmp_path, tables, {"reporting": target_db}, control_db, url) as system:
            capture, worker = system.capture(), system.worker()
            system.until(system.loaded, "the rows are copied", 90)
            with table_held(target_db):
                for turn in range(1, 41):
                    execute(tables, FILL.format(turn * 100))
                said = "No space left on device"
                system.until(lambda: said in capture.text() and "publish_retry" in capture.text(), "it says so", 90)
                assert system.status("reporting")["state"] == "running"
                disk.grow(200)
            system.assert_same()
            assert (capture.process.poll(), worker.process.poll()) == (None, None)
            with redis.Redis.from_url(url) as client:
                eventually(lambda: client.llen("sync") == 0, 60, "the queue is empty")
    finally:
        broker.stop()


def test_a_control_store_whose_disk_is_full_says_so_and_keeps_what_it_had(disk_of: Callable[[int], Disk]) -> None:
    disk = disk_of(400)
    server = EmbeddedPostgres(disk.path / "postgres", {"max_wal_size": "64MB"})
    url = server.start()
    try:
        with ControlStore(url) as store:
            store.migrate()
            store.pipelines.pause("kept", "before")
            used = sum(path.stat().st_blocks * 512 for path in disk.path.rglob("*") if path.is_file())
            disk.grow((used >> 20) + 8)
            errors: list[Transient] = []
            names = map(str, itertools.count())

            def is_full() -> bool:
                try:
                    store.claims.put("p", next(names), os.urandom(1024 * 1024))
                except Transient as error:
                    errors.append(error)
                return bool(errors)

            eventually(is_full, 60, "the disk is full")
            assert "space" in str(errors[0]) or "control store" in str(errors[0])
            disk.grow(400)
            server.start()  # as the next `worker-sync up` does, if the server had to give up
            eventually(lambda: _answers(store), 60, "it answers again")
            assert store.pipelines.get("kept").detail == "before"
            store.claims.put("p", "after", b"x")
            assert store.claims.get("p", "after") == b"x"
    finally:
        server.stop()


def _answers(store: ControlStore) -> bool:
    try:
        store.ping()
    except Transient:
        return False
    return True


def test_a_log_whose_disk_is_full_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(logging.getLogger().handlers)
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails, as it should
    try:
        log.configure(Log(), stream=full)
        for number in range(1000):
            logging.getLogger("worker_sync").warning("line %d", number)
    finally:
        logging.getLogger().handlers[:] = before
        with pytest.raises(OSError, match="No space left"):
            full.close()
    assert "No space left on device" in capsys.readouterr().err
