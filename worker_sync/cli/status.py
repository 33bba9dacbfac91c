"""`status`: what runs, how far it is, what stands still and why."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import click

from tasks.reporter import WORKER
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import human_bytes, mark, print_json, print_table
from worker_sync.composition.workspace import Workspace
from worker_sync.core.sections import Pipeline
from worker_sync.exporter.collect import newest
from worker_sync.exporter.lag import STALE_S, shard_lag_ms
from worker_sync.exporter.processes import breaker_states
from worker_sync.store.pipelines import Standing, Status
from worker_sync.store.reports import Report
from worker_sync.store.versions import TableVersion

#: Less time than this until the log that a source keeps reaches a limit is worth a line of its own, in seconds.
SHORT_S: Final = 3600.0


@click.command(epilog="\b\nExamples:\n  worker-sync status\n  worker-sync status --json | jq '.pipelines[].lag_ms'")
@configured
@as_json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> int:
    """Show sources and pipelines: state, position, lag, window, retained log. Exit code 1 when one is halted."""
    with Workspace(state(ctx).settings()) as space:
        document = describe(space)
    if as_json:
        print_json(document)
    else:
        print_status(document)
    return 1 if any(entry["state"] == Status.HALTED for entry in document["pipelines"]) else 0


def describe(space: Workspace) -> dict[str, Any]:
    """Everything that `status` shows; null is what nobody knows."""
    reports = newest(space.store.reports.all("capture"))
    standings = space.store.pipelines.all()
    return {
        "breakers": breaker_states(space.store.reports.all(WORKER)),
        "sources": [_source(name, reports.get(name)) for name in space.settings.sources],
        "pipelines": [
            _pipeline(pipeline, reports.get(pipeline.source), standings.get(name))
            | {"schema_change": _last_change(space.store.versions.of(name).values())}
            for name, pipeline in space.settings.flows.items()
        ],
    }


def _source(name: str, report: Report | None) -> dict[str, Any]:
    said = report.status if report else {}
    window = said.get("window", {})
    return {
        "source": name,
        "capture": _capture_word(report),
        "position": said.get("position"),
        "confirmed": said.get("confirmed"),
        "retained_bytes": said.get("retained_bytes"),
        "spill_bytes": said.get("spill", {}).get("bytes"),
        "spill_full": said.get("spill", {}).get("full"),
        "retained_growth": said.get("retained_growth"),
        "retained_left_s": said.get("retained_left_s"),
        "window_bytes": window.get("bytes"),
        "window_batches": window.get("batches"),
        "report_age_s": None if report is None else round(report.age_s, 1),
    }


def _capture_word(report: Report | None) -> str:
    if report is None:
        return "not running"
    return "running" if report.age_s <= STALE_S else "silent"


def _pipeline(pipeline: Pipeline, report: Report | None, standing: Standing | None) -> dict[str, Any]:
    entry = (report.status.get("pipelines", {}).get(pipeline.name) if report else None) or {}
    shards = entry.get("shards", {})
    age = report.age_s if report else 0.0
    return {
        "pipeline": pipeline.name,
        "source": pipeline.source,
        "target": pipeline.target,
        "state": standing.status.value if standing else Status.RUNNING.value,
        "reason": standing.reason if standing else "",
        "detail": standing.detail if standing else "",
        "recovery": standing.recovery if standing else "",
        "lag_ms": _worst_lag(shards, age),
        "changes": _total(shards, "changes"),
        "pending": _total(shards, "pending"),
        "shards": shards,
        "snapshot": entry.get("snapshot", {}),
        "parked_keys": _total(shards, "parked_keys"),
    }


def _last_change(records: Iterable[TableVersion]) -> dict[str, Any] | None:
    """The newest change of a table's definition that the pipeline has met."""
    changed = [(record.changed_at, record) for record in records if record.changed_at is not None]
    if not changed:
        return None
    at, record = max(changed, key=lambda entry: entry[0])
    return {"table": str(record.table), "change": record.change, "at": at.isoformat(timespec="seconds")}


def _worst_lag(shards: Mapping[str, Any], report_age_s: float) -> float | None:
    now_us = int(time.time() * 1_000_000)
    lags = [lag for shard in shards.values() if (lag := shard_lag_ms(shard, report_age_s, now_us)) is not None]
    return round(max(lags), 1) if lags else None


def _total(shards: Mapping[str, Any], field: str) -> int | None:
    return sum(shard.get(field, 0) for shard in shards.values()) if shards else None


def print_status(document: Mapping[str, Any]) -> None:
    print_table(
        ["source", "capture", "position", "confirmed", "window", "retained log"],
        [_source_row(source) for source in document["sources"]],
    )
    click.echo()
    print_table(
        ["pipeline", "from", "to", "state", "lag", "pending", "changes"],
        [_pipeline_row(entry) for entry in document["pipelines"]],
    )
    for line in _remarks(document):
        click.echo(line)


def _source_row(source: Mapping[str, Any]) -> list[Any]:
    window = human_bytes(source["window_bytes"])
    return [
        source["source"],
        source["capture"],
        source["position"],
        source["confirmed"],
        f"{window} in {source['window_batches']}" if window else None,
        human_bytes(source["retained_bytes"]),
    ]


def _pipeline_row(entry: Mapping[str, Any]) -> list[Any]:
    lag = entry["lag_ms"]
    return [
        entry["pipeline"],
        entry["source"],
        entry["target"],
        mark(entry["state"]),
        None if lag is None else f"{lag:,.0f} ms",
        entry["pending"],
        entry["changes"],
    ]


def _remarks(document: Mapping[str, Any]) -> Iterator[str]:
    for source in document["sources"]:
        if (left_s := source["retained_left_s"]) is not None and left_s < SHORT_S:
            yield f"{source['source']}: {left_s:,.0f} s are left until its server drops log that we need, or may"
        if source["spill_full"]:
            yield f"{source['source']}: the capture's spill is full, its server keeps the log"
        elif source["spill_bytes"]:
            yield f"{source['source']}: {human_bytes(source['spill_bytes'])} of batches are on the capture's disk"
    for entry in document["pipelines"]:
        for table, progress in entry["snapshot"].items():
            yield f"{entry['pipeline']}: copying {table}, {progress['rows']:,} of about {progress['estimate']:,} rows"
        if (changed := entry["schema_change"]) is not None:
            yield f"{entry['pipeline']}: last schema change at {changed['at']}: {changed['change']}"
        if entry["parked_keys"]:
            yield f"{entry['pipeline']}: parked keys: {entry['parked_keys']}. Next: worker-sync dead-letters list"
        if entry["state"] == Status.HALTED:
            yield f"{entry['pipeline']} is halted ({entry['reason']}): {entry['detail']}"
            yield f"  to recover: {entry['recovery']}"
    for system, breaker in document["breakers"].items():
        if breaker != "closed":
            yield f"{system} fails: workers ask it again every few seconds"
    if not any(source["capture"] == "running" for source in document["sources"]):
        yield "No capture is running. Next: worker-sync up"
