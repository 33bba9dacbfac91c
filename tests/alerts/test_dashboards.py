"""Every query of a dashboard reads what the exporter serves, and all that it serves is on some panel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts.test_rules import OTHERS, RECORDED, metrics_in
from tests.fixtures.fix_prometheus import FILES, run_tool
from worker_sync.core.metrics import BY_NAME

DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
#: What Grafana puts in for the variables.
VARIABLES = {"$job": "worker-sync", "$pipeline": ".*", "$__rate_interval": "1m"}


def dashboard(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def queries(path: Path) -> list[str]:
    """The queries of a dashboard as Prometheus gets them."""
    found = [target["expr"] for panel in dashboard(path)["panels"] for target in panel["targets"]]
    for name, value in VARIABLES.items():
        found = [query.replace(name, value) for query in found]
    return found


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_provisioned(path: Path) -> None:
    document = dashboard(path)
    assert "uid" not in document
    assert {panel["datasource"]["uid"] for panel in document["panels"]} == {"${datasource}"}
    assert all(panel["title"] and panel["fieldConfig"]["defaults"]["unit"] for panel in document["panels"])
    places = [panel["gridPos"] for panel in document["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24


def test_dashboards_show_what_is_served_and_nothing_else() -> None:
    shown = {name for path in DASHBOARDS for query in queries(path) for name in metrics_in(query)}
    assert shown - set(BY_NAME) - RECORDED - OTHERS == set()
    behind = {"sync_lag_ms", "sync_rows_total"}  # of what is recorded
    assert set(BY_NAME) - shown - behind == set()


def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [{"record": "checked", "expr": query, "labels": {"n": str(n)}} for n, query in enumerate(all_queries())]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run_tool("promtool", "check", "rules", tmp_path / "queries.yaml")


def all_queries() -> list[str]:
    return [query for path in DASHBOARDS for query in queries(path)]
