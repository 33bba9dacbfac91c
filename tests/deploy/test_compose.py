"""`docker compose up` on a machine that has nothing: pipelines run, heal, and are watched; `down` leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from base64 import b64encode
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.browser import picture_of, text_of
from tests.deploy.composed import ANYWHERE, SECONDS, Composed, composed
from tests.deploy.engine import Engine
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_prometheus import Prometheus

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1800)]

#: By pipeline: the table of its source that is written to here.
PIPELINES: Final = {
    "shop-to-warehouse": "public.orders",
    "shop-to-search": "public.orders",
    "billing-to-reporting": "billing.invoices",
    "catalog-to-reporting": "products",
}
ONCE: Final = ("credentials", "seed", "init")
#: Bytes of a picture with something on it.
SOMETHING: Final = 30_000

ORDERS: Final = """
    INSERT INTO orders (customer, amount, note) SELECT 1, n, 'tested' FROM generate_series(1, 300) n;
    UPDATE orders SET note = note || ', again' WHERE id % 3 = 0;
    DELETE FROM orders WHERE id % 7 = 0
"""
INVOICES: Final = (
    "INSERT INTO invoices (customer, total) SELECT 2, total + 1 FROM invoices; DELETE FROM invoices LIMIT 9"
)
PRODUCTS: Final = """
from pymongo import MongoClient
password = open("/run/worker-sync/databases").read()
with MongoClient("mongodb", username="worker_sync", password=password, replicaSet="rs0") as client:
    products = client.catalog.products
    products.insert_many([{"name": f"tested {n}"} for n in range(200)])
    products.update_many({"price": {"$lt": 20}}, {"$set": {"price": 20.5}})
    products.delete_many({"_id": {"$in": [290, 291]}})
