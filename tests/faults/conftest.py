"""Systems to break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import TABLES, System, execute, running_system
from tests.fixtures.fix_postgres import new_database


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


@pytest.fixture
def tables(source_db: str) -> str:
    """The source with its two tables."""
    execute(source_db, TABLES)
    return source_db


@pytest.fixture
def system(
    tables: str, target_db: str, mongo_target: str, control_db: str, redis_url: str, tmp_path: Path
) -> Iterator[System]:
    """PostgreSQL into PostgreSQL and MongoDB."""
    targets = {"reporting": target_db, "catalog": mongo_target}
    with running_system(tmp_path, tables, targets, control_db, redis_url) as made:
        yield made
