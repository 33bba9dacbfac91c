"""A target that is away while its source may keep no more log: batches go over the capture's disk and come back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig, rig, rows_of, same, settings_for
from tests.integration.test_retained_log import control_db, heals
from worker_sync.core.sections import Database, Spill
from worker_sync.core.settings import Settings
from worker_sync.store.pipelines import Status

__all__ = ["control_db"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MB = 1024 * 1024
LIMIT = 8 * MB
KEY = "an-integration-tests-key-of-some-length"
#: What stands in every row and must not stand on disk.
TOKEN = "find-me-if-you-can"
FILL = (
    "INSERT INTO items SELECT {first} + n, '" + TOKEN + "' || string_agg(md5(n::text || m), '') "
    "FROM generate_series(0, {rows} - 1) n, generate_series(1, 320) m GROUP BY n"
)


def settings(source: str, target: str, folder: Path, key: str = KEY, **pipeline: Any) -> Settings:
    tuning = {"window_bytes": 2 * MB, "batch_bytes": MB // 4, "confirm_every_s": 0.1}
    made = settings_for(source, target, ["public.items"], tuning, **pipeline)
    log = made.databases["source"].retained_log.model_validate({"limit_bytes": LIMIT, "policy": "spill"})
    made.databases["source"] = made.databases["source"].model_copy(update={"retained_log": log})
    spill = Spill.model_validate({"key": key, "directory": folder})
    return made.model_copy(update={"spill": spill})


@contextmanager
def stalled(source: str, target: str, control: str, folder: Path, **pipeline: Any) -> Iterator[Rig]:
    """A capture that has copied a row and whose target then takes nothing."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO items VALUES (-1, 'one')")
    with rig(settings(source, target, folder, **pipeline), control) as made:
        made.start()
        eventually(lambda: same(source, target, "items"), 60, "the row is copied")
        made.delivery.open.clear()
        yield made


def fill(source: str, first: int, rows: int) -> None:
    """Rows of ten kilobytes each, a hundred in a transaction."""
    with psycopg.connect(source, autocommit=True) as connection:
        for start in range(first, first + rows, 100):
            connection.execute(FILL.format(first=start, rows=100).encode())


