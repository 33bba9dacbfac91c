"""Workloads that nobody here wrote, synced as they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.faults.harness import System, differences, execute, running_system
from tests.fixtures import fix_mysql
from tests.fixtures.servers import unavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TABLES = 4
ROWS = 2_000
RUN_S = 8
PATIENCE_S = 90.0


def sysbench(url: str, command: str, *options: str) -> None:
    program = shutil.which("sysbench")
    if program is None:
        unavailable("sysbench", "the program is not on this machine")
    parts = urlsplit(url)
    server = {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "db": parts.path.lstrip("/"),
    }
    done = subprocess.run(
        [
            program,
            "oltp_read_write",
            *(f"--mysql-{name}={value}" for name, value in server.items()),
            f"--tables={TABLES}",
            f"--table-size={ROWS}",
            *options,
            command,
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("server", ["mariadb", "mysql"])
def test_sysbench_reaches_both_other_engines(
    server: str,
    request: pytest.FixtureRequest,
    target_db: str,
    mongo_target: str,
    redis_url: str,
    control_db: str,
    tmp_path: Path,
) -> None:
    with fix_mysql.new_mysql_database(request.getfixturevalue(server), "source") as source:
        sysbench(source, "prepare")
        targets = {"reporting": target_db, "catalog": mongo_target}
        tuning = {"snapshot_rows": 500}
        with running_system(tmp_path, source, targets, control_db, redis_url, tuning, tables=["*"]) as it:
            capture, worker = it.capture(), it.worker()
            it.await_progress(100, PATIENCE_S)
            sysbench(source, "run", "--threads=4", f"--time={RUN_S}")
            capture.kill()
            it.capture()
            worker.kill()
            it.worker()
            sysbench(source, "run", "--threads=4", f"--time={RUN_S // 2}")
            it.assert_verified()
            compare(source, it)


def compare(source: str, system: System) -> None:
    """The tables of one target, key by key, by nobody's word but the servers'."""
    for number in range(1, TABLES + 1):
        query = f"SELECT id, k, c, pad FROM sbtest{number}"
        truth = {row[0]: row[1:] for row in fix_mysql.run(source, query)}
        found = {row[0]: row[1:] for row in execute(system.targets["reporting"], query)}
        assert truth
        assert differences(truth, found) == []
