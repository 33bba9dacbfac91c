"""`up`: one command runs a configuration, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.acceptance import orders
from tests.acceptance.orders import arrives, run
from tests.fixtures.eventually import eventually
from tests.fixtures.program import simple_config, start, worker_sync, write_config
from tests.fixtures.servers import server_directory

pytestmark = pytest.mark.slow

STOPS_IN_SECONDS = 60
MARK = "WORKER_SYNC_CONFIG="


@pytest.fixture
def config(source_db: str, target_db: str) -> Iterator[Path]:
    """Control store and broker are left out, so that they are embedded under `state_dir`."""
    orders.create(source_db)
    with server_directory("up") as directory:
        yield write_config(directory / "worker-sync.yaml", simple_config(source_db, target_db, state_dir="state"))


@contextmanager
def running(config: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = config.with_name("up.log")
    process = start(["up", "-c", str(config)], log)
    try:
        yield process, log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPS_IN_SECONDS)
        finally:
            process.kill()
            process.wait()


def left_behind(config: Path) -> list[str]:
    """Processes that know our configuration or work below its directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes().decode(errors="replace")
                here = (entry / "cwd").readlink()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{MARK}{config}" in environment or here.is_relative_to(config.parent):
                found.append(f"{entry.name} {command}")
    return found


def test_a_changed_row_arrives_and_sigterm_leaves_no_process(config: Path, source_db: str, target_db: str) -> None:
    with running(config) as (process, log):
        arrives(target_db, 1, "one")
        run(source_db, "UPDATE orders SET item = 'changed' WHERE id = 1; INSERT INTO orders VALUES (2, 'two')")
        arrives(target_db, 2, "two")
        arrives(target_db, 1, "changed")
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOPS_IN_SECONDS) == 0, log.read_text()
    assert left_behind(config) == []
    assert "Traceback" not in log.read_text(), log.read_text()[-5000:]


def test_it_goes_on_where_it_was_after_being_killed(config: Path, source_db: str, target_db: str) -> None:
    with running(config) as (process, _):
        arrives(target_db, 1, "one")
        process.kill()
        process.wait()
        eventually(lambda: left_behind(config) == [], seconds=60, what="the children and servers end")
    run(source_db, "INSERT INTO orders VALUES (3, 'meanwhile')")
    with running(config):
        arrives(target_db, 3, "meanwhile")
        verified = worker_sync("verify", "shop-to-reporting", "--json", config=config)
        assert verified.json["ok"], verified
    assert left_behind(config) == []


def test_a_dropped_slot_ends_it_with_1_and_a_named_state(config: Path, source_db: str, target_db: str) -> None:
    with running(config) as (_, __):
        arrives(target_db, 1, "one")
    run(source_db, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
    with running(config) as (process, log):
        assert process.wait(STOPS_IN_SECONDS) == 1, log.read_text()
    said = log.read_text()
    assert "slot-missing" in said, said
    assert "worker-sync resync shop-to-reporting" in said, said
    assert "Traceback" not in said
    assert left_behind(config) == []


def test_a_killed_worker_is_started_again(config: Path, source_db: str, target_db: str) -> None:
    with running(config) as (_, log):
        arrives(target_db, 1, "one")
        for line in left_behind(config):
            if " worker " in line or line.endswith(" worker "):
                # One that was about to become the worker may have become it, or ended with it, in between.
                with suppress(ProcessLookupError):
                    os.kill(int(line.split()[0]), signal.SIGKILL)
        run(source_db, "INSERT INTO orders VALUES (4, 'after')")
        arrives(target_db, 4, "after")
        assert "starting again" in log.read_text()
    assert left_behind(config) == []
