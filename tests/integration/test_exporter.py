"""The exporter over real reports in a real control store and a real broker."""

from __future__ import annotations

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kombu import Connection, Queue
from prometheus_client.parser import text_string_to_metric_families

from tasks.redis import SOCKET_TIMEOUT_S
from tests.fixtures.fix_proxy import ProxyTo
from worker_sync.core.errors import Halt, State, Unreachable
from worker_sync.core.metrics import BY_NAME
from worker_sync.core.position import Position
from worker_sync.core.secrets import Url
from worker_sync.core.settings import Settings, parse
from worker_sync.exporter import Collector, MetricsServer
from worker_sync.exporter.queues import queues_of
from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import Letter, LetterKind
from worker_sync.store.schedule import LEASE, Claim, RunStatus

#: Twice what a broker has for an answer.
GIVEN_UP_S = 2 * SOCKET_TIMEOUT_S

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def store(source_db: str) -> Iterator[ControlStore]:
    with ControlStore(source_db) as store:
        store.migrate()
        yield store


@pytest.fixture
def settings(source_db: str, redis_url: str) -> Settings:
    document: dict[str, Any] = {
        "control": source_db,
        "broker": redis_url,
        "databases": {"shop": {"url": "postgresql://h/shop"}, "reporting": {"url": "postgresql://h/reporting"}},
        "pipelines": {"p": {"source": "shop", "target": "reporting", "tables": ["public.*"]}},
    }
    return parse(document, where="test", folder=Path())


def report(lag_ms: float | None = 12.5, **shard: Any) -> dict[str, Any]:
    now = int(time.time() * 1_000_000)
    lane = {
        "position": str(Position("00B0")),
        "pending": 0,
        "waiting_ms": None,
        "committed_at": now,
        "applied_at": now,
        "lag_ms": lag_ms,
        "changes": 700,
        "batches": 9,
        "parked_keys": 3,
        **shard,
    }
    return {
        "retained_bytes": 4096,
        "window": {"bytes": 100, "batches": 2},
        "read_changes": 800,
        "pipelines": {"p": {"shards": {"0": lane}}},
    }


def scrape(settings: Settings, store: ControlStore, broker: str) -> Samples:
    depths = queues_of(Url(broker), ["sync", "default"])
    with (
        MetricsServer(Collector(settings, store, depths, None), "127.0.0.1", 0, store.ping) as server,
        urllib.request.urlopen(f"{server.url}/metrics") as answer,
    ):
        text = answer.read().decode()
    depths.close()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


LANE = (("pipeline", "p"), ("shard", "0"))
SHOP = (("source", "shop"),)


def test_a_report_becomes_metrics(settings: Settings, store: ControlStore, redis_url: str) -> None:
    store.reports.put("capture:shop", "capture", "shop", report())
    found = scrape(settings, store, redis_url)
    assert found["sync_lag_ms", LANE] == 12.5
    assert found["sync_rows_total", LANE] == 700
    assert found["sync_batches_total", LANE] == 9
    assert found["sync_window_bytes", SHOP] == 100
    assert found["sync_retained_log_bytes", SHOP] == 4096
    assert found["sync_capture_up", SHOP] == 1
    assert 0 <= found["sync_watermark_age_seconds", LANE] < 30


def test_what_is_parked_becomes_metrics(settings: Settings, store: ControlStore, redis_url: str) -> None:
    store.reports.put("capture:shop", "capture", "shop", report())
    change = Letter("c", LetterKind.CHANGE, b"", "TargetRejected", "why", pipeline="p", table="public.t", key="[1]")
    store.dead_letters.park(
        [change, replace(change, identity="d"), Letter("t", LetterKind.TASK, b"", "E", "", task="x")]
    )
    found = scrape(settings, store, redis_url)
    change_labels = (("kind", "change"), ("pipeline", "p"), ("task", ""))
    task_labels = (("kind", "task"), ("pipeline", ""), ("task", "x"))
    assert found["sync_parked_keys", LANE] == 3
    assert (found["dead_letters", change_labels], found["dead_letters", task_labels]) == (2, 1)
    assert 0 <= found["dead_letters_age_seconds", change_labels] < 30


