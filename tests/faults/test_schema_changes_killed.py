"""Captures and workers that are killed in the middle of a change of a table, under load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.harness import System, execute, running_system
from tests.faults.load import Load, fill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ADD = "ALTER TABLE items ADD COLUMN extra text DEFAULT 'given'"
RETYPE = "ALTER TABLE items ALTER COLUMN extra DROP DEFAULT, ALTER COLUMN extra TYPE int USING length(extra)"
RENAME = "ALTER TABLE items RENAME COLUMN extra TO more"
DROP = "ALTER TABLE items DROP COLUMN {}"
WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND application_name = 'worker-sync' AND query LIKE 'ALTER TABLE%'"
)


@pytest.fixture
def following(
    tables: str, target_db: str, mongo_target: str, control_db: str, redis_url: str, tmp_path: Path
) -> Iterator[System]:
    """PostgreSQL into PostgreSQL and MongoDB, with `schema_changes: apply`."""
    targets = {"reporting": target_db, "catalog": mongo_target}
    with running_system(tmp_path, tables, targets, control_db, redis_url, schema_changes="apply") as made:
        fill(tables, 300)
        yield made


@pytest.fixture
def simple(tables: str, target_db: str, control_db: str, redis_url: str, tmp_path: Path) -> Iterator[System]:
    """The same with one target."""
    targets = {"reporting": target_db}
    with running_system(tmp_path, tables, targets, control_db, redis_url, schema_changes="apply") as made:
        fill(tables, 300)
        yield made


@contextlib.contextmanager
def held(url: str) -> Iterator[None]:
    """Rows can be written, but the table can't be altered."""
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE items IN ACCESS SHARE MODE")
        yield


def columns(url: str) -> dict[str, str]:
    rows = execute(
        url,
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped",
    )
    return dict(rows)


def alters(system: System) -> None:
    reporting = system.targets["reporting"]
    system.until(lambda: columns(reporting) == columns(system.source), "the target is altered", 150)


def test_kills_around_schema_changes_leave_both_sides_equal(following: System) -> None:
    """Of the capture: while the target is being altered, right after it was, and before the change is noticed."""
    system, reporting = following, following.targets["reporting"]
    system.worker()
    capture = system.capture()
    system.until(system.loaded, "the tables are copied", 120)
    with Load(system.source):
        with held(reporting):
            execute(system.source, ADD)
            system.until(lambda: execute(reporting, WAITING), "the target is being altered", 120)
            capture.kill()
            capture = system.capture()
        alters(system)
        capture.kill()
        execute(system.source, RETYPE, RENAME)
        capture = system.capture()
        alters(system)
        execute(system.source, DROP.format("more"))
        capture.kill()
        system.capture()
        alters(system)
        system.await_progress(20, 150)
    system.assert_same()


def test_workers_killed_around_schema_changes_leave_both_sides_equal(simple: System) -> None:
    system, reporting = simple, simple.targets["reporting"]
    worker = system.worker()
    system.capture()
    system.until(system.loaded, "the tables are copied", 120)
    with Load(system.source):
        for change in (ADD, RETYPE):
            with held(reporting):
                execute(system.source, change)
                system.until(lambda: execute(reporting, WAITING), "the target is being altered", 120)
                worker.kill()
            worker = system.worker()
            alters(system)
        worker.kill()
        execute(system.source, DROP.format("extra"))
        system.worker()
        alters(system)
        system.await_progress(20, 150)
    system.assert_same()
