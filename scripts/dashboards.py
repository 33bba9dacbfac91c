"""The Grafana dashboards, described here and written as JSON for the chart and compose by `make docs`.

In a query `@` stands for the label matcher of the installation that is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

FOLDER: Final = Path(__file__).parents[1] / "chart" / "files" / "dashboards"
INSTALLATION: Final = 'job=~"$job"'
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
#: Grafana's grid has 24 columns; a panel's height counts in rows of 30 pixels.
COLUMNS: Final = 24
HEIGHTS: Final = {"stat": 4, "timeseries": 8}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `queries` are PromQL with the legend of each. `red`: from which value on a stat is red."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 12
    red: float | None = None

    def as_json(self, number: int, x: int, y: int) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"color": "green" if self.red is not None else "text", "value": None}]
        if self.red is not None:
            steps.append({"color": "red", "value": self.red})
        mode = "thresholds" if self.kind == "stat" else "palette-classic"
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHTS[self.kind]},
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "color": {"mode": mode},
                    "thresholds": {"mode": "absolute", "steps": steps},
                },
                "overrides": [],
            },
            "options": {"colorMode": "background"} if self.kind == "stat" else {"tooltip": {"mode": "multi"}},
            "targets": [
                {"refId": chr(ord("A") + n), "expr": expr.replace("@", INSTALLATION), "legendFormat": legend}
                for n, (expr, legend) in enumerate(self.queries)
            ],
        }


@dataclass(frozen=True, slots=True)
class Board:
    title: str
    panels: Sequence[Panel]
    #: A variable to choose from besides the installation: its name and where its values are.
    choice: tuple[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "title": f"Worker-Sync / {self.title}",
            "tags": ["worker-sync"],
            "schemaVersion": 39,
            "editable": True,
            "refresh": "15s",
            "time": {"from": "now-1h", "to": "now"},
            "links": [
                {"type": "dashboards", "title": "Worker-Sync", "tags": ["worker-sync"], "asDropdown": True},
            ],
            "templating": {"list": list(self._variables())},
            "panels": list(self._placed()),
        }

    def _variables(self) -> Iterator[dict[str, Any]]:
        yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
        yield _variable("job", "label_values(worker_sync_info, job)")
        if self.choice is not None:
            name, metric = self.choice
            yield _variable(name, f"label_values({metric}{{{INSTALLATION}}}, {name})")

    def _placed(self) -> Iterator[dict[str, Any]]:
        """From left to right; what doesn't fit begins a row."""
        x = y = height = 0
        for number, panel in enumerate(self.panels, 1):
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            yield panel.as_json(number, x, y)
            x, height = x + panel.width, max(height, HEIGHTS[panel.kind])


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def stat(title: str, unit: str, query: str, red: float | None = None, legend: str = "", width: int = 4) -> Panel:
    return Panel(title, unit, [(query, legend)], "stat", width, red)


def graph(title: str, unit: str, query: str, legend: str, *more: tuple[str, str]) -> Panel:
    return Panel(title, unit, [(query, legend), *more])


_PICKED: Final = '@, pipeline=~"$pipeline"'
_SHARD: Final = "{{pipeline}} {{shard}}"
_PROCESS: Final = "{{role}} {{process}} {{host}}"
_TRAIL: Final = '@, task="audit.append"'

