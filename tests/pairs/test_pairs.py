"""Every engine into every engine: snapshot under traffic, streaming, kills and restarts, then key by key the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.faults.harness import System, differences, running_system
from tests.pairs.documents import MongoLab
from tests.pairs.lab import IDS, Lab, LabTraffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Server by server; the versions of an engine share its rows of the nine.
PAIRS = [
    ("postgres15", "postgres"),
    ("postgres", "mongodb"),
    ("postgres", "mariadb"),
    ("mariadb", "postgres"),
    ("mysql", "postgres15"),
    ("mariadb", "mysql"),
    ("mysql", "mongodb"),
    ("mongodb", "postgres"),
    ("mongodb", "mysql"),
    ("mongodb", "mongodb"),
]
PIPELINE = "pair"
TUNING = {"snapshot_rows": 50}
PATIENCE_S = 90.0


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda value: value)
def test_a_pair_stays_in_step_through_kills_and_restarts(
    source: str,
    target: str,
    make_lab: Callable[[str, str], Lab],
    control_db: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    origin, copy = make_lab(source, "source"), make_lab(target, "target")
    origin.create()
    origin.fill(range(0, IDS, 2))
    tables = list(origin.selects)
    with running_system(
        tmp_path, origin.url, {PIPELINE: copy.url}, control_db, redis_url, TUNING, tables=tables
    ) as system:
        with LabTraffic(origin):
            kill_everything(system)
            flush_and_restart(system)
        system.assert_verified()
    of_documents = isinstance(origin, MongoLab)
    for table in ("items", "tags"):
        truth = origin.rows(table, of_documents=of_documents)
        assert truth
        assert differences(truth, copy.rows(table, of_documents=of_documents)) == [], table


def kill_everything(system: System) -> None:
    """Both processes, in the middle of the snapshot and of the traffic behind it."""
    capture, worker = system.capture(), system.worker()
    system.await_progress(100, PATIENCE_S)
    capture.kill()
    capture = system.capture()
    system.await_progress(100, PATIENCE_S)
    worker.kill()
    system.worker()
    system.until(system.loaded, "the snapshot is complete", PATIENCE_S)
    capture.kill()
    system.capture()
    system.await_progress(100, PATIENCE_S)


def flush_and_restart(system: System) -> None:
    """A wiped broker, then an orderly restart of both processes."""
    with redis.Redis.from_url(system.broker) as broker:
        broker.flushall()
    system.await_progress(100, PATIENCE_S)
    for role in [role for role in system.roles if role.process.poll() is None]:
        assert role.stop() == 0, role.text()
    system.capture()
    system.worker()
    system.await_progress(100, PATIENCE_S)
