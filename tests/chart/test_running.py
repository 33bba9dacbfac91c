"""What the chart would have a node run is run here, on real servers: the Job, every role with its probes, the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.orders import run
from tests.chart.rendering import Object, render
from tests.chart.running import pods_of, up
from tests.fixtures.fix_postgres import new_database
from worker_sync.embedded.server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.deploy, pytest.mark.timeout(600)]


@pytest.fixture
def objects(postgres: str, source_db: str, target_db: str, redis_url: str) -> Iterator[list[Object]]:
    with new_database(postgres, "control") as control:
        config: dict[str, Any] = {
            "control": "${CONTROL_URL}",
            "broker": "${BROKER_URL}",
            # As a variable and as a file.
            "databases": {"shop": {"url": "${SHOP_URL}"}, "reporting": {"url": "file:secrets/REPORTING_URL"}},
        }
        secrets = {"SHOP_URL": source_db, "REPORTING_URL": target_db, "CONTROL_URL": control, "BROKER_URL": redis_url}
        yield render(
            {
                "config": config,
                "secret": {"values": secrets},
                "flower": {"enabled": False},
                "exporter": {"port": free_port()},
                "tests": {"verify": True},
            }
        )


def test_what_the_chart_runs_carries_changes(objects: list[Object], source_db: str, tmp_path: Path) -> None:
    run(source_db, "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 50)")
    [job] = pods_of(objects, "Job", tmp_path)
    assert job.run() == ""
    with up(list(pods_of(objects, "Deployment", tmp_path))):
        run(source_db, "DELETE FROM orders WHERE id <= 10")
        assert [said for test in pods_of(objects, "Pod", tmp_path) if (said := test.run())] == []
