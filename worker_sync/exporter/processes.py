"""What captures, workers and beats say of themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tasks.breakers import NUMBERS
from tasks.queues import NAMES
from tasks.reporter import WORKER
from worker_sync.exporter.families import Families
from worker_sync.exporter.lag import STALE_S
from worker_sync.store.reports import Report

#: Seconds for which the counts of a silent worker are shown: more than a slow scrape's interval.
COUNTED_S: Final = 300.0
#: What a process reports of its usage, by metric.
_USAGE: Final = {
    "sync_process_cpu_seconds_total": "cpu_s",
    "sync_process_cpu_cores": "cpu_cores",
    "sync_process_memory_bytes": "memory_bytes",
    "sync_process_memory_limit_bytes": "memory_limit_bytes",
    "sync_process_open_files": "open_files",
    "sync_process_open_files_limit": "open_files_limit",
    "sync_disk_free_bytes": "disk_free_bytes",
    "sync_disk_bytes": "disk_bytes",
}


def collect(families: Families, reports: Iterable[Report]) -> None:
    """The metrics of all processes that report."""
    reports = list(reports)
    for report in reports:
        role, _, name = report.process.partition(":")
        if "usage" in report.status and report.age_s <= STALE_S:
            put_usage(families, role, name, report.status["usage"])
    workers = [report for report in reports if report.kind == WORKER]
    for system, state in breaker_states(workers).items():
        families.put("breaker_state", NUMBERS[state], system=system)
    for queue, count in workers_by_queue(workers).items():
        families.put("queue_workers", count, queue=queue)
    for report in workers:
        _put_counts(families, report)


def put_usage(families: Families, role: str, process: str, used: Mapping[str, Any]) -> None:
    """What one process takes of its machine."""
    labels = {"role": role, "host": used["host"], "process": process}
    for metric, key in _USAGE.items():
        families.put(metric, used.get(key), **labels)
    _put_spans(families, labels, used)


def _put_spans(families: Families, labels: Mapping[str, str], used: Mapping[str, Any]) -> None:
    for outcome in ("sent", "dropped"):
        families.put("sync_spans_total", used.get(f"spans_{outcome}"), **labels, outcome=outcome)


def breaker_states(reports: Iterable[Report]) -> dict[str, str]:
    """The most open state of every system among the breakers of living workers."""
    found: dict[str, str] = {}
    for report in reports:
        if report.age_s > STALE_S:
            continue
        for system, breaker in report.status.get("breakers", {}).items():
            found[system] = max(found.get(system, "closed"), breaker["state"], key=NUMBERS.__getitem__)
    return dict(sorted(found.items()))


def workers_by_queue(reports: Iterable[Report]) -> Mapping[str, int]:
    """How many living worker processes take messages from each queue."""
    found = Counter(dict.fromkeys(NAMES, 0))
    for report in reports:
        if report.age_s <= STALE_S:
            found.update(report.status.get("queues", ()))
    return found


def _put_counts(families: Families, report: Report) -> None:
    """A worker that is gone is counted for a while still: its last tries may not have been scraped yet."""
    if report.age_s > COUNTED_S:
        return
    worker = report.process.partition(":")[2]
    for system, breaker in report.status.get("breakers", {}).items():
        families.put("breaker_opened_total", breaker.get("opened"), system=system, worker=worker)
    for task, pipeline, outcome, count in report.status.get("tasks", ()):
        families.put("tasks_total", count, task=task, pipeline=pipeline, outcome=outcome, worker=worker)