"""


def write(system: Composed) -> None:
    """Rows in every source, by the servers' own clients where they have one."""
    system.exec("postgres", "psql", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-qc", ORDERS, "shop")
    system.exec("mariadb", "mariadb", "--defaults-file=/run/worker-sync/mariadb.cnf", "billing", "-e", INVOICES)
    system.exec(ANYWHERE, "python", "-c", PRODUCTS)


def rows(system: Composed, *pipelines: str) -> dict[str, int]:
    """How many rows the pipelines' tables have, in the source and, once all is applied, in the target."""
    found = {}
    for pipeline in pipelines:
        system.worker_sync("wait", pipeline, "--timeout", "120")
        [compared] = [
            one
            for one in json.loads(system.worker_sync("verify", pipeline, "--json"))["tables"]
            if one["table"] == PIPELINES[pipeline]
        ]
        assert compared["source_rows"] == compared["target_rows"], compared
        found[pipeline] = int(compared["source_rows"])
    return found


def test_rows_that_are_written_to_the_sources_appear_in_the_targets(system: Composed) -> None:
    states = system.services()
    assert {name: states.pop(name) for name in ONCE} == dict.fromkeys(ONCE, "exited 0")
    assert states == dict.fromkeys(states, "healthy")
    assert rows(system, "shop-to-search", "catalog-to-reporting") == {
        "shop-to-search": 1000,
        "catalog-to-reporting": 300,
    }
    write(system)
    after = rows(system, *PIPELINES)
    assert after == {
        "shop-to-warehouse": 1300 - 1300 // 7,
        "shop-to-search": 1300 - 1300 // 7,
        "billing-to-reporting": 1000 - 9,
        "catalog-to-reporting": 300 + 200 - 2,
    }


def test_nobody_is_root_and_nothing_of_an_image_can_be_written(system: Composed) -> None:
    for container in system.compose("ps", "--quiet").split():
        found = system.engine.inspect(container)
        user = system.engine.must("exec", container, "python3", "-c", "import os; print(os.getuid())")
        assert int(user) > 0, found["Name"]
        assert found["HostConfig"]["ReadonlyRootfs"], found["Name"]
        assert found["HostConfig"]["CapDrop"] == ["ALL"], found["Name"]


@pytest.mark.parametrize("service", ["worker-sync", "capture-shop"])
def test_pipelines_heal_when_a_container_is_killed(system: Composed, service: str) -> None:
    killed = system.state(service)["Pid"]
    write(system)
    os.kill(killed, signal.SIGKILL)
    write(system)
    eventually(lambda: system.state(service)["Pid"] not in (0, killed), SECONDS, f"{service} runs again")
    rows(system, "shop-to-warehouse", "billing-to-reporting")
    eventually(lambda: system.state(service)["Health"]["Status"] == "healthy", SECONDS, f"{service} is healthy again")


def test_prometheus_reaches_all_its_targets_and_every_rule_works(system: Composed) -> None:
    prometheus = Prometheus(f"http://{system.address('PROMETHEUS_PORT')}")

    def targets() -> dict[str, str]:
        return {one["labels"]["job"]: one["health"] for one in prometheus.api("targets")["activeTargets"]}

    def all_work() -> bool:
        found = rules(prometheus)
        return bool(found) and all(rule["health"] == "ok" for rule in found)

    up = {"worker-sync": "up", "prometheus": "up", "alertmanager": "up"}
    eventually(lambda: targets() == up, SECONDS, "all targets are up")
    eventually(all_work, SECONDS, "every rule works")
    assert len(prometheus.api("alertmanagers")["activeAlertmanagers"]) == 1
    for query in ("beat_up == 1", "sum(sync_capture_up) == 3", 'queue_workers{queue="dead_letter"} == 1'):
        eventually(partial(prometheus.query, query), SECONDS, query)


def rules(prometheus: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]


def test_flower_asks_who_is_there_and_remembers_what_it_has_seen(system: Composed) -> None:
    url = f"http://{system.address('FLOWER_PORT')}"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/api/tasks", timeout=60)
    password = system.secret("flower")
    before = eventually(partial(tasks, url, password), SECONDS, "Flower has seen tasks")
    system.compose("restart", "flower")
    after = eventually(partial(tasks, url, password), SECONDS, "Flower is there again")
    assert len(before & after) > len(before) / 2


def tasks(url: str, password: str) -> set[str]:
    """The ids of the tasks that Flower has seen; none while it is not there."""
    credentials = b64encode(f"operator:{password}".encode()).decode()
    asked = urllib.request.Request(f"{url}/api/tasks?limit=1000", headers={"Authorization": f"Basic {credentials}"})
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return set(json.load(answer))
    except OSError:
        return set()


def test_a_person_sees_workers_tasks_and_lag_in_the_browser(system: Composed, tmp_path: Path) -> None:
    flower = f"http://operator:{system.secret('flower')}@{system.address('FLOWER_PORT')}"
    # Debian's Prometheus has its pages under /classic.
    prometheus = f"http://{system.address('PROMETHEUS_PORT')}/classic"
    pages = {
        "workers": (f"{flower}/workers", ["sync@", "audit@", "cleanup@", "default@", "dead_letter@", "Online"]),
        "tasks": (f"{flower}/tasks", ["sync.apply", "sync.heartbeat", "SUCCESS"]),
        "targets": (f"{prometheus}/targets", ["worker-sync (1/1 up)", "alertmanager (1/1 up)"]),
        "rules": (f"{prometheus}/rules", ["HighSyncLag", "WorkerSyncDown"]),
        "lag": (f"{prometheus}/graph?g0.expr=sync_lag_ms&g0.tab=0&g0.range_input=10m", ["shop-to-warehouse"]),
    }
    for name, (url, words) in pages.items():
        eventually(partial(shows, url, words, tmp_path), SECONDS, f"{name} shows {words}")
        assert picture_of(url, tmp_path, name).stat().st_size > SOMETHING, name


def shows(url: str, words: list[str], directory: Path) -> bool:
    page = text_of(url, directory)
    return all(word in page for word in words)


def test_another_up_goes_on_where_it_was_and_down_leaves_nothing_behind(system: Composed) -> None:
    before = rows(system, "shop-to-search", "billing-to-reporting")
    system.compose("down", "--timeout", "30")
    system.up()
    assert rows(system, *before) == before
    system.down()
    assert system.leftovers() == []


def test_the_same_runs_on_rabbitmq(engine: Engine, standins: dict[str, str]) -> None:
    with composed(engine, standins, BROKER="rabbitmq") as system:
        system.up()
        assert system.services()["rabbitmq"] == "healthy"
        assert "redis" not in system.services()
        write(system)
        assert set(rows(system, *PIPELINES)) == set(PIPELINES)
