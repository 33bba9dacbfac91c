"""Batches through a real Redis and a real worker process into a real PostgreSQL."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import redis
import yaml
from celery import Celery

from connectors.base import Mark
from connectors.postgres.sink import PostgresSink
from tasks.celeryconfig import celery_settings
from tasks.parcels import Parcel, publish
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_proxy import Proxy, ProxyTo
from tests.fixtures.running import Role, celery
from worker_sync.core.change import Batch, Change, Op, Section, TransactionInfo
from worker_sync.core.codec import encode
from worker_sync.core.position import Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.settings import load
from worker_sync.store import ControlStore
from worker_sync.store.pipelines import Standing, Status

ORDERS = TableSchema(
    TableName("public", "orders"),
    (Column("id", Type(Kind.INT, "bigint", size=64), nullable=False), Column("note", Type(Kind.TEXT, "text"))),
    ("id",),
    "postgresql",
)
PIPELINE = "shop-to-reporting"


def batch(number: int, *, rows: int = 3, table: TableSchema = ORDERS) -> Batch:
    """Transaction `number`: the one after `number - 1`."""
    info = TransactionInfo(f"{number:016X}", number * 1_000_000)
    first = number * 100
    changes = [Change(n + 1, Op.INSERT, 1, None, None, (first + n, f"secret note {first + n}")) for n in range(rows)]
    after, upto = Position(f"{number - 1:016X}"), Position(info.commit)
    return Batch("shop", PIPELINE, 0, 1, after, upto, [Section(info, rows)], {1: table}, changes)


def parcel(one: Batch, encoded: bytes) -> Parcel:
    return Parcel(one.pipeline, one.shard, str(one.after), str(one.upto), encoded, one.summary())


@dataclass
class System:
    config: Path
    target: Proxy
    target_url: str
    control: ControlStore
    control_url: str
    broker: redis.Redis
    app: Celery

    def worker(self) -> AbstractContextManager[Role]:
        return celery(self.config, "worker", "-Q", "sync,default,cleanup", "-n", "w@%h", ready="ready.")

    def publish(self, *batches: Batch) -> None:
        for one in batches:
            publish(self.app, parcel(one, encode(one)))

    def ids(self) -> list[int]:
        with psycopg.connect(self.target_url) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM public.orders ORDER BY id")]

    def mark(self) -> Mark:
        with PostgresSink("reporting", self.target_url) as sink:
            return sink.marks(PIPELINE)[0]

    def applied(self, number: int) -> bool:
        return self.mark().position >= Position(f"{number:016X}")

    def standing(self) -> Standing:
        return self.control.pipelines.get(PIPELINE)

    def waiting(self) -> int:
        """Messages in the broker that no worker has finished."""
        return int(self.broker.llen("sync")) + int(self.broker.hlen("unacked"))


@pytest.fixture
def system(
    postgres: str, source_db: str, target_db: str, redis_url: str, proxy_to: ProxyTo, tmp_path: Path
) -> Iterator[System]:
    target = proxy_to(target_db)
    with new_database(postgres, "control") as control_url, ControlStore(control_url) as control:
        control.migrate()
        config = tmp_path / "worker-sync.yaml"
        data = {
            "control": control_url,
            "broker": redis_url,
            "state_dir": str(tmp_path / "state"),
            "databases": {"shop": {"url": source_db}, "reporting": {"url": target.url}},
            "pipelines": {PIPELINE: {"source": "shop", "target": "reporting", "tables": ["public.*"]}},
        }
        config.write_text(yaml.safe_dump(data))
        prepare(target_db)
        app = Celery("test", set_as_current=False)
        app.add_defaults(lambda: celery_settings(load(config)))
        with redis.Redis.from_url(redis_url) as broker:
            yield System(config, target, target_db, control, control_url, broker, app)
        app.close()


def prepare(url: str) -> None:
    with PostgresSink("reporting", url) as sink:
        sink.prepare()
        sink.create_table(ORDERS)
        sink.fence(PIPELINE, 0, 1, "server", Position(f"{0:016X}"))


def execute(url: str, statement: LiteralString) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_a_worker_applies_batches_once_however_often_they_come(system: System) -> None:
    with system.worker():
        system.publish(batch(1), batch(1), batch(2), batch(1), batch(2))
        eventually(lambda: system.waiting() == 0)
    assert system.ids() == [100, 101, 102, 200, 201, 202]
    assert (system.mark().changes, system.mark().batches) == (6, 2)


def test_an_early_batch_waits_for_the_one_before_it(system: System) -> None:
    with system.worker() as worker:
        system.publish(batch(3), batch(2), batch(1))
        eventually(lambda: system.applied(3))
        eventually(lambda: system.waiting() == 0)
        assert "given up" not in worker.text()
    assert system.mark().changes == 9


def test_a_batch_whose_predecessor_never_comes_is_given_up_by_our_policy_without_its_content(system: System) -> None:
    with system.worker() as worker:
        system.publish(batch(2))
        eventually(lambda: "given up" in worker.text() or "Traceback" in worker.text(), 40)
        assert "Traceback" not in worker.text()
        assert "secret note" not in worker.text()
        system.publish(batch(1), batch(2))  # as its capture does
        eventually(lambda: system.applied(2))


def test_a_worker_killed_in_the_middle_of_an_apply_leaves_nothing_half_done(system: System) -> None:
    with psycopg.connect(system.target_url) as blocker, system.worker() as worker:
        blocker.execute("LOCK TABLE public.orders")
        system.publish(batch(1))
        stuck: LiteralString = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        eventually(lambda: execute(system.target_url, stuck), what="the apply waits for the table")
        worker.kill()
    # The server may have had the whole transaction already, but never a part of it.
    assert system.ids() in ([], [100, 101, 102])
    with system.worker():
        system.publish(batch(1), batch(2))  # as the capture does when the watermark stands still
        eventually(lambda: system.applied(2))
    assert system.ids() == [100, 101, 102, 200, 201, 202]
    assert system.mark().changes == 6


def test_a_target_that_is_away_for_a_moment_costs_a_retry(system: System) -> None:
    system.target.cut()
    with system.worker() as worker:
        system.publish(batch(1))
        eventually(lambda: "action=retry" in worker.text())
        system.target.restore()
        eventually(lambda: system.applied(1))
        assert system.standing().status is Status.RUNNING


def test_a_stopped_worker_hands_back_what_it_holds(system: System) -> None:
    with system.worker() as worker:
        system.target.cut()
        system.publish(batch(1))
        eventually(lambda: "action=retry" in worker.text())
        assert worker.stop() == 0
    assert system.broker.hlen("unacked") == 0
    assert system.broker.llen("sync") == 1
    system.target.restore()
    with system.worker():
        eventually(lambda: system.applied(1))


def test_a_missing_table_halts_the_pipeline_in_a_named_state(system: System) -> None:
    execute(system.target_url, "DROP TABLE public.orders")
    with system.worker() as worker:
        system.publish(batch(1))
        eventually(lambda: system.standing().status is Status.HALTED)
        eventually(lambda: system.waiting() == 0)
        assert "action=halted" in worker.text()
    assert system.standing().reason == "schema-mismatch"
    assert system.standing().recovery
    assert not system.applied(1)


def test_bytes_that_are_no_batch_halt_the_pipeline(system: System) -> None:
    with system.worker():
        publish(system.app, parcel(batch(1), b"\x01\x00nonsense"))
        eventually(lambda: system.standing().status is Status.HALTED)
    assert system.standing().reason == "undecodable-batch"


def test_a_halt_that_cannot_be_recorded_is_tried_again(system: System) -> None:
    execute(system.control_url, "ALTER SCHEMA worker_sync_control RENAME TO away")
    with system.worker() as worker:
        publish(system.app, parcel(batch(1), b"\x01\x00nonsense"))
        eventually(lambda: "action=retry" in worker.text())
        execute(system.control_url, "ALTER SCHEMA away RENAME TO worker_sync_control")
        eventually(lambda: system.standing().status is Status.HALTED)


def test_a_message_shows_its_summary_and_not_its_content(system: System) -> None:
    system.publish(batch(1))
    raw = system.broker.lindex("sync", 0)
    assert isinstance(raw, bytes)
    message = json.loads(raw)
    assert message["headers"]["argsrepr"] == batch(1).summary()
    assert message["content-type"] == "application/x-msgpack"
    assert message["headers"]["published_at"] > 0
    assert "secret note" not in json.dumps(message["headers"])
    assert b"secret note" in base64.b64decode(message["body"])


def test_a_retried_message_keeps_its_summary(system: System) -> None:
    system.target.cut()
    with system.worker() as worker:
        system.publish(batch(1))
        eventually(lambda: "action=retry" in worker.text())
        worker.stop()
    raw = system.broker.lindex("sync", 0)
    assert isinstance(raw, bytes)
    headers = json.loads(raw)["headers"]
    assert headers["retries"] > 0
    assert headers["argsrepr"] == batch(1).summary()


def test_what_people_ask_for_becomes_signals(system: System) -> None:
    with system.worker() as worker:
        system.app.send_task("sync.resync_table", (PIPELINE, "public.orders"))
        system.app.send_task("sync.snapshot_table", (PIPELINE,))
        system.app.send_task("sync.pause", (PIPELINE,))
        system.app.send_task("sync.resync_table", ("no-such-pipeline", "x"))
        signals = eventually(lambda: len(found := system.control.signals.pending("shop")) == 3 and found)
        assert [(str(one.kind), one.table) for one in signals or []] == [
            ("resync", "public.orders"),
            ("snapshot", None),
            ("pause", None),
        ]
        assert system.standing().status is Status.PAUSED
        system.app.send_task("sync.resume", (PIPELINE,))
        eventually(lambda: system.standing().status is Status.RUNNING)
        eventually(lambda: "no pipeline 'no-such-pipeline'" in worker.text())


def test_beat_sends_heartbeats_and_checks_health(system: System) -> None:
    with system.config.open("a") as config:
        config.write("heartbeat: {every_s: 0.2}\nschedules: {health-check: {every_s: 0.3}}\n")
    with system.worker(), celery(system.config, "beat", ready="is starting"):
        first = eventually(lambda: system.control.heartbeats.all().get("shop"))
        assert first is not None
        eventually(lambda: system.control.heartbeats.all()["shop"].position > first.position)
        eventually(lambda: all(health(system).get(subject) for subject in SUBJECTS), what="everything is healthy")
        system.target.cut()
        eventually(lambda: health(system)["database:reporting"] is False)
        assert health(system)["database:shop"]


def test_a_source_that_has_stopped_keeps_no_other_from_its_heartbeat(system: System, postgres: str) -> None:
    with new_database(postgres, "aside") as url:
        data = yaml.safe_load(system.config.read_text())
        data["databases"] = {"aside": {"url": url}} | data["databases"]
        data["audit"] = {"aside": {"tables": ["*"], "capture": "triggers"}}
        data["schedules"] = {"heartbeat": {"every_s": 0.2}}
        system.config.write_text(yaml.safe_dump(data, sort_keys=False))
        with system.worker() as worker, celery(system.config, "beat", ready="is starting"):
            eventually(lambda: "shop" in system.control.heartbeats.all())
            eventually(lambda: "no heartbeat for aside" in worker.text())
            assert "task-failed" not in worker.text()


SUBJECTS = ("broker", "control", "database:reporting", "database:shop")


def health(system: System) -> dict[str, bool | None]:
    return {one.subject: one.ok for one in system.control.health.all()}