def spilled(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.spill"))


def confirmed_behind(source: str) -> int:
    """Bytes of log that are not confirmed."""
    query = "SELECT (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint FROM pg_replication_slots"
    [(size,)] = rows_of(source, query + " WHERE database = current_database()")
    return int(size)


def spills(source: str, folder: Path, rows: int = 2000) -> None:
    """Fill the window, then more, until it stands on disk and is confirmed."""
    fill(source, 0, rows)
    eventually(lambda: confirmed_behind(source) < 4 * MB, 90, "the source's log is confirmed")
    assert sum(path.stat().st_size for path in spilled(folder)) > rows * 10_000 / 4


def comes_back(made: Rig, source: str, target: str, folder: Path) -> None:
    made.delivery.open.set()
    eventually(lambda: same(source, target, "items"), 120, "everything arrives")
    eventually(lambda: spilled(folder) == [], 30, "the files are gone")


@pytest.mark.parametrize("shards", [pytest.param(1, marks=pytest.mark.long), 3])
def test_what_a_target_does_not_take_is_confirmed_from_disk_and_arrives(
    source_db: str, target_db: str, control_db: str, tmp_path: Path, shards: int
) -> None:
    with stalled(source_db, target_db, control_db, tmp_path, shards=shards) as made:
        spills(source_db, tmp_path)
        assert same(source_db, target_db, "items") is False
        assert all(TOKEN.encode() not in path.read_bytes() for path in spilled(tmp_path))
        [report] = made.store.reports.all("capture")
        assert report.status["spill"]["active"] is True
        with psycopg.connect(source_db, autocommit=True) as connection:
            connection.execute("UPDATE items SET name = 'newest' WHERE id % 7 = 0")
            connection.execute("DELETE FROM items WHERE id % 11 = 0")
        comes_back(made, source_db, target_db, tmp_path)
        fill(source_db, 50_000, 100)
        eventually(lambda: same(source_db, target_db, "items"), 60, "it goes on without the disk")
        assert spilled(tmp_path) == []


def test_a_few_changes_of_a_quiet_table_do_not_hold_the_log_of_a_busy_server(
    source_db: str, target_db: str, control_db: str, tmp_path: Path
) -> None:
    with stalled(source_db, target_db, control_db, tmp_path) as made, psycopg.connect(source_db) as connection:
        connection.autocommit = True
        connection.execute("CREATE TABLE others (body text)")
        for number in range(2):
            connection.execute("INSERT INTO items VALUES (%s, 'few')", [number])
            connection.execute(
                f"INSERT INTO others SELECT repeat('x', 1500) FROM generate_series(1, {2 * LIMIT // 1500})"
            )
            eventually(lambda: confirmed_behind(source_db) < LIMIT // 2, 90, "the source's log is confirmed")
        [report] = made.store.reports.all("capture")
        assert (report.status["spill"]["active"], same(source_db, target_db, "items")) == (True, False)
        made.stop()
        made.delivery.lose_all()
        made.start()
        connection.execute("INSERT INTO items VALUES (2, 'more')")
        comes_back(made, source_db, target_db, tmp_path)
        eventually(
            lambda: not made.store.reports.all("capture")[0].status["spill"]["active"],
            30,
            "it goes on without the disk",
        )


@pytest.mark.long
def test_another_capture_takes_the_spill_over(source_db: str, target_db: str, control_db: str, tmp_path: Path) -> None:
    with stalled(source_db, target_db, control_db, tmp_path) as made:
        spills(source_db, tmp_path)
        for first in (10_000, 20_000):
            made.stop()
            made.delivery.lose_all()
            made.start()
            fill(source_db, first, 300)
        comes_back(made, source_db, target_db, tmp_path)


@pytest.mark.long
def test_a_paused_pipeline_finds_its_spill_again(
    source_db: str, target_db: str, control_db: str, tmp_path: Path
) -> None:
    with stalled(source_db, target_db, control_db, tmp_path) as made:
        spills(source_db, tmp_path)
        made.store.pipelines.pause("p")
        time.sleep(1)
        made.delivery.lose_all()
        fill(source_db, 10_000, 300)
        made.store.pipelines.resume("p")
        comes_back(made, source_db, target_db, tmp_path)


@pytest.mark.long
def test_a_lost_key_is_named_and_with_the_key_back_nothing_is_lost(
    source_db: str, target_db: str, control_db: str, tmp_path: Path
) -> None:
    with stalled(source_db, target_db, control_db, tmp_path) as made:
        spills(source_db, tmp_path)
        made.stop()
        right = made.settings
        for wrong in (settings(source_db, target_db, tmp_path, KEY[::-1]), right.model_copy(update={"spill": None})):
            made.settings = wrong
            made.start()
            eventually(lambda: not made.running, 60, "the capture ends")
            assert made.store.pipelines.get("p").reason == "spill-locked"
            made.store.pipelines.resume("p")
        made.settings = right
        made.delivery.lose_all()
        made.start()
        comes_back(made, source_db, target_db, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("accident", ["all", "first", "torn"])
def test_spilled_batches_that_are_gone_are_named_and_resync_heals(
    source_db: str, target_db: str, control_db: str, tmp_path: Path, accident: str
) -> None:
    with stalled(source_db, target_db, control_db, tmp_path) as made:
        spills(source_db, tmp_path)
        made.stop()
        path = spilled(tmp_path)[0]
        if accident == "torn":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            for each in spilled(tmp_path) if accident == "all" else [path]:
                each.unlink()
        made.start()
        eventually(lambda: not made.running, 60, "the capture ends")
        standing = made.store.pipelines.get("p")
        assert (standing.status, standing.reason) == (Status.HALTED, "spill-lost")
        assert "worker-sync resync p" in standing.recovery
        heals(made, source_db, target_db)
        assert spilled(tmp_path) == []


def test_a_disk_that_is_full_holds_and_goes_on_once_there_is_room(
    source_db: str, target_db: str, control_db: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"only root can mount a small file system here: {done.stderr.strip()}")
    try:
        with stalled(source_db, target_db, control_db, disk) as made:
            fill(source_db, 0, 2000)
            full = ("spill-full", "No space left on device")
            eventually(
                lambda: any(full[0] == getattr(r, "action", "") and full[1] in r.getMessage() for r in caplog.records),
                60,
                "the disk is full",
            )
            eventually(lambda: made.store.reports.all("capture")[0].status["spill"]["full"], 20, "it says so")
            assert made.store.pipelines.get("p").status is Status.RUNNING
            assert confirmed_behind(source_db) > 4 * MB
            subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
            eventually(lambda: confirmed_behind(source_db) < 4 * MB, 60, "what waited is confirmed")
            comes_back(made, source_db, target_db, disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.long
def test_memory_stays_bounded_while_batches_go_over_the_disk(
    source_db: str, target_db: str, control_db: str, tmp_path: Path
) -> None:
    with stalled(source_db, target_db, control_db, tmp_path) as made:
        spills(source_db, tmp_path)
        memory = psutil.Process()
        before = memory.memory_info().rss
        fill(source_db, 10_000, 5000)
        eventually(lambda: confirmed_behind(source_db) < 4 * MB, 90, "the source's log is confirmed")
        assert memory.memory_info().rss - before < 40 * MB
        comes_back(made, source_db, target_db, tmp_path)
        assert memory.memory_info().rss - before < 80 * MB


@pytest.mark.long
def test_only_the_pipeline_whose_target_is_away_spills(
    source_db: str, target_db: str, control_db: str, tmp_path: Path, postgres: str
) -> None:
    with stalled(source_db, target_db, control_db, tmp_path) as made, new_database(postgres, "second") as second:
        made.stop()
        databases = {**made.settings.databases, "second": Database.model_validate({"url": second})}
        pipeline = made.settings.pipelines["p"].model_copy(update={"target": "second"})
        pipeline._name = "q"
        databases["second"]._name = "second"
        pipelines = {**made.settings.pipelines, "q": pipeline}
        made.settings = made.settings.model_copy(update={"databases": databases, "pipelines": pipelines})
        made.delivery.use(made.settings)
        made.delivery.away = frozenset({"p"})
        made.delivery.open.set()
        made.start()
        eventually(lambda: same(source_db, second, "items"), 60, "the second target has its copy")
        spills(source_db, tmp_path)
        eventually(lambda: same(source_db, second, "items"), 60, "the second target has everything")
        assert not same(source_db, target_db, "items")
        assert {path.parent.name for path in spilled(tmp_path)} == {"p.0"}
        made.delivery.away = frozenset()
        comes_back(made, source_db, target_db, tmp_path)
