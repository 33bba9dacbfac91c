"""Every process dies between every two steps that last, once each, under load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.failpoints import ROUTINE, Failpoint
from tests.faults.world import PATIENCE_S, Route, World, running_world
from tests.fixtures.fix_mysql import new_mysql_database
from tests.fixtures.fix_postgres import new_database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: Rows that are copied while the first failpoints strike.
ROWS = 100
#: What `make test` has time for: a few of each sort in one run. `make faults` tries all, each by itself.
IN_A_ROW = (
    "versions saved, no stream",
    "postgresql stream created, no checkpoint",
    "target table created, not fenced",
    "chunk read, not sent",
    "batch published",
    "checkpoint saved, source not confirmed",
    "postgresql: rows written, watermark not",
    "postgresql: committed, not acknowledged",
    "mysql: rows written, watermark not",
    "mongodb: rows written, not committed",
    "applied, message not acknowledged",
)
ARGUMENTS = {"worker": ("worker", "--queues", "sync,audit", "--grace", "1")}


@pytest.fixture
def world(
    postgres: str, mariadb: str, mongo_target: str, control_db: str, redis_url: str, tmp_path: Path
) -> Iterator[World]:
    """PostgreSQL into all three engines, MariaDB into PostgreSQL."""
    with (
        new_database(postgres, "source") as source,
        new_database(postgres, "reporting") as reporting,
        new_database(postgres, "lake") as lake,
        new_mysql_database(mariadb, "shop") as shop,
        new_mysql_database(mariadb, "mirror") as mirror,
    ):
        routes = [
            Route("source", "reporting", reporting),
            Route("source", "mirror", mirror),
            Route("source", "catalog", mongo_target),
            Route("shop", "lake", lake),
        ]
        origins = {"source": source, "shop": shop}
        with running_world(tmp_path, origins, routes, control_db, redis_url, rows=ROWS) as made:
            yield made


def strike(world: World, point: Failpoint) -> None:
    """Run the process that has the failpoint until it strikes."""
    source = "shop" if point.role == "capture" and point.engine == "mysql" else "source"
    arguments = ARGUMENTS.get(point.role, ("capture", source))
    world.strike(point.name, *arguments, seconds=PATIENCE_S)


def strike_all(world: World, names: Sequence[str]) -> None:
    """One after the other, those of captures first; then everything runs until all of it is through."""
    points = [ROUTINE[name] for name in names]
    captures = [point for point in points if point.role == "capture"]
    with world.traffic():
        worker = world.start(*ARGUMENTS["worker"])
        for point in captures:
            strike(world, point)
        world.captures()
        worker.kill()
        for point in points:
            if point.role == "worker":
                strike(world, point)
        world.start(*ARGUMENTS["worker"])
        world.await_loaded()
        world.await_news()
    world.assert_same()


def test_processes_that_die_between_two_of_their_steps_lose_and_double_nothing(world: World) -> None:
    strike_all(world, IN_A_ROW)


@pytest.mark.long
@pytest.mark.parametrize("name", ROUTINE)
def test_a_process_dies_at(world: World, name: str) -> None:
    strike_all(world, [name])
