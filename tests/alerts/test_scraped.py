"""A real Prometheus scrapes a running system: every dashboard query finds data, every rule works."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance import orders
from tests.alerts.test_dashboards import all_queries
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_prometheus import Prometheus, Scraping
from tests.fixtures.program import simple_config, start, write_config
from tests.fixtures.servers import free_port, server_directory

pytestmark = pytest.mark.slow

SECONDS = 120
#: What is due once a minute or a day comes at once.
OFTEN = {"audit-checkpoint": 2.0, "audit-verification": 3.0, "health-check": 2.0}


@pytest.fixture
def target(source_db: str, target_db: str, postgres: str, redis_url: str) -> Iterator[str]:
    """Where the exporter of a system listens that has a pipeline, an audit trail and a dead letter."""
    port = free_port()
    with new_database(postgres, "control") as control, server_directory("scraped") as directory:
        config = write_config(
            directory / "worker-sync.yaml",
            simple_config(
                source_db,
                target_db,
                control=control,
                broker=redis_url,
                state_dir="state",
                audit={"shop": {"tables": ["public.*"]}},
                exporter={"port": int(port)},
                schedules={name: {"every_s": every_s} for name, every_s in OFTEN.items()},
            ),
        )
        orders.create(source_db)
        log = directory / "up.log"
        process = start(["up", "-c", str(config)], log)
        try:
            orders.arrives(target_db, 1, "one")
            orders.run(target_db, "ALTER TABLE orders ADD CHECK (item <> 'refused')")
            orders.run(source_db, "INSERT INTO orders VALUES (2, 'refused'), (3, 'three')")
            orders.arrives(target_db, 3, "three")
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def test_every_dashboard_query_finds_data_and_every_rule_works(target: str, prometheus_of: Scraping) -> None:
    prometheus = prometheus_of(target)
    missing = set(all_queries())

    def all_found() -> bool:
        missing.difference_update({query for query in missing if prometheus.query(query)})
        return not missing

    try:
        eventually(all_found, SECONDS, "every query finds data")
    except AssertionError:
        assert missing == set()
    assert [rule for rule in rules(prometheus) if rule["health"] != "ok" or rule.get("lastError")] == []
    assert prometheus.query('queue_workers{queue="sync"}')[0]["value"][1] == "1"
    eventually(
        lambda: alerts(prometheus, 'alertstate="firing"') == {"DeadLettersGrowing"}, SECONDS, "nothing else fires"
    )
    assert alerts(prometheus, 'severity="critical"') == set()


def rules(prometheus: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]


def alerts(prometheus: Prometheus, which: str) -> set[str]:
    """The names of alerts that are pending or fire."""
    return {series["metric"]["alertname"] for series in prometheus.query(f"ALERTS{{{which}}}")}