BOARDS: Final = {
    "overview": Board(
        "Overview",
        [
            stat("Firing alerts", "short", 'count(ALERTS{alertstate="firing", service="worker-sync"}) or vector(0)', 1),
            stat("Pipelines that stand still", "short", "sum(sync_pipeline_halted{@})", 1),
            stat("Sources without a capture", "short", "count(sync_capture_up{@} == 0) or vector(0)", 1),
            stat("Beats that fire", "short", "sum(beat_up{@})"),
            stat("Systems that don't answer", "short", "count(health_ok{@} == 0) or vector(0)", 1),
            stat("Dead letters", "short", "sum(dead_letters{@}) or vector(0)", 1),
            graph("Lag", "ms", "pipeline:sync_lag_ms:max{@}", "{{pipeline}}"),
            graph("Rows applied per second", "short", "pipeline:sync_rows:rate5m{@}", "{{pipeline}}"),
            graph("Messages in queues", "short", "queue_depth{@}", "{{queue}}"),
            graph("Failed tries", "percentunit", "error_ratio{@}", "{{task}} {{pipeline}}"),
            graph("Answers of systems", "ms", "health_latency_ms{@}", "{{subject}}"),
            graph("Clocks ahead of the worker's", "s", "clock_skew_seconds{@}", "{{subject}}"),
            graph(
                "Sources of metrics that could not be read",
                "short",
                "increase(scrape_errors_total{@}[$__rate_interval])",
                "{{subject}}",
            ),
            stat("Version", "short", "worker_sync_info{@}", legend="{{version}}", width=12),
        ],
    ),
    "pipelines": Board(
        "Pipelines",
        [
            graph("Lag", "ms", f"sync_lag_ms{{{_PICKED}}}", _SHARD),
            graph("Since the target last applied a batch", "s", f"sync_watermark_age_seconds{{{_PICKED}}}", _SHARD),
            graph("Rows applied per second", "short", f"rate(sync_rows_total{{{_PICKED}}}[$__rate_interval])", _SHARD),
            graph(
                "Batches applied per second",
                "short",
                f"rate(sync_batches_total{{{_PICKED}}}[$__rate_interval])",
                _SHARD,
            ),
            graph("Stands still", "short", f"sync_pipeline_halted{{{_PICKED}}}", "{{pipeline}} {{reason}}"),
            graph("Parked keys", "short", f"sync_parked_keys{{{_PICKED}}}", _SHARD),
            graph(
                "Dead letters",
                "short",
                f"sum by (kind, pipeline) (dead_letters{{{_PICKED}}}) or vector(0)",
                "{{pipeline}} {{kind}}",
            ),
            graph(
                "Oldest dead letter",
                "s",
                f"max by (kind, pipeline) (dead_letters_age_seconds{{{_PICKED}}}) or vector(0)",
                "{{pipeline}} {{kind}}",
            ),
            graph(
                "Rows captured per second", "short", "rate(sync_captured_rows_total{@}[$__rate_interval])", "{{source}}"
            ),
            graph("Captures that report", "short", "sync_capture_up{@}", "{{source}}"),
            graph("Batches under way", "short", "sync_window_batches{@}", "{{source}}"),
            graph("Bytes under way", "bytes", "sync_window_bytes{@}", "{{source}}"),
            graph(
                "Batches sent again per second",
                "short",
                "rate(sync_resent_batches_total{@}[$__rate_interval])",
                "{{source}}",
            ),
            graph("Age of the newest heartbeat", "s", "sync_heartbeat_age_seconds{@}", "{{source}}"),
            graph("Log that the source keeps", "bytes", "sync_retained_log_bytes{@}", "{{source}}"),
            graph(
                "Its growth per second",
                "Bps",
                "sync_retained_log_growth_bytes_per_second{@} or vector(0)",
                "{{source}}",
            ),
            graph(
                "Time until it reaches a limit (none: in no foreseeable time)",
                "s",
                "sync_retained_log_seconds_left{@} or vector(0)",
                "{{source}}",
            ),
            graph(
                "Spilled batches",
                "bytes",
                "sync_spill_bytes{@} or vector(0)",
                "{{source}}",
                ("sync_spill_full{@} or vector(0)", "{{source}} full"),
            ),
        ],
        ("pipeline", "sync_pipeline_halted"),
    ),
    "workers": Board(
        "Workers and queues",
        [
            graph("Messages in queues", "short", "queue_depth{@}", "{{queue}}"),
            graph("Oldest message", "s", "queue_oldest_age_seconds{@} or vector(0)", "{{queue}}"),
            graph("Worker processes", "short", "queue_workers{@}", "{{queue}}"),
            graph(
                "Tries per second",
                "short",
                "sum by (task, outcome) (rate(tasks_total{@}[$__rate_interval]))",
                "{{task}} {{outcome}}",
            ),
            graph("Failed tries", "percentunit", "error_ratio{@}", "{{task}} {{pipeline}}"),
            graph("Breakers (0 closed, 1 half-open, 2 open)", "short", "breaker_state{@}", "{{system}}"),
            graph(
                "Breakers opened",
                "short",
                "sum by (system) (increase(breaker_opened_total{@}[$__rate_interval]))",
                "{{system}}",
            ),
            graph("Systems that answer", "short", "health_ok{@}", "{{subject}}"),
            graph("Age of the last health check", "s", "health_age_seconds{@}", "{{subject}}"),
            graph("Since the last run of the schedule's entries", "s", "schedule_last_run_age_seconds{@}", "{{entry}}"),
            graph("Entries whose last run failed", "short", "schedule_last_run_failed{@}", "{{entry}}"),
            graph("Beats that fire", "short", "beat_up{@}", "{{instance}}"),
            graph(
                "CPU",
                "short",
                "rate(sync_process_cpu_seconds_total{@}[$__rate_interval])",
                _PROCESS,
                ("max by (host) (sync_process_cpu_cores{@})", "cores of {{host}}"),
            ),
            graph(
                "Memory",
                "bytes",
                "sync_process_memory_bytes{@}",
                _PROCESS,
                ("max by (host) (sync_process_memory_limit_bytes{@})", "limit of {{host}}"),
            ),
            graph(
                "Open files",
                "short",
                "sync_process_open_files{@}",
                _PROCESS,
                ("min by (host) (sync_process_open_files_limit{@})", "limit on {{host}}"),
            ),
            graph(
                "Room on the disk of state_dir",
                "bytes",
                "sync_disk_free_bytes{@}",
                _PROCESS,
                ("max by (host) (sync_disk_bytes{@})", "disk of {{host}}"),
            ),
            graph(
                "Spans of traces per second, where they are recorded",
                "ops",
                "sum by (role, outcome) (rate(sync_spans_total{@}[5m]))",
                "{{role}} {{outcome}}",
            ),
        ],
    ),
    "audit": Board(
        "Audit",
        [
            stat("Entries", "short", "audit_entries_total{@}", width=6),
            stat("Ledger on disk", "bytes", "audit_ledger_bytes{@}", width=6),
            stat("Verified as signed", "bool_yes_no", 'health_ok{@, subject="ledger"}', width=6),
            stat("Last verification", "s", 'health_age_seconds{@, subject="ledger"}', 172800, width=6),
            graph(
                "Entries per second",
                "short",
                "rate(audit_entries_total{@}[$__rate_interval])",
                "over the interval",
                ("audit_write_tps{@}", "since the scrape before"),
            ),
            graph("Entries that are not signed yet", "short", "audit_unsigned_entries{@}", "entries"),
            graph("Age of the newest checkpoint", "s", "audit_checkpoint_age_seconds{@}", "checkpoint"),
            graph(
                "Batches appended per second",
                "short",
                f"sum by (pipeline, outcome) (rate(tasks_total{{{_TRAIL}}}[$__rate_interval]))",
                "{{pipeline}} {{outcome}}",
            ),
            graph("Messages in the audit queue", "short", 'queue_depth{@, queue="audit"}', "messages"),
            graph("Scheduled work", "s", 'schedule_last_run_age_seconds{@, entry=~"audit-.*"}', "since {{entry}}"),
        ],
    ),
}


def files() -> dict[Path, str]:
    """Every dashboard's file, as it should be."""
    return {FOLDER / f"{name}.json": json.dumps(board.as_json(), indent=2) + "\n" for name, board in BOARDS.items()}
