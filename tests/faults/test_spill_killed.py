"""Captures killed while batches go over their disk, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.faults.failpoints import READING_BACK, SPILLING
from tests.faults.harness import System, execute, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MB = 1024 * 1024
SMALL = {"window_bytes": MB, "batch_bytes": MB // 8, "window_batches": 16}
BEHIND = "SELECT (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint FROM pg_replication_slots WHERE database = "
FILL = (
    "INSERT INTO items SELECT n, 'row', n, string_agg(md5(n::text || m), '') "
    "FROM generate_series({0}, {0} + 99) n, generate_series(1, 100) m GROUP BY n"
)


@pytest.fixture
def spilling(tables: str, target_db: str, control_db: str, redis_url: str, tmp_path: Path) -> Iterator[System]:
    """PostgreSQL into PostgreSQL; the source may keep a megabyte of log."""
    with running_system(tmp_path, tables, {"reporting": target_db}, control_db, redis_url, SMALL) as made:
        databases = yaml.safe_load(made.config.read_text())["databases"]
        databases["source"]["retained_log"] = {"limit_bytes": MB, "policy": "spill"}
        made.change({"databases": databases, "spill": {"key": "a-fault-tests-key-which-is-long-enough"}})
        yield made


def behind(system: System) -> int:
    [(size,)] = execute(system.source, BEHIND + "current_database()")
    return int(size)


def killed_while_spilling(system: System, times: int) -> None:
    folder = system.config.parent / "state/spill"
    execute(system.source, FILL.format(0))
    capture, worker = system.capture(), system.worker()
    system.until(system.loaded, "the rows are copied", 90)
    worker.kill()
    row = 1000
    for turn in range(times):
        # Killed before, while, and after what is written now is on disk.
        for _ in range(10):
            execute(system.source, FILL.format(row))
            row += 100
        if turn % 3:
            system.until(lambda: behind(system) < MB, "it is confirmed from disk", 90)
        capture.kill()
        capture = system.capture()
    system.until(lambda: behind(system) < MB, "all of it is confirmed from disk", 90)
    assert list(folder.rglob("*.spill"))
    execute(system.source, "UPDATE items SET name = 'newest' WHERE id % 5 = 0", "DELETE FROM items WHERE id % 7 = 0")
    worker = system.worker()
    for _ in range(times):
        system.await_progress(100, 90)
        capture.kill()
        capture = system.capture()
    system.assert_same()
    system.until(lambda: not list(folder.rglob("*.spill")), "the files are gone", 30)
    assert all("Traceback" not in role.text() for role in system.roles)


def test_captures_killed_while_they_spill_and_replay_lose_and_double_nothing(spilling: System) -> None:
    killed_while_spilling(spilling, 2)


@pytest.mark.long
def test_captures_killed_twenty_times_while_they_spill_and_replay(spilling: System) -> None:
    killed_while_spilling(spilling, 20)


@pytest.mark.long
@pytest.mark.parametrize("name", [point.name for point in (*SPILLING, *READING_BACK)])
def test_a_capture_that_dies_at_a_step_of_spilling_loses_and_doubles_nothing(spilling: System, name: str) -> None:
    execute(spilling.source, FILL.format(0))
    capture, worker = spilling.capture(), spilling.worker()
    spilling.until(spilling.loaded, "the rows are copied", 90)
    worker.kill()
    back = name in {point.name for point in READING_BACK}
    if not back:
        capture.kill()
    for row in range(1000, 4000, 100):
        execute(spilling.source, FILL.format(row))
    if back:
        spilling.until(lambda: behind(spilling) < MB, "it is confirmed from disk", 90)
        capture.kill()
        spilling.worker()
    spilling.strike(name, "capture", "source")
    spilling.capture()
    if not back:
        spilling.until(lambda: behind(spilling) < MB, "it is confirmed from disk", 90)
        spilling.worker()
    execute(spilling.source, "UPDATE items SET name = 'newest' WHERE id % 5 = 0", "DELETE FROM items WHERE id % 7 = 0")
    spilling.assert_same()
    spilling.until(
        lambda: not list((spilling.config.parent / "state/spill").rglob("*.spill")), "the files are gone", 30
    )
