"""Asks a running exporter: whether it answers, whether what it serves is ours, and whether every capture reports."""

from __future__ import annotations

from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from connectors.base import Finding
from worker_sync.composition.preflight import UNREACHABLE, Checked
from worker_sync.core.errors import ConfigError
from worker_sync.core.metrics import BY_NAME
from worker_sync.core.settings import Settings

TIMEOUT_S: Final = 10.0
CAPTURE_UP: Final = "sync_capture_up"


def check_exporter(url: str, settings: Settings) -> Checked:
    """What is to be said about the exporter at `url` (http://HOST:PORT). Raises ConfigError for another kind of URL."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"the exporter's address is http://HOST:PORT, not {url!r}")
    base = url.rstrip("/").removesuffix("/metrics")
    try:
        findings = [_health(f"{base}/healthz"), *_metrics(f"{base}/metrics", settings.sources)]
    except (OSError, HTTPException) as error:
        findings = [Finding(UNREACHABLE, None, f"{base}: {error}", "start the exporter, or correct the URL")]
    return Checked("exporter", "metrics", findings)


def _health(url: str) -> Finding:
    try:
        with urlopen(url, timeout=TIMEOUT_S):
            return Finding("health", True, "the exporter reaches the control store")
    except HTTPError as error:
        with error:
            return Finding("health", False, error.read().decode(errors="replace").strip(), "mend the control store")


def _metrics(url: str, sources: tuple[str, ...]) -> list[Finding]:
    with urlopen(url, timeout=TIMEOUT_S) as answer:
        served = answer.read()
    try:
        families = list(text_string_to_metric_families(served.decode()))
    except ValueError as error:
        return [Finding("metrics", False, f"{url}: {error}", "give the address of worker-sync exporter")]
    # The parser takes _total off a counter's name.
    ours = [family for family in families if family.name in BY_NAME or f"{family.name}_total" in BY_NAME]
    if not ours:
        return [Finding("metrics", False, f"{url} serves none of ours", "give the address of worker-sync exporter")]
    return [Finding("metrics", True, f"{len(ours)} metrics of ours"), *(_capture(families, name) for name in sources)]


def _capture(families: list[Metric], source: str) -> Finding:
    up = [
        sample.value
        for family in families
        if family.name == CAPTURE_UP
        for sample in family.samples
        if sample.labels.get("source") == source
    ]
    fix = f"look at its log, and at `worker-sync status`; start one: worker-sync capture {source}"
    word = "reports" if up == [1.0] else "does not report"
    return Finding(f"capture of {source}", up == [1.0], word, fix)
