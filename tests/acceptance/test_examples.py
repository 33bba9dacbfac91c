"""The files under examples/ load, and `check` finds nothing in their way."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.acceptance.test_pages import TABLES
from tests.fixtures.program import ROOT, worker_sync

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_passes_the_preflight(
    example: Path, source_db: str, target_db: str, mongo_target: str, redis_url: str
) -> None:
    with psycopg.connect(source_db) as connection:
        connection.execute(TABLES.encode())
    more = {
        "SOURCE_URL": source_db,
        "TARGET_URL": target_db,
        "MONGO_URL": mongo_target,
        "CONTROL_URL": target_db,
        "REDIS_URL": redis_url,
    }
    validated = worker_sync("config", "validate", config=example, more=more)
    assert validated.code == 0, validated
    checked = worker_sync("check", "--json", config=example, more=more)
    assert checked.code == 0, checked
    assert checked.json["ok"]
