"""Reads what is known at the moment of a scrape and gives it as metrics.

What is not known is absent: a zero would say that all is well.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector as PrometheusCollector

import worker_sync
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.settings import Settings
from worker_sync.core.usage import usage
from worker_sync.exporter import processes
from worker_sync.exporter.families import Families
from worker_sync.exporter.lag import STALE_S, age_ms, behind_heartbeat_ms, shard_lag_ms
from worker_sync.exporter.ledger import LedgerFigures
from worker_sync.exporter.queues import Waiting
from worker_sync.exporter.rationed import Rationed
from worker_sync.store import ControlStore
from worker_sync.store.heartbeats import Heartbeat
from worker_sync.store.pipelines import Status
from worker_sync.store.reports import Report
from worker_sync.store.schedule import LEASE

log = logging.getLogger(__name__)

#: What waits in each queue, by name.
Depths = Callable[[], Mapping[str, Waiting]]


class Collector(PrometheusCollector):
    """Collects for one configuration. Used by many threads, one scrape at a time."""

    def __init__(
        self, settings: Settings, store: ControlStore, depths: Depths, ledger: Callable[[], LedgerFigures | None] | None
    ) -> None:
        self._settings = settings
        self._version: str = worker_sync.__version__
        self._ledger = ledger
        self._store = store
        self._depths = depths
        self._letters = Rationed(store.dead_letters.counts)
        self._lock = threading.Lock()
        self._errors = {"control": 0, "broker": 0} | ({"ledger": 0} if ledger else {})

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        families = Families()
        with self._lock:
            families.put("worker_sync_info", 1, version=self._version)
            processes.put_usage(families, "exporter", str(os.getpid()), usage(self._settings.state_dir))
            self._try("control", lambda: self._from_store(families))
            self._try("broker", lambda: self._from_broker(families))
            if self._ledger is not None:
                self._try("ledger", lambda: self._from_ledger(families))
            for part, count in self._errors.items():
                families.put("scrape_errors_total", count, subject=part)
        yield from families

    def _try(self, part: str, collect: Callable[[], None]) -> None:
        try:
            collect()
        except (WorkerSyncError, OSError) as error:
            self._errors[part] += 1
            log.warning("metrics of the %s are missing: %s", part, error, extra={"action": "scrape_failed"})

    # -- the broker

    def _from_broker(self, families: Families) -> None:
        for queue, waiting in self._depths().items():
            families.put("queue_depth", waiting.depth, queue=queue)
            families.put("queue_oldest_age_seconds", waiting.oldest_age_s, queue=queue)

    # -- the ledger

    def _from_ledger(self, families: Families) -> None:
        assert self._ledger is not None
        found = self._ledger()
        if found is None:
            return
        entries, signed, age_s, size = found.figures
        families.put("audit_entries_total", entries)
        families.put("audit_write_tps", found.write_tps)
        families.put("audit_unsigned_entries", entries - (signed or 0))
        families.put("audit_checkpoint_age_seconds", age_s)
        families.put("audit_ledger_bytes", size)

    # -- the control store

    def _from_store(self, families: Families) -> None:
        heartbeats = self._store.heartbeats.all()
        for heartbeat in heartbeats.values():
            families.put("sync_heartbeat_age_seconds", heartbeat.age_s, source=heartbeat.source)
        everyone = self._store.reports.all()
        processes.collect(families, everyone)
        reports = newest([report for report in everyone if report.kind == "capture"])
        for source in self._settings.sources:
            report = reports.get(source)
            families.put("sync_capture_up", float(report is not None and report.age_s <= STALE_S), source=source)
            if report is not None:
                self._from_report(families, report, heartbeats.get(source))
        self._from_schedule(families)
        self._from_states(families)
        self._from_health(families)
        self._from_dead_letters(families)

    def _from_dead_letters(self, families: Families) -> None:
        for count in self._letters():
            labels = {"kind": str(count.kind), "pipeline": count.pipeline, "task": count.task}
            families.put("dead_letters", count.letters, **labels)
            families.put("dead_letters_age_seconds", count.oldest_s, **labels)

    def _from_schedule(self, families: Families) -> None:
        leader = self._store.leases.holding(LEASE)
        families.put("beat_up", float(leader is not None and leader.left_s > 0))
        for run in self._store.schedule.last_ended():
            families.put("schedule_last_run_failed", float(run.has_failed), entry=run.entry)
            families.put("schedule_last_run_age_seconds", run.age_s, entry=run.entry)

    def _from_states(self, families: Families) -> None:
        standings = self._store.pipelines.all()
        for name in self._settings.flows:
            standing = standings.get(name)
            halted = standing is not None and standing.status is Status.HALTED
            reason = standing.reason if standing is not None and halted else ""
            families.put("sync_pipeline_halted", float(halted), pipeline=name, reason=reason)

    def _from_health(self, families: Families) -> None:
        for health in self._store.health.all():
            families.put("health_ok", None if health.ok is None else float(health.ok), subject=health.subject)
            families.put("health_latency_ms", health.latency_ms, subject=health.subject)
            families.put("health_age_seconds", health.age_s, subject=health.subject)
            families.put("clock_skew_seconds", health.skew_s, subject=health.subject)

    def _from_report(self, families: Families, report: Report, heartbeat: Heartbeat | None) -> None:
        source, said = report.subject, report.status
        if report.age_s <= STALE_S:
            window = said.get("window", {})
            families.put("sync_window_bytes", window.get("bytes"), source=source)
            families.put("sync_window_batches", window.get("batches"), source=source)
            families.put("sync_retained_log_bytes", said.get("retained_bytes"), source=source)
            spill = said.get("spill", {})
            families.put("sync_spill_bytes", spill.get("bytes"), source=source)
            families.put("sync_spill_full", None if not spill else float(spill["full"]), source=source)
            growth = said.get("retained_growth")
            families.put("sync_retained_log_growth_bytes_per_second", growth, source=source)
            families.put("sync_retained_log_seconds_left", said.get("retained_left_s"), source=source)
        families.put("sync_captured_rows_total", said.get("read_changes"), source=source)
        families.put("sync_resent_batches_total", said.get("resent_batches"), source=source)
        for pipeline, entry in said.get("pipelines", {}).items():
            for number, shard in entry.get("shards", {}).items():
                self._from_shard(families, report, heartbeat, shard, {"pipeline": pipeline, "shard": str(number)})

    def _from_shard(
        self,
        families: Families,
        report: Report,
        heartbeat: Heartbeat | None,
        shard: Mapping[str, Any],
        labels: dict[str, str],
    ) -> None:
        now_us = int(time.time() * 1_000_000)
        lag = shard_lag_ms(shard, report.age_s, now_us)
        if heartbeat is not None and lag is not None:
            lag = max(lag, behind_heartbeat_ms(shard, heartbeat.position, heartbeat.age_s) or 0.0)
        families.put("sync_lag_ms", lag, **labels)
        age = age_ms(shard.get("applied_at"), now_us)
        families.put("sync_watermark_age_seconds", None if age is None else age / 1000, **labels)
        families.put("sync_rows_total", shard.get("changes"), **labels)
        families.put("sync_batches_total", shard.get("batches"), **labels)
        families.put("sync_parked_keys", shard.get("parked_keys"), **labels)


def newest(reports: list[Report]) -> dict[str, Report]:
    """The newest report about each source: after a change of hosts the old capture's may still be there."""
    found: dict[str, Report] = {}
    for report in sorted(reports, key=lambda report: report.age_s):
        found.setdefault(report.subject, report)
    return found
