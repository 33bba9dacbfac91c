"""Values, their schema and their page say the same, and wrong values are refused with a line that helps."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tasks.queues import NAMES, QUEUES
from tests.chart.rendering import CHART, DEVELOPMENT, PRODUCTION, helm, of, only, refused, render
from tests.fixtures.program import ROOT, environment

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
#: Sections whose keys are settings of `pod` too, which stand in `pod` alone.
ROLES = ("capture", "worker", "beat", "exporter", "flower", "init")
#: What is written as Kubernetes writes it, and explained as a whole.
PARTS = ("pod.resources.", "pod.securityContext.", "trial.resources.")
#: Mappings whose keys are the user's.
FREE = {"captures", "workerPools"}


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        found: Any = SCHEMA
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def objects(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of a mapping with keys of ours, with its path."""
    schema = resolved(schema)
    if "properties" in schema:
        yield path, schema
        for key, inner in schema["properties"].items():
            yield from objects(inner, f"{path}.{key}" if path else key)


def at(path: str) -> Any:
    found: Any = VALUES
    for key in path.split(".") if path else []:
        found = found[key]
    return found


def test_the_schema_has_the_keys_of_the_values() -> None:
    pod = set(resolved(SCHEMA["properties"]["pod"])["properties"])
    own = {"": {"global"}, "secret.external.store": {"name", "kind"}, "pod.resources": set()}
    for path, schema in objects(SCHEMA):
        assert schema["additionalProperties"] is False, path
        there = set(schema["properties"]) - own.get(path, set())
        if path in ROLES:
            assert pod | {"env"} <= there, path
            there -= (pod | {"env"}) - set(at(path))
        # `pod` has the parts of what is given as a whole in each role.
        if path.partition(".")[0] in ROLES and path.partition(".")[2].partition(".")[0] in pod:
            continue
        assert there == set(at(path)), path


def test_the_values_are_what_their_schema_says() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(VALUES)] == []


def test_a_pool_may_have_what_all_pools_have() -> None:
    worker, pool = (SCHEMA["definitions"][name]["properties"] for name in ("worker", "pool"))
    assert set(pool) == {*worker, "queues"}
    assert tuple(sorted(pool["queues"]["items"]["enum"])) == tuple(sorted(NAMES))


def test_the_page_of_the_values_is_current_and_leaves_out_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/chart_pages.py", "--check"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = set(re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    keys = {f"{path}.{key}" if path else key for path, _ in objects(SCHEMA) for key in at_or_nothing(path)}
    undocumented = {key for key in keys - rows if not key.startswith(PARTS)}
    assert undocumented == set()


def at_or_nothing(path: str) -> set[str]:
    try:
        found = at(path)
    except KeyError:
        return set()
    return set(found)


def test_the_chart_is_of_the_programs_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["appVersion"] == project["version"]


CONFIG: dict[str, Any] = {
    "audit": {"shop": {"tables": ["*"]}},
    "databases": {"shop": {"retained_log": {"policy": "spill"}}},
}
WRONG: dict[str, tuple[Mapping[str, Any], str]] = {
    "no control store": (
        {"config": {"control": None, "broker": None}},
        "config.control is missing; give its URL: nothing is embedded here\nconfig.broker is missing; give its URL",
    ),
    "no pipeline": ({"config": {"pipelines": None}}, "config has no pipelines and no audit; add one"),
    "not a mapping": ({"config": "just text"}, "config is no YAML mapping"),
    "audit without a key": (
        {"config": {"audit": CONFIG["audit"], "ledger": {"origin": "here"}}},
        "config.audit needs config.ledger.key",
    ),
    "spilling without a disk": (
        {"config": {"databases": CONFIG["databases"]}},
        "capture-shop spills, so it needs a disk that outlives its pod; set captures.shop.persistence.enabled",
    ),
    "one disk, two pods": (
        {"capture": {"replicas": 2, "persistence": {"enabled": True, "accessModes": ["ReadWriteOnce"]}}},
        "capture-shop has several pods for one disk",
    ),
    "a capture of nothing": ({"captures": {"shpo": {}}}, "captures.shpo is no source of config (sources: shop)"),
    "two scalers": (
        {"workerPools": {"sync": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}}},
        "workerPools.sync is scaled by both autoscaling and keda; disable one",
    ),
    "two secrets": ({"secret": {"existing": "mine"}}, "secret has more than one of values, existing and external"),
    "Flower for everybody": (
        {"flower": {"ingress": {"enabled": True, "host": "h"}}},
        "flower.ingress lets everybody in; set flower.user and flower.password in config",
    ),
    "no host": ({"exporter": {"ingress": {"enabled": True}}}, "exporter.ingress.host is missing; give one"),
    "a hidden port": (
        {"networkPolicy": {"enabled": True}, "config": {"databases": {"shop": {"url": "${SHOP_URL}"}}}},
        "networkPolicy.ports is missing: config does not show the ports of databases.shop.url",
    ),
    "a port from elsewhere": (
        {"networkPolicy": {"enabled": True}, "config": {"control": "postgresql://ws@${HOST:-here}:${PORT}/ws"}},
        "networkPolicy.ports is missing: config does not show the ports of control;",
    ),
    "an unknown key": ({"beat": {"replica": 2}}, "additional properties 'replica' not allowed"),
    "a wrong type": ({"beat": {"replicas": "two"}}, "got string, want integer"),
    "an unknown queue": ({"workerPools": {"sync": {"queues": ["snyc"]}}}, "value must be one of"),
    "a pool of no queue": ({"workerPools": {"more": {"replicas": 1}}}, "missing property 'queues'"),
    "two exporters": ({"exporter": {"replicas": 2}}, "maximum: got 2, want 1"),
    "half a vault": ({"secret": {"values": None, "external": {"enabled": True}}}, "/secret/external"),
}


