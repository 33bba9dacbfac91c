"""A real Prometheus scrapes a running system: every dashboard query finds data, every rule works."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance import orders
from tests.alerts.test_dashboards import all_queries
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_prometheus import Prometheus, Scraping
from tests.fixtures.fix_proxy import ProxyTo
from tests.fixtures.program import simple_config, start, write_config
from tests.fixtures.servers import free_port, server_directory

pytestmark = pytest.mark.slow

SECONDS = 120
#: What is due once a minute or a day comes at once.
OFTEN = {"audit-checkpoint": 2.0, "audit-verification": 3.0, "health-check": 2.0}


@contextmanager
def system(source: str, target: str, control: str, broker: str) -> Iterator[str]:
    """Where the exporter of a running system listens that has a pipeline and an audit trail."""
    port = free_port()
    with server_directory("scraped") as directory:
        config = write_config(
            directory / "worker-sync.yaml",
            simple_config(
                source,
                target,
                control=control,
                broker=broker,
                state_dir="state",
                audit={"shop": {"tables": ["public.*"]}},
                # Nobody listens there, which must not matter.
                tracing={"endpoint": "http://127.0.0.1:9"},
                exporter={"port": int(port)},
                schedules={name: {"every_s": every_s} for name, every_s in OFTEN.items()},
            ),
        )
        orders.create(source)
        process = start(["up", "-c", str(config)], directory / "up.log")
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def test_every_dashboard_query_finds_data_and_every_rule_works(
    source_db: str, target_db: str, postgres: str, redis_url: str, prometheus_of: Scraping
) -> None:
    with new_database(postgres, "control") as control, system(source_db, target_db, control, redis_url) as exporter:
        orders.arrives(target_db, 1, "one")
        orders.run(target_db, "ALTER TABLE orders ADD CHECK (item <> 'refused')")
        orders.run(source_db, "INSERT INTO orders VALUES (2, 'refused'), (3, 'three')")
        prometheus = prometheus_of(exporter)
        assert without_data(prometheus, all_queries()) == set()
        assert [rule for rule in rules(prometheus) if rule["health"] != "ok" or rule.get("lastError")] == []
        assert prometheus.query('queue_workers{queue="sync"}')[0]["value"][1] == "1"
        eventually(lambda: firing(prometheus) == {"DeadLettersGrowing"}, SECONDS, "the letter, and nothing else, fires")
        assert prometheus.query('ALERTS{severity="critical"}') == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_database_that_is_away_raises_its_alerts_until_it_is_back(
    source_db: str, target_db: str, postgres: str, redis_url: str, prometheus_of: Scraping, proxy_to: ProxyTo
) -> None:
    expected = {"SystemUnreachable", "DatabaseConnectionFailures", "SyncStalled"}
    door = proxy_to(target_db)
    with new_database(postgres, "control") as control, system(source_db, door.url, control, redis_url) as exporter:
        prometheus = prometheus_of(exporter)
        orders.arrives(target_db, 1, "one")
        without_data(prometheus, ["breaker_state", "health_ok"])
        door.cut()
        eventually(lambda: firing(prometheus) >= expected, 300, "the alerts fire")
        door.restore()
        eventually(lambda: not firing(prometheus) & expected, 300, "the alerts end")


def without_data(prometheus: Prometheus, queries: list[str]) -> set[str]:
    """The queries that find nothing within the time."""
    missing = set(queries)
    until = time.monotonic() + SECONDS
    while missing and time.monotonic() < until:
        missing.difference_update({query for query in missing if prometheus.query(query)})
        time.sleep(0.1)
    return missing


def rules(prometheus: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]


def firing(prometheus: Prometheus) -> set[str]:
    return {series["metric"]["alertname"] for series in prometheus.query('ALERTS{alertstate="firing"}')}
