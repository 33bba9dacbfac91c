"""A workload that nobody here wrote: pgbench and its tables as they are, one of them without a key."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import System, execute, is_mongo, marks_in, mongo, running_system
from tests.fixtures import fix_mysql
from tests.fixtures.fix_postgres import DEBIAN_15
from tests.fixtures.servers import unavailable
from worker_sync.store import ControlStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SCALE = 1
#: Seconds for the comparison of a target.
VERIFY_S = 300
TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers")
CAPTURE = {"batch_changes": 1000, "snapshot_rows": 2000}
#: By table: the columns that a transaction adds its amount to.
BALANCES = {"pgbench_accounts": "abalance", "pgbench_branches": "bbalance", "pgbench_tellers": "tbalance"}
HISTORY = "SELECT count(*), sum(delta), sum(1.0 * aid * delta + tid), count(DISTINCT mtime) FROM pgbench_history"
#: pgbench itself begins with an empty one, and a snapshot should have something to do.
OLD_HISTORY = (
    "INSERT INTO pgbench_history SELECT n % 20, n % 2, n % 5000, n % 7, now() FROM generate_series(1, 20000) n"
)
KEYS = {"pgbench_accounts": "aid", "pgbench_branches": "bid", "pgbench_tellers": "tid"}


@pytest.fixture
def pgbench() -> str:
    """The program; Debian's package of the server brings it."""
    found = str(DEBIAN_15 / "pgbench") if (DEBIAN_15 / "pgbench").exists() else shutil.which("pgbench")
    return found or unavailable("pgbench", "not installed")


@contextlib.contextmanager
def traffic(program: str, url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Four clients at a rate that leaves the machine room for the rest; they must not see one error."""
    command = [program, "-c", "4", "-T", "3000", "--rate", "60", *options, url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
        assert process.poll() is None, process.communicate()[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def copied(url: str, name: str, *tables: str) -> bool:
    """The snapshots of these tables are applied."""
    states = [{table for table, state in mark.snapshots.items() if state.done} for mark in marks_in(url, name)]
    return bool(states) and all(f"public.{table}" in state for state in states for table in tables)


def summary(url: str) -> dict[str, Any]:
    """Counts, sums and a few checksums of all tables, the same from every engine."""
    return _summary_of_documents(url) if is_mongo(url) else _summary_of_tables(url)


def _summary_of_tables(url: str) -> dict[str, Any]:
    ask = fix_mysql.run if url.startswith("mariadb") else execute
    found: dict[str, Any] = {}
    for table, column in BALANCES.items():
        [row] = ask(url, f"SELECT count(*), sum({column}), sum(1.0 * {column} * {KEYS[table]}) FROM {table}")
        found[table] = tuple(map(int, row))
    [row] = ask(url, HISTORY)
    return {**found, "pgbench_history": tuple(int(value or 0) for value in row)}


def _summary_of_documents(url: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with mongo(url) as database:
        for table, column in BALANCES.items():
            rows = [(one["_id"], one[column]) for one in database[table].find()]
            found[table] = (len(rows), sum(b for _, b in rows), sum(k * b for k, b in rows))
        history = list(database.pgbench_history.find())
    products = sum(one["aid"] * one["delta"] + one["tid"] for one in history)
    times = len({one["mtime"] for one in history})
    return {**found, "pgbench_history": (len(history), sum(one["delta"] for one in history), products, times)}


@pytest.fixture
def system(
    pgbench: str,
    source_db: str,
    target_db: str,
    mongo_target: str,
    mariadb_target: str,
    control_db: str,
    redis_url: str,
    tmp_path: Path,
) -> Iterator[System]:
    subprocess.run([pgbench, "-i", "-q", "-s", str(SCALE), source_db], check=True, capture_output=True)
    execute(source_db, OLD_HISTORY)
    targets = {"reporting": target_db, "catalog": mongo_target, "warehouse": mariadb_target}
    with running_system(tmp_path, source_db, targets, control_db, redis_url, CAPTURE) as made:
        yield made


def test_pgbench_arrives_whole_through_snapshots_and_kills(system: System, pgbench: str) -> None:
    with traffic(pgbench, system.source, "-n"):
        worker, capture = system.worker(), system.capture()
        # In the middle of copying the table without a key, which is the last one.
        system.until(
            lambda: copied(system.targets["reporting"], "reporting", *KEYS), "tables with keys are copied", 400
        )
        worker.kill()
        capture.kill()
        worker, capture = system.worker(), system.capture()
        system.until(
            lambda: all(copied(url, name, *TABLES) for name, url in system.targets.items()), "all is copied", 400
        )
        system.await_progress(200, 120)
        worker.kill()
        system.worker()
        system.await_progress(200, 120)
        capture.kill()
        system.capture()
        system.await_progress(200, 120)
        done = system.cli("resync", "reporting", "public.pgbench_history")
        assert done.code == 0, done.text
        with ControlStore(system.control) as store:
            system.until(lambda: store.signals.pending("source") == [], "the history is copied again", 240)
    with traffic(pgbench, system.source):
        # The history was emptied by pgbench itself.
        system.await_progress(200, 120)
    assert_verified(system)
    truth = summary(system.source)
    assert truth["pgbench_accounts"][0] == SCALE * 100_000
    assert truth["pgbench_history"][0] > 0
    for name, url in system.targets.items():
        assert summary(url) == truth, name


def assert_verified(system: System) -> None:
    """`worker-sync verify` finds no difference on any target. Not while pgbench runs: its two branches change with
    every transaction, so nothing can be said of them then."""
    for name in system.targets:
        command = system.start("verify", name, "--timeout", "180")
        code = command.process.wait(VERIFY_S)
        assert code == 0, command.text()
        assert all(table in command.text() for table in TABLES)
