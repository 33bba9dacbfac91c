"""The log that real servers keep for a capture whose target stands still: watched, and given up at a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from connectors.mongodb.source import MongoSource
from connectors.mysql.source import MysqlSource
from connectors.postgres.source import PostgresSource
from tests.fixtures import fix_mysql
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig, rig, rows_of, same, settings_for
from tests.integration.test_mongodb_source import _in, small_log
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName
from worker_sync.core.settings import Settings
from worker_sync.embedded import EmbeddedPostgres
from worker_sync.store.pipelines import Status
from worker_sync.store.signals import SignalKind

__all__ = ["small_log"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MB = 1024 * 1024
#: One row of incompressible text, a megabyte of log.
FILL = (
    "INSERT INTO items SELECT 100 + {n}, string_agg(md5(random()::text), '') FROM generate_series(1, 32768) "
    "ON CONFLICT (id) DO NOTHING"
)
SLOTS = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def settings(source: str, target: str, **limits: Any) -> Settings:
    made = settings_for(source, target, ["public.items"], {"window_bytes": MB, "batch_bytes": MB // 4})
    log = made.databases["source"].retained_log.model_validate(limits)
    made.databases["source"] = made.databases["source"].model_copy(update={"retained_log": log})
    return made


@contextmanager
def stalled(source: str, target: str, control: str, **limits: Any) -> Iterator[Rig]:
    """A capture that has copied two rows and whose target then stands still."""
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO items VALUES (1, 'one'), (2, 'two')")
    with rig(settings(source, target, **limits), control) as made:
        made.start()
        eventually(lambda: same(source, target, "items"), 60, "the rows are copied")
        made.delivery.open.clear()
        yield made


def fill(source: str, first: int, megabytes: int) -> None:
    with psycopg.connect(source, autocommit=True) as connection:
        for n in range(first, first + megabytes):
            connection.execute(FILL.format(n=n).encode())


def retained(made: Rig) -> dict[str, Any]:
    [report] = made.store.reports.all("capture")
    return {name: value for name, value in report.status.items() if name.startswith("retained_")}


def heals(made: Rig, source: str, target: str) -> None:
    """As the recovery says: `worker-sync resync p`, and a new capture."""
    made.delivery.lose_all()
    made.delivery.open.set()
    made.store.signals.send("source", SignalKind.RESYNC, "p")
    made.store.pipelines.resume("p")
    made.start()
    eventually(lambda: same(source, target, "items"), 60, "the rows are copied anew")
    assert rows_of(source, SLOTS) == [(1,)]


def test_a_log_that_grows_behind_a_stalled_target_is_measured(
    source_db: str, target_db: str, control_db: str, caplog: pytest.LogCaptureFixture
) -> None:
    with stalled(source_db, target_db, control_db, limit_bytes=8 * MB, warn_left_s=0) as made:
        fill(source_db, 0, 6)
        eventually(lambda: "retained-log" in [getattr(r, "action", "") for r in caplog.records], 60, "a warning")
        fill(source_db, 6, 6)
        eventually(lambda: (retained(made)["retained_bytes"] or 0) >= 12 * MB, 60, "all of it is measured")
        found = retained(made)
        assert found["retained_growth"] > 0
        assert found["retained_left_s"] == 0
        assert made.running
        assert made.store.pipelines.get("p").status is Status.RUNNING
        made.delivery.open.set()
        eventually(lambda: same(source_db, target_db, "items"), 60, "hold loses nothing")


def test_detach_drops_the_stream_at_the_limit_and_resync_heals(source_db: str, target_db: str, control_db: str) -> None:
    with stalled(source_db, target_db, control_db, limit_bytes=8 * MB, policy="detach") as made:
        fill(source_db, 0, 12)
        eventually(lambda: not made.running, 60, "the capture ends")
        assert made.exit_code == 1
        standing = made.store.pipelines.get("p")
        assert (standing.status, standing.reason) == (Status.HALTED, "log-limit")
        assert "worker-sync resync p" in standing.recovery
        assert rows_of(source_db, SLOTS) == [(0,)]
        heals(made, source_db, target_db)


@pytest.mark.long
def test_a_resume_after_a_detach_skips_nothing(source_db: str, target_db: str, control_db: str) -> None:
    with stalled(source_db, target_db, control_db, limit_bytes=8 * MB, policy="detach") as made:
        fill(source_db, 0, 12)
        eventually(lambda: not made.running, 60, "the capture ends")
        made.store.pipelines.resume("p")
        made.start()
        eventually(lambda: not made.running, 60, "the capture ends again")
        assert made.store.pipelines.get("p").reason == "slot-missing"
        heals(made, source_db, target_db)


@pytest.mark.parametrize("first_reason", [State.LOG_LIMIT, pytest.param(State.TARGET_REJECTED, marks=pytest.mark.long)])
def test_a_stream_that_a_stopped_pipeline_pins_is_dropped_at_the_next_start(
    source_db: str, target_db: str, control_db: str, first_reason: State
) -> None:
    """As after a crash between halting and dropping, and for a pipeline that stood still before the log grew."""
    with stalled(source_db, target_db, control_db, limit_bytes=8 * MB, policy="detach") as made:
        made.stop()
        made.store.pipelines.halt("p", Halt(first_reason, "before", "worker-sync resync PIPELINE"))
        fill(source_db, 0, 12)
        made.start()
        eventually(lambda: not made.running, 60, "the capture ends")
        assert made.exit_code == 1
        assert rows_of(source_db, SLOTS) == [(0,)]
        assert made.store.pipelines.get("p").reason == first_reason
        heals(made, source_db, target_db)


@pytest.mark.long
def test_a_paused_pipelines_log_is_given_up_while_the_capture_waits(
    source_db: str, target_db: str, control_db: str
) -> None:
    with stalled(source_db, target_db, control_db, limit_bytes=8 * MB, policy="detach") as made:
        made.store.pipelines.pause("p")
        fill(source_db, 0, 12)
        eventually(lambda: made.store.pipelines.get("p").reason == "log-limit", 60, "the pipeline is halted")
        eventually(lambda: rows_of(source_db, SLOTS) == [(0,)], 60, "the stream is dropped")
        eventually(lambda: not made.running, 60, "the capture ends")
        heals(made, source_db, target_db)


def test_postgresql_says_how_much_its_own_limit_leaves(own_postgres: EmbeddedPostgres) -> None:
    url = own_postgres.url
    with psycopg.connect(url, autocommit=True) as connection, PostgresSource("s", url) as source:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY)")
        source.create_stream([TableName("public", "items")])
        assert source.stream_status().left_bytes is None
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        connection.execute("SELECT pg_reload_conf()")
        before = eventually(lambda: source.stream_status().left_bytes or 0, 20, "the limit is in force")
        connection.execute("SELECT pg_logical_emit_message(true, 'x', repeat('x', 4000000))")
        left = source.stream_status().left_bytes
        assert before > 0
        assert left is not None
        assert left <= before - 3_900_000


@pytest.mark.parametrize("server", ["mariadb", "mysql"])
def test_mysql_says_when_it_may_purge_what_we_need(server: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(server)
    with fix_mysql.new_mysql_database(root, "source") as url, MysqlSource("s", url) as source:
        fix_mysql.run(url, "CREATE TABLE items (id int PRIMARY KEY)")
        start = source.create_stream([TableName(source.home, "items")]).commit
        kept = fix_mysql.run(url, "SELECT @@GLOBAL.binlog_expire_logs_seconds")[0][0]
        try:
            fix_mysql.run(url, "SET GLOBAL binlog_expire_logs_seconds = 900")
            assert source.stream_status(start).left_s == 900
            fix_mysql.run(url, "INSERT INTO items VALUES (1)", "FLUSH BINARY LOGS")
            left = source.stream_status(start).left_s
            assert left is not None
            assert 700 < left <= 901
            eventually(lambda: (source.stream_status(start).left_s or 901) < left, 20, "the time passes")
            assert not source.stream_status(start).held
            fix_mysql.run(url, "SET GLOBAL binlog_expire_logs_seconds = 0")
            assert source.stream_status(start).left_s is None
        finally:
            fix_mysql.run(url, f"SET GLOBAL binlog_expire_logs_seconds = {kept}")


def test_mongodb_says_how_long_a_full_oplog_still_reaches_back(small_log: str) -> None:
    with MongoSource("s", _in(small_log, "shop")) as source:
        filler = source._database.client["other"]["filler"]
        source._database["c"].insert_one({"_id": 0})
        start = source.create_stream([TableName("", "c")]).commit
        assert source.stream_status(start).left_s is None

        def fuller() -> bool:
            filler.insert_many([{"text": "x" * 200_000} for _ in range(20)])
            filler.delete_many({})
            return source.stream_status(start).left_s is not None

        eventually(fuller, 90, "the oplog is full")
        eventually(lambda: fuller() and source.stream_status(start).left_s == 0, 90, "the start is about to be dropped")
        head = source.stream_status(start).head
        assert (source.stream_status(head).left_s or 0) >= 0
        assert not source.stream_status(start).held
