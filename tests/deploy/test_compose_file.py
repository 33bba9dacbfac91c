"""compose.yaml and what it hands to its services, without an engine."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.queues import QUEUES
from tests.deploy.engine import ROOT
from tests.fixtures.fix_prometheus import run_tool
from worker_sync.core.settings import Settings, load

COMPOSE = ROOT / "compose"
PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = PROJECT["services"]
OURS = "${WORKER_SYNC_IMAGE:-worker-sync}"
PUBLISHED = re.compile(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-(\d+)\}:\1")
THEIRS = re.compile(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:v?\d+[.\d]*\}")


def make_credentials(directory: Path, broker: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(COMPOSE / "credentials.py")]
    variables = {"DIRECTORY": str(directory), "BROKER": broker}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir()
    assert make_credentials(directory, "redis").returncode == 0
    return directory


@pytest.fixture
def settings(credentials: Path) -> Settings:
    """The configuration, with the secrets from where they are here."""
    text = (COMPOSE / "worker-sync.yaml").read_text()
    path = credentials.parent / "worker-sync.yaml"
    path.write_text(text.replace("/run/worker-sync", str(credentials)))
    return load(path)


def test_every_source_has_a_capture_and_every_queue_with_tasks_its_workers(settings: Settings) -> None:
    commands = [one["command"] for one in SERVICES.values() if one["image"] == OURS and "command" in one]
    captures = {command[1] for command in commands if command[0] == "capture"}
    queues = [command[command.index("--queues") + 1] for command in commands if command[0] == "worker"]
    assert captures == {flow.source for flow in settings.flows.values()}
    assert sorted(queues) == sorted(row.name for row in QUEUES if row.tasks)
    assert {"init", "beat", "exporter", "flower"} <= {command[0] for command in commands}


def test_every_engine_is_a_source_and_a_target(settings: Settings) -> None:
    def engines(side: str) -> set[str]:
        names = [getattr(pipeline, side) for pipeline in settings.pipelines.values()]
        return {settings.databases[name].url.scheme for name in names}

    assert engines("source") == engines("target") == {"postgresql", "mariadb", "mongodb"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_can_be_waited_for(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["image"] == OURS or THEIRS.fullmatch(service["image"])
    assert all(PUBLISHED.fullmatch(port) for port in service.get("ports", []))
    once = str(service["restart"]).startswith("on-failure")
    assert once != ("interval" in service["healthcheck"])
    if once:
        # Without one that says so, `up --wait` takes its end for a failure.
        waiting = [other["depends_on"][name] for other in SERVICES.values() if name in other.get("depends_on", {})]
        assert waiting
        assert all(one == {"condition": "service_completed_successfully"} for one in waiting)


def test_what_is_mounted_is_there_and_what_is_named_is_declared() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert mounts
    for mount in mounts:
        source = re.sub(r"\$\{[A-Z_]+:-([^}]+)\}", r"\1", mount).split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in PROJECT["volumes"], mount


def test_credentials_are_made_once_and_follow_the_broker(credentials: Path) -> None:
    before = {path.name: path.read_text() for path in credentials.iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in credentials.iterdir()} == {0o440}
    assert len(set(before.values())) == len(before)
    assert make_credentials(credentials, "rabbitmq").returncode == 0
    after = {path.name: path.read_text() for path in credentials.iterdir()}
    assert after.pop("broker") == f"amqp://worker-sync:{before['rabbitmq']}@rabbitmq:5672/worker-sync"
    assert before.pop("broker") == f"redis://:{before['redis']}@redis:6379/0"
    assert after == before


def test_another_broker_is_refused(tmp_path: Path) -> None:
    done = make_credentials(tmp_path, "kafka")
    assert (done.returncode, done.stderr) == (1, "BROKER is 'kafka'; set it to redis or rabbitmq\n")
    assert list(tmp_path.iterdir()) == []


def test_prometheus_takes_its_configuration_and_scrapes_services_that_are_there() -> None:
    run_tool("promtool", "check", "config", "--syntax-only", COMPOSE / "prometheus.yml")
    config = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    [rules] = config["rule_files"]
    assert f"./chart/files/prometheus:{Path(rules).parent}:ro" in SERVICES["prometheus"]["volumes"]
    targets = [target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]]
    assert {target.split(":")[0] for target in targets} <= {*SERVICES, "127.0.0.1"}


def test_grafana_is_given_the_dashboards_and_a_source_for_their_queries() -> None:
    grafana = SERVICES["grafana"]
    assert "./compose/grafana:/etc/grafana/provisioning:ro" in grafana["volumes"]
    [source] = yaml.safe_load((COMPOSE / "grafana/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    [provider] = yaml.safe_load((COMPOSE / "grafana/dashboards/worker-sync.yaml").read_text())["providers"]
    assert f"./chart/files/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    dashboards = {path.name: json.loads(path.read_text()) for path in (ROOT / "chart/files/dashboards").glob("*.json")}
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.name in dashboards
    assert str(home.parent) == provider["options"]["path"]
    for name, dashboard in dashboards.items():
        # A dashboard that Grafana would have to ask about can't be provided from a file.
        assert "__inputs" not in dashboard, name
        [variable] = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
        assert variable["query"] == source["type"], name
        used = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
        assert used == {f"${{{variable['name']}}}"}, name