def test_what_is_not_known_is_absent(settings: Settings, store: ControlStore, redis_url: str) -> None:
    found = scrape(settings, store, redis_url)
    names = {name for name, _ in found}
    assert not names & {"sync_lag_ms", "sync_rows_total", "sync_window_bytes", "sync_retained_log_bytes"}
    assert found["sync_capture_up", SHOP] == 0


def test_a_shard_without_measurement_has_no_lag(settings: Settings, store: ControlStore, redis_url: str) -> None:
    store.reports.put("capture:shop", "capture", "shop", report(lag_ms=None))
    assert ("sync_lag_ms", LANE) not in scrape(settings, store, redis_url)


def test_a_heartbeat_that_waits_makes_the_lag_grow(settings: Settings, store: ControlStore, redis_url: str) -> None:
    store.reports.put("capture:shop", "capture", "shop", report(lag_ms=0.0))
    store.heartbeats.sent("shop", "00B1")
    first = scrape(settings, store, redis_url)["sync_lag_ms", LANE]
    second = scrape(settings, store, redis_url)["sync_lag_ms", LANE]
    assert 0 < first < second


def test_a_halted_pipeline_is_labelled_with_its_reason(settings: Settings, store: ControlStore, redis_url: str) -> None:
    store.pipelines.halt("p", Halt(State.SLOT_MISSING, "gone", "resync"))
    found = scrape(settings, store, redis_url)
    assert found["sync_pipeline_halted", (("pipeline", "p"), ("reason", "slot-missing"))] == 1


def test_queues_are_counted_and_empty_ones_are_zero(settings: Settings, store: ControlStore, redis_url: str) -> None:
    with Connection(redis_url) as connection, connection.Producer() as producer:
        for _ in range(3):
            producer.publish({}, routing_key="sync", declare=[Queue("sync", routing_key="sync")])
    found = scrape(settings, store, redis_url)
    assert found["queue_depth", (("queue", "sync"),)] == 3
    assert found["queue_depth", (("queue", "default"),)] == 0


def test_a_broker_that_is_away_costs_its_metrics_only(settings: Settings, store: ControlStore) -> None:
    store.reports.put("capture:shop", "capture", "shop", report())
    found = scrape(settings, store, "redis://127.0.0.1:1/0")
    assert ("sync_lag_ms", LANE) in found
    assert found["scrape_errors_total", (("subject", "broker"),)] == 1
    assert "queue_depth" not in {name for name, _ in found}


@pytest.mark.long
@pytest.mark.parametrize("broker", ["redis_url", "rabbitmq_url"])
def test_a_broker_whose_line_died_in_silence_is_asked_over_another_one_in_time(
    broker: str, request: pytest.FixtureRequest, proxy_to: ProxyTo
) -> None:
    door = proxy_to(request.getfixturevalue(broker))
    depths = queues_of(Url(door.url), ["sync"])
    depths()
    door.forget()
    asked = time.monotonic()
    with contextlib.suppress(Unreachable):
        depths()
    assert time.monotonic() - asked < GIVEN_UP_S
    depths()
    depths.close()


def test_every_metric_is_in_the_table_of_names(settings: Settings, store: ControlStore, redis_url: str) -> None:
    store.reports.put("capture:shop", "capture", "shop", report())
    names = {name for name, _ in scrape(settings, store, redis_url)}
    assert names <= set(BY_NAME)


def test_health_says_when_the_control_store_is_away(settings: Settings, store: ControlStore, redis_url: str) -> None:
    away = ControlStore("postgresql://127.0.0.1:1/none")
    collector = Collector(settings, store, dict, None)
    with MetricsServer(collector, "127.0.0.1", 0, away.ping) as server:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}/healthz")
        with refused.value as answer:
            assert answer.code == 503
    with (
        MetricsServer(collector, "127.0.0.1", 0, store.ping) as server,
        urllib.request.urlopen(f"{server.url}/healthz") as healthy,
    ):
        assert healthy.read() == b"ok\n"


