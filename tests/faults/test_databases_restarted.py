"""Databases that crash under the load: source, target, control store."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import TABLES, System, changes_in, execute, running_system
from tests.faults.load import Load
from tests.fixtures.eventually import eventually
from worker_sync.embedded import EmbeddedMongo, EmbeddedPostgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(params=["source", "target", "control"])
def fragile(
    request: pytest.FixtureRequest,
    own_postgres: EmbeddedPostgres,
    source_db: str,
    target_db: str,
    mongo_target: str,
    control_db: str,
    redis_url: str,
    tmp_path: Path,
) -> Iterator[System]:
    """A system of which one PostgreSQL is a durable server of its own."""
    urls = {"source": source_db, "target": target_db, "control": control_db, request.param: own_postgres.url}
    execute(urls["source"], TABLES)
    targets = {"reporting": urls["target"], "catalog": mongo_target}
    with running_system(tmp_path, urls["source"], targets, urls["control"], redis_url) as made:
        yield made


def stop_at_once(server: EmbeddedPostgres) -> None:
    """`pg_ctl stop -m immediate`: a crash as far as the data is concerned."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGQUIT)
    eventually(lambda: server.pid is None, what="the server is gone")


def test_a_postgresql_that_crashes_under_load_is_waited_for(fragile: System, own_postgres: EmbeddedPostgres) -> None:
    with Load(fragile.source):
        capture, worker = fragile.capture(), fragile.worker()
        for _ in range(2):
            fragile.await_progress(50, 90)
            stop_at_once(own_postgres)
            own_postgres.start()
        fragile.await_progress(50, 90)
    fragile.assert_same()
    assert capture.process.poll() is None
    assert worker.process.poll() is None


def test_a_mongodb_that_is_killed_under_load_is_waited_for(
    tables: str, own_mongodb: EmbeddedMongo, control_db: str, redis_url: str, tmp_path: Path
) -> None:
    catalog = own_mongodb.url.replace("/?", "/catalog?")
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(running_system(tmp_path, tables, {"catalog": catalog}, control_db, redis_url))
        with Load(system.source):
            system.capture()
            system.worker()
            for _ in range(2):
                system.await_progress(50, 90)
                own_mongodb.kill()
                own_mongodb.start()
            system.await_progress(50, 90)
        system.assert_same()


@pytest.mark.parametrize("fragile", ["target"], indirect=True)
def test_a_target_that_is_away_at_the_start_holds_up_nobody_else(
    fragile: System, own_postgres: EmbeddedPostgres
) -> None:
    done = fragile.cli("init")
    assert done.code == 0, done.text
    stop_at_once(own_postgres)
    with Load(fragile.source):
        capture, _ = fragile.capture(), fragile.worker()
        catalog = fragile.targets["catalog"]
        fragile.until(lambda: changes_in(catalog, "catalog") > 200, "the other pipeline goes on", 90)
        assert "the other pipelines go on without it" in capture.text()
        own_postgres.start()
        fragile.until(lambda: changes_in(fragile.targets["reporting"], "reporting") > 200, "it is back", 90)
    fragile.assert_same()
