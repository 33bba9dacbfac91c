"""The names of all metrics, in one table: what the exporter serves, dashboards and alerts read.

A value that is not known is absent, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `unit` is what its number counts."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    unit: str
    labels: tuple[str, ...]
    help: str


_LANE: Final = ("pipeline", "shard")
_PROCESS: Final = ("role", "host", "process")

METRICS: Final = (
    Metric("worker_sync_info", "gauge", "always 1", ("version",), "Which version the exporter is"),
    Metric("sync_lag_ms", "gauge", "milliseconds", _LANE, "From source commit to target commit, heartbeats included"),
    Metric("sync_rows_total", "counter", "rows", _LANE, "Changes applied to the target"),
    Metric("sync_batches_total", "counter", "batches", _LANE, "Batches applied to the target"),
    Metric("sync_watermark_age_seconds", "gauge", "seconds", _LANE, "Time since the target last applied a batch"),
    Metric("sync_window_batches", "gauge", "batches", ("source",), "Batches sent that are not applied yet"),
    Metric("sync_window_bytes", "gauge", "bytes", ("source",), "Bytes of batches that are not applied yet"),
    Metric("sync_captured_rows_total", "counter", "rows", ("source",), "Changes read from the source's log"),
    Metric("sync_resent_batches_total", "counter", "batches", ("source",), "Batches sent again"),
    Metric("sync_retained_log_bytes", "gauge", "bytes", ("source",), "Log that the source's server keeps for us"),
    Metric(
        "sync_retained_log_growth_bytes_per_second",
        "gauge",
        "bytes per second",
        ("source",),
        "How fast that log grows; below 0 while it shrinks",
    ),
    Metric(
        "sync_retained_log_seconds_left",
        "gauge",
        "seconds",
        ("source",),
        "Time until that log reaches a limit, or the server drops what we need",
    ),
    Metric("sync_spill_bytes", "gauge", "bytes", ("source",), "Batches on the capture's disk, encrypted"),
    Metric("sync_spill_full", "gauge", "1 or 0", ("source",), "Whether batches wait that can't be written there"),
    Metric("sync_heartbeat_age_seconds", "gauge", "seconds", ("source",), "Time since the newest heartbeat was sent"),
    Metric("sync_capture_up", "gauge", "1 or 0", ("source",), "Whether a capture holds the lease and reports"),
    Metric("sync_pipeline_halted", "gauge", "1 or 0", ("pipeline", "reason"), "Whether the pipeline stands still"),
    Metric("sync_parked_keys", "gauge", "keys", _LANE, "Keys whose changes are parked in dead letters"),
    Metric("dead_letters", "gauge", "letters", ("kind", "pipeline", "task"), "Failed work that waits for a person"),
    Metric(
        "dead_letters_age_seconds", "gauge", "seconds", ("kind", "pipeline", "task"), "Time since the oldest was parked"
    ),
    Metric(
        "breaker_state", "gauge", "0 closed, 1 half-open, 2 open", ("system",), "The most open of all workers' breakers"
    ),
    Metric("breaker_opened_total", "counter", "times", ("system", "worker"), "How often a worker left a system alone"),
    Metric(
        "tasks_total",
        "counter",
        "tries",
        ("task", "pipeline", "outcome", "worker"),
        "Tries of tasks: succeeded, retried, deferred (nothing was tried yet), failed for good",
    ),
    Metric("queue_workers", "gauge", "processes", ("queue",), "Worker processes that take messages from the queue"),
    Metric("beat_up", "gauge", "1 or 0", (), "Whether a beat holds the lease to fire"),
    Metric("schedule_last_run_failed", "gauge", "1 or 0", ("entry",), "Whether the newest run that ended has failed"),
    Metric("schedule_last_run_age_seconds", "gauge", "seconds", ("entry",), "Time since the newest run that ended"),
    Metric("audit_entries_total", "counter", "entries", (), "Entries of the ledger"),
    Metric("audit_write_tps", "gauge", "entries per second", (), "Entries recorded since the scrape before"),
    Metric("audit_unsigned_entries", "gauge", "entries", (), "Entries behind the newest checkpoint"),
    Metric("audit_checkpoint_age_seconds", "gauge", "seconds", (), "Time since the newest checkpoint was signed"),
    Metric("audit_ledger_bytes", "gauge", "bytes", (), "What the ledger's entries take on disk, indexes included"),
    Metric("queue_depth", "gauge", "messages", ("queue",), "Messages that wait; on Redis also those workers hold"),
    Metric("queue_oldest_age_seconds", "gauge", "seconds", ("queue",), "Age of the oldest; on RabbitMQ at most this"),
    Metric("health_ok", "gauge", "1 or 0", ("subject",), "Whether the last health check succeeded"),
    Metric("health_latency_ms", "gauge", "milliseconds", ("subject",), "How long the last health check took"),
    Metric("health_age_seconds", "gauge", "seconds", ("subject",), "Time since the last health check"),
    Metric(
        "clock_skew_seconds",
        "gauge",
        "seconds",
        ("subject",),
        "How far a system's clock was ahead of the worker's at the last health check",
    ),
    Metric("sync_process_cpu_seconds_total", "counter", "seconds", _PROCESS, "Time on a core"),
    Metric("sync_process_cpu_cores", "gauge", "cores", _PROCESS, "What the process's container, or machine, may use"),
    Metric("sync_process_memory_bytes", "gauge", "bytes", _PROCESS, "Resident memory"),
    Metric(
        "sync_process_memory_limit_bytes",
        "gauge",
        "bytes",
        _PROCESS,
        "What the process's container, or machine, may have",
    ),
    Metric("sync_process_open_files", "gauge", "files", _PROCESS, "Open files and connections"),
    Metric("sync_process_open_files_limit", "gauge", "files", _PROCESS, "How many the process may open"),
    Metric("sync_disk_free_bytes", "gauge", "bytes", _PROCESS, "Room on the disk of the process's `state_dir`"),
    Metric("sync_disk_bytes", "gauge", "bytes", _PROCESS, "Size of that disk"),
    Metric(
        "sync_spans_total",
        "counter",
        "spans",
        (*_PROCESS, "outcome"),
        "Spans of traces: sent to the collector; dropped, because it was away or too slow",
    ),
    Metric("scrape_errors_total", "counter", "errors", ("subject",), "Sources of metrics that could not be read"),
)

BY_NAME: Final = {metric.name: metric for metric in METRICS}