@pytest.mark.parametrize(("values", "says"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused_with_what_to_do(values: Mapping[str, Any], says: str) -> None:
    said = refused(values)
    assert says in said
    assert "nil pointer" not in said


def test_without_a_configuration_the_one_thing_to_do_is_said() -> None:
    said = refused(file=None)
    assert "config is missing; give your configuration file: --set-file config=worker-sync.yaml" in said
    assert len([line for line in said.splitlines() if line.strip()]) <= 3


NO_POOLS = {"sync": None, "main": None, "audit": None, "spare": {"queues": ["backup"]}}


def test_a_queue_that_has_tasks_needs_a_pool() -> None:
    # A pool that is null is none, as Helm says it of what a values file takes away.
    said = refused({"workerPools": NO_POOLS}, PRODUCTION)
    lacking = re.findall(r"^no pool of workerPools has the queue (\w+); add it to one$", said, re.MULTILINE)
    assert sorted(lacking) == sorted(row.name for row in QUEUES if row.tasks)


RULES = """\
groups:
  - name: here
    rules:
      - {alert: Trouble, expr: "sync_capture_up == 0", annotations: {summary: "{{ $labels.source }} is {{ $value }}"}}
"""


def test_rules_and_dashboards_arrive_as_they_are(tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("files"))
    monitoring = {"rules": {"enabled": True}, "dashboards": {"enabled": True}, "labels": {"release": "prometheus"}}
    before = render({"monitoring": monitoring}, chart=chart)
    assert of(before, "PrometheusRule") == []
    dashboard = {"title": "{{pipeline}}", "panels": [{"legendFormat": "{{queue}}"}]}
    (chart / "files/prometheus").mkdir(parents=True)
    (chart / "files/dashboards").mkdir()
    (chart / "files/prometheus/more.rules.yaml").write_text(RULES)
    (chart / "files/dashboards/overview.json").write_text(json.dumps(dashboard, indent=2))
    # As `release`, so that the answer for the chart as it was is not given again.
    after = render({"monitoring": monitoring}, chart=chart, release="again")
    rule = only(after, "PrometheusRule", "-more")
    assert rule["spec"] == yaml.safe_load(RULES)
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    shown = only(after, "ConfigMap", "-dashboard-overview")
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(shown["data"]["overview.json"]) == dashboard


def test_the_notes_name_what_is_there() -> None:
    done = helm("install", "ws", str(CHART), "--namespace", "data", "--dry-run=client", "--values", str(DEVELOPMENT))
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    named = set(re.findall(r"\b(deploy|svc)/([\w-]+)", notes))
    made = render()
    kinds = {"deploy": "Deployment", "svc": "Service"}
    assert len(named) == 3
    assert {only(made, kinds[kind], name)["metadata"]["name"] for kind, name in named} == {name for _, name in named}
    assert "in production use secret.existing" in notes


def test_a_packed_chart_has_everything_and_nothing_else(tmp_path: Path) -> None:
    done = helm("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    [packed] = tmp_path.glob("worker-sync-*.tgz")
    with tarfile.open(packed) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    there = {path.relative_to(CHART).as_posix() for path in CHART.rglob("*") if path.is_file()}
    assert found == there - {".helmignore"}


def test_the_service_monitor_asks_where_the_exporter_listens() -> None:
    made = render({"monitoring": {"serviceMonitor": {"enabled": True}}})
    service, monitor = only(made, "Service", "exporter"), only(made, "ServiceMonitor", "exporter")
    [endpoint], [port] = monitor["spec"]["endpoints"], service["spec"]["ports"]
    assert endpoint["port"] == port["name"]
    assert endpoint["path"] == "/metrics"
    assert set(monitor["spec"]["selector"]["matchLabels"].items()) <= set(service["metadata"]["labels"].items())