def test_what_processes_report_becomes_metrics(settings: Settings, store: ControlStore, redis_url: str) -> None:
    tasks = [("sync.apply", "p", "succeeded", 40), ("sync.apply", "p", "retried", 2)]
    for process in ("worker:h:1", "worker:h:2"):
        status = {"breakers": {}, "queues": ["sync", "default"], "tasks": tasks, "usage": {"host": "h", "cpu_s": 7.5}}
        store.reports.put(process, "worker", "h", status)
    store.reports.put("beat:h:3", "beat", "h", {"usage": {"host": "h", "memory_bytes": 512}})
    found = scrape(settings, store, redis_url)

    tried = (("outcome", "retried"), ("pipeline", "p"), ("task", "sync.apply"), ("worker", "h:2"))
    assert found["tasks_total", tried] == 2
    assert [found["queue_workers", (("queue", queue),)] for queue in ("sync", "audit")] == [2, 0]
    worker = (("host", "h"), ("process", "h:1"), ("role", "worker"))
    assert found["sync_process_cpu_seconds_total", worker] == 7.5
    assert ("sync_process_memory_bytes", worker) not in found
    assert found["sync_process_memory_bytes", (("host", "h"), ("process", "h:3"), ("role", "beat"))] == 512
    files = [labels for name, labels in found if name == "sync_process_open_files"]
    assert [dict(labels)["role"] for labels in files] == ["exporter"]


def test_what_a_silent_worker_did_is_shown_for_a_while(settings: Settings, store: ControlStore, redis_url: str) -> None:
    tasks = [("sync.apply", "p", "succeeded", 40)]
    status = {"breakers": {}, "queues": ["sync"], "tasks": tasks, "usage": {"host": "h", "cpu_s": 7.5}}
    store.reports.put("worker:h:1", "worker", "h", status)
    silent_for(settings, 16)
    found = scrape(settings, store, redis_url)
    assert found["queue_workers", (("queue", "sync"),)] == 0
    assert "h:1" not in {value for name, labels in found if name.startswith("sync_process_") for _, value in labels}
    counted = (("outcome", "succeeded"), ("pipeline", "p"), ("task", "sync.apply"), ("worker", "h:1"))
    assert found["tasks_total", counted] == 40
    silent_for(settings, 300)
    assert ("tasks_total", counted) not in scrape(settings, store, redis_url)


def silent_for(settings: Settings, seconds: int) -> None:
    """All reports are older by so much."""
    assert settings.control is not None
    with psycopg.connect(settings.control.reveal()) as connection:
        statement = "UPDATE worker_sync_control.reports SET updated_at = updated_at - make_interval(secs => %s)"
        connection.execute(statement, [seconds])


def test_the_schedule_becomes_metrics(settings: Settings, store: ControlStore, redis_url: str) -> None:
    assert scrape(settings, store, redis_url)["beat_up", ()] == 0
    lease = store.leases.acquire(LEASE, "beat-1", 60)
    assert lease is not None
    store.schedule.register({"health-check": "every 15 s", "report-cleanup": "17 * * * *"}, lease.token)
    for minute, status in enumerate([RunStatus.FAILED, RunStatus.FINISHED, None]):
        at = datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
        store.schedule.claim("health-check", at, "health.check", lease.token)
        if status is not None:
            store.schedule.ended(Claim("health-check", at, "health.check", lease.token), status)
    found = scrape(settings, store, redis_url)
    entry = (("entry", "health-check"),)
    assert found["beat_up", ()] == 1
    assert found["schedule_last_run_failed", entry] == 0, "the newest that has ended"
    assert 0 <= found["schedule_last_run_age_seconds", entry] < 30
    assert ("schedule_last_run_failed", (("entry", "report-cleanup"),)) not in found
