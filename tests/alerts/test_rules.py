"""The rules hold together: every alert has its tests, its page, and names what exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.fixtures.fix_prometheus import FILES, RULES, run_tool
from tests.fixtures.program import ROOT
from worker_sync.cli.app import cli
from worker_sync.core.metrics import BY_NAME

HERE = Path(__file__).parent
RUNBOOKS = ROOT / "docs/runbooks"
#: What is there without us.
OTHERS = {"up", "ALERTS"}
PARTS = ("## What it means", "## What to look at", "## How to mend it")


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def cases() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((HERE / "alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
    return found


def metrics_in(expression: str) -> set[str]:
    """The names of series in a query: what is neither a function, a label, a word of the language nor a text."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:without|by|on|ignoring) *\([^)]*\)', " ", expression)
    names = re.findall(r"[a-z_][a-z_0-9:]*\b(?! *\()", bare, re.IGNORECASE)
    return {name for name in names if name not in {"and", "or", "unless", "offset", "m"}}


def test_promtool_accepts_the_rules() -> None:
    run_tool("promtool", "check", "rules", *RULES)


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    run_tool("promtool", "test", "rules", *sorted(HERE.glob("*.test.yaml")))


def test_every_alert_has_a_firing_and_a_quiet_case() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for case in cases():
        alert = case["name"].split()[0]
        for check in case["promql_expr_test"]:
            assert f'alertname="{alert}"' in check["expr"], case["name"]
            (fires if check["exp_samples"] else quiet).add(alert)
    assert fires == quiet == set(ALERTS)


def test_every_alert_says_what_a_person_needs() -> None:
    for name, rule in ALERTS.items():
        labels = rule["labels"]
        assert (labels["service"], labels["severity"] in {"critical", "warning"}) == ("worker-sync", True), name
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md", name


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in RUNBOOKS.glob("*.md")}
    del pages["README"]
    assert set(pages) == set(ALERTS)
    for name, page in pages.items():
        assert page.startswith(f"# {name}\n"), name
        assert [part for part in PARTS if part not in page] == [], name


def test_rules_read_metrics_that_are_served() -> None:
    known = set(BY_NAME) | RECORDED | OTHERS
    strange = {(rule.get("alert") or rule["record"], name) for rule in rules() for name in metrics_in(rule["expr"])}
    assert len(strange) > 30
    assert {entry for entry in strange if entry[1] not in known} == set()


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_commands_of_a_runbook_exist(page: Path) -> None:
    for command in re.findall(r"`worker-sync ([^`]+)`", page.read_text(encoding="utf-8")):
        context, found = click.Context(cli, info_name="worker-sync"), cli
        words = command.split()
        while words and isinstance(found, click.Group):
            inner = found.get_command(context, words.pop(0))
            assert inner is not None, command
            context, found = click.Context(inner, parent=context), inner  # type: ignore[assignment]
        options = {"--help", *(name for parameter in found.params for name in parameter.opts)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, command


def test_alertmanager_accepts_the_routes() -> None:
    config = FILES / "alertmanager" / "alertmanager.yaml"
    run_tool("amtool", "check-config", config)
    routes = ["config", "routes", "test", f"--config.file={config}"]
    run_tool("amtool", *routes, "--verify.receivers=on-call", "severity=critical", "alertname=SyncStalled")
    run_tool("amtool", *routes, "--verify.receivers=team", "severity=warning", "alertname=HighSyncLag")
