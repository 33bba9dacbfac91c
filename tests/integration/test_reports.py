"""Workers say that they are there, also before their first task, and how their tasks end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.worker_rig import Rig, worker_rig
from worker_sync.store.reports import Report

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def rig(postgres: str, target_db: str, redis_url: str, tmp_path: Path) -> Iterator[Rig]:
    with (
        new_database(postgres, "control") as control_url,
        worker_rig(tmp_path, control_url, target_db, redis_url) as rig,
    ):
        yield rig


def reports(rig: Rig, count: int) -> list[Report]:
    return eventually(
        lambda: found if len(found := rig.control.reports.all("worker")) == count else [], 60, f"{count} reports"
    )


@pytest.mark.long
@pytest.mark.parametrize(("pool", "processes"), [("solo", 1), ("threads", 1), ("prefork", 2)])
def test_an_idle_worker_reports_each_process_that_runs_tasks(rig: Rig, pool: str, processes: int) -> None:
    rig.change({"workers": {"default": {"pool": pool, "concurrency": 1 if pool == "solo" else 2}}})
    worker = rig.worker()
    found = reports(rig, processes)
    parent = worker.process.pid
    children = {child.pid for child in psutil.Process(parent).children()}
    assert {int(report.process.rpartition(":")[2]) for report in found} == (children if processes == 2 else {parent})
    assert {tuple(report.status["queues"]) for report in found} == {("default",)}
    assert all(report.status["usage"]["memory_bytes"] > 10_000_000 for report in found)
    assert worker.stop(60) == 0
    assert rig.control.reports.all("worker") == []


def test_tries_are_counted_by_what_came_of_them(rig: Rig) -> None:
    rig.worker()
    for kind in ("transient", "permanent", "fenced"):
        rig.send("trial.fails", kind)
    rig.send("trial.uses", str(rig.directory / "said"), 1)
    expected = [
        ["trial.fails", "", "failed", 2],
        ["trial.fails", "", "retried", 2],
        ["trial.uses", "", "succeeded", 1],
    ]
    eventually(lambda: [report.status["tasks"] for report in reports(rig, 1)] == [expected], 60, "the counts")
