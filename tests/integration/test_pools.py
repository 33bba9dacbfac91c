"""Workers on each pool: how they end, what they keep open, how much they take."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.running import Role
from tests.integration.worker_rig import Rig, worker_rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

POOLS = {"solo": 1, "threads": 2, "prefork": 2}
GRACE_S = 1.5
#: What an end takes beyond the grace, on a slow machine.
SPARE_S = 12.0
MEGABYTE = 1024 * 1024
#: Messages, each tried three times.
AGAIN = 20
#: What the forms of one message take while it is worked on, and what a worker's first task opens, are 17 MB.
MOST_KEPT = 30 * MEGABYTE


@pytest.fixture
def rig(postgres: str, target_db: str, redis_url: str, tmp_path: Path) -> Iterator[Rig]:
    with (
        new_database(postgres, "control") as control_url,
        worker_rig(tmp_path, control_url, target_db, redis_url) as rig,
    ):
        yield rig


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("pool", POOLS)
def test_what_is_unfinished_at_the_end_of_the_grace_goes_back_to_its_queue(rig: Rig, pool: str) -> None:
    rig.change({"workers": {"default": {"pool": pool, "concurrency": POOLS[pool]}}})
    worker = rig.worker(f"--grace={GRACE_S}")
    said = rig.directory / "said"
    for number in range(4):
        rig.send("trial.sleeps", str(said), number, 600.0)
    eventually(lambda: len(lines(said)) == POOLS[pool], 30)
    began = time.monotonic()
    assert worker.stop(60) == 0
    took = time.monotonic() - began
    assert GRACE_S <= took < GRACE_S + SPARE_S
    assert "action=handed-back" in worker.text()
    # All four wait in the queue, nothing waits for a worker that is gone.
    assert (rig.broker.llen("default"), rig.broker.hlen("unacked")) == (4, 0)
    assert not any(line.startswith("end") for line in lines(said))


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_that_end_within_the_grace_are_not_broken_off(rig: Rig, pool: str) -> None:
    rig.change({"workers": {"default": {"pool": pool, "concurrency": POOLS[pool]}}})
    worker = rig.worker("--grace=60")
    said = rig.directory / "said"
    for number in range(POOLS[pool]):
        rig.send("trial.sleeps", str(said), number, 2.0)
    eventually(lambda: len(lines(said)) == POOLS[pool], 30)
    assert worker.stop(60) == 0
    assert sorted(line for line in lines(said) if line.startswith("end")) == [f"end {n}" for n in range(POOLS[pool])]
    assert rig.waiting() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_ends_leaves_no_connection(rig: Rig, pool: str) -> None:
    rig.change({"workers": {"default": {"pool": pool, "concurrency": POOLS[pool]}}})
    before = rig.connections(rig.control_url)
    worker = rig.worker()
    said = rig.directory / "said"
    for number in range(6):
        rig.send("trial.uses", str(said), number)
    eventually(lambda: len(lines(said)) == 6, 30)
    assert rig.connections(rig.target_url) >= 1
    # At most one to the control store for each process, one to a target for each thread.
    assert rig.connections(rig.control_url) - before <= POOLS[pool]
    assert rig.connections(rig.target_url) <= POOLS[pool]
    assert worker.stop(60) == 0
    eventually(lambda: rig.connections(rig.control_url) == before and rig.connections(rig.target_url) == 0, 10)
    # In order, not by the end of the process: the last report is gone too.
    assert rig.control.reports.all("worker") == []


def test_a_replaced_process_of_a_pool_leaves_no_connection(rig: Rig) -> None:
    rig.change({"workers": {"default": {"pool": "prefork", "concurrency": 1, "max_tasks": 2}}})
    before = rig.connections(rig.control_url)
    rig.worker()
    said = rig.directory / "said"
    for number in range(8):
        rig.send("trial.uses", str(said), number)
    eventually(lambda: len(lines(said)) == 8, 60)
    assert len({line.split()[1] for line in lines(said)}) == 4
    eventually(lambda: rig.connections(rig.control_url) - before <= 1 and rig.connections(rig.target_url) <= 1, 10)


def test_a_process_that_took_too_much_memory_is_replaced(rig: Rig) -> None:
    rig.change({"workers": {"default": {"pool": "prefork", "concurrency": 1, "max_memory_mb": 200}}})
    rig.worker()
    said = rig.directory / "said"
    rig.send("trial.takes", str(said), 1)
    rig.send("trial.takes", str(said), 300)
    rig.send("trial.takes", str(said), 1)
    eventually(lambda: len(lines(said)) == 3, 60)
    first, second, third = lines(said)
    assert first == second != third


def test_a_killed_process_of_a_pool_gives_its_task_to_another(rig: Rig) -> None:
    rig.change({"workers": {"default": {"pool": "prefork", "concurrency": 1}}})
    rig.worker()
    said = rig.directory / "said"
    rig.send("trial.uses", str(said), 0)
    child = int(eventually(lambda: lines(said))[0].split()[1])
    rig.send("trial.sleeps", str(said), 1, 3.0)
    eventually(lambda: "begin 1" in lines(said))
    os.kill(child, 9)
    eventually(lambda: lines(said).count("begin 1") == 2 and "end 1" in lines(said), 60)
    eventually(lambda: rig.waiting() == 0)


def test_messages_that_come_again_are_not_kept(rig: Rig) -> None:
    worker = rig.worker()
    eventually(lambda: rig.waiting_clients() > 0, 30)
    before = resident(worker)
    for _ in range(AGAIN):
        rig.send("trial.carries", b"x" * MEGABYTE)
        eventually(lambda: rig.waiting() == 0, 30)
    assert resident(worker) - before < MOST_KEPT


def resident(role: Role) -> int:
    """Bytes of memory that the process holds."""
    return int(psutil.Process(role.process.pid).memory_info().rss)
