"""The capture loop between real PostgreSQL databases: nothing lost, doubled or reordered whatever delivery does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.traffic import Traffic
from tests.integration.capture_rig import Rig, has_table, rig, rows_of, same, settings_for
from worker_sync.core.errors import State
from worker_sync.core.settings import Settings, parse

TABLE = """
CREATE TABLE items (id bigint PRIMARY KEY, name text, body text, at timestamptz DEFAULT now());
ALTER TABLE items ALTER body SET STORAGE EXTERNAL;
"""
BIG = 20_000


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def loaded(target: str) -> bool:
    """The snapshot of the only table is applied."""
    if not has_table(target, "worker_sync.watermarks"):
        return False
    done = "SELECT (snapshots->'public.items'->>'done')::bool FROM worker_sync.watermarks"
    return rows_of(target, done) == [(True,)]


class Load(Traffic):
    """Random inserts, updates (of the small column only, too), deletes and key changes, in transactions of any size."""

    def reached(self, transactions: int) -> bool:
        return self.transactions > transactions

    def work(self) -> None:
        with psycopg.connect(self.url) as connection:
            while not self.stopping.is_set():
                with connection.transaction():
                    for _ in range(self.random.choice((1, 1, 1, 5, 50))):
                        self._change(connection)
                self.transactions += 1

    def _change(self, connection: psycopg.Connection) -> None:
        pick, key, other = self.random.random(), self.random.randrange(2000), self.random.randrange(2000)
        if pick < 0.4:
            connection.execute(
                "INSERT INTO items (id, name, body) VALUES (%s, %s, repeat(md5(%s::text), %s)) ON CONFLICT DO NOTHING",
                (key, f"n{other}", other, self.random.choice((1, 400))),
            )
        elif pick < 0.75:
            connection.execute("UPDATE items SET name = %s WHERE id = %s", (f"u{other}", key))
        elif pick < 0.9:
            connection.execute(
                "UPDATE items SET id = %s, name = name || 'k' WHERE id = %s AND NOT EXISTS "
                "(SELECT FROM items WHERE id = %s)",
                (other, key, other),
            )
        else:
            connection.execute("DELETE FROM items WHERE id = %s", (key,))


@pytest.mark.parametrize("shards", [1, 3])
def test_rows_arrive_through_snapshot_and_stream(source_db: str, target_db: str, control_db: str, shards: int) -> None:
    execute(source_db, TABLE, "INSERT INTO items SELECT n, 'old', repeat('x', 5000) FROM generate_series(1, 3000) n")
    settings = settings_for(source_db, target_db, ["public.*"], {"snapshot_rows": 200}, shards=shards)
    with rig(settings, control_db) as made:
        made.start()
        with Load(source_db, 1) as load:
            eventually(lambda: load.transactions > 500, 120)
        eventually(lambda: same(source_db, target_db, "items"), 60)
        made.stop()
        assert made.exit_code == 0


@pytest.mark.parametrize("shards", [1, 3])
def test_a_delivery_that_loses_repeats_and_reorders_changes_nothing(
    source_db: str, target_db: str, control_db: str, shards: int
) -> None:
    execute(source_db, TABLE, "INSERT INTO items SELECT n, 'old', repeat('x', 5000) FROM generate_series(1, 1000) n")
    settings = settings_for(
        source_db,
        target_db,
        ["public.*"],
        {"snapshot_rows": 100, "batch_changes": 50, "resend_after_s": 0.1},
        shards=shards,
    )
    with rig(settings, control_db) as made:
        made.delivery.lose = made.delivery.repeat = made.delivery.shuffle = 0.1
        made.start()
        with Load(source_db, 2) as load:
            eventually(lambda: load.transactions > 150, 120)
        eventually(lambda: same(source_db, target_db, "items"), 90)
        made.stop()
        assert made.delivery.outcomes.get("duplicate", 0) > 0
        assert made.delivery.outcomes.get("early", 0) > 0


def test_restarts_in_the_middle_of_snapshot_and_stream_lose_nothing(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE, "INSERT INTO items SELECT n, 'old', repeat('x', 5000) FROM generate_series(1, 3000) n")
    settings = settings_for(source_db, target_db, ["public.*"], {"snapshot_rows": 100, "batch_changes": 100})
    with rig(settings, control_db) as made:
        with Load(source_db, 3) as load:
            for goal in range(60, 360, 60):
                made.start()
                eventually(partial(load.reached, goal), 120)
                made.stop()
                assert made.exit_code == 0, goal
                made.delivery.lose_all()
        made.start()
        eventually(lambda: same(source_db, target_db, "items"), 60)
        made.stop()


def test_a_wiped_broker_is_refilled_from_the_window(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE)
    settings = settings_for(source_db, target_db, ["public.*"], {"batch_changes": 10})
    with rig(settings, control_db) as made:
        made.start()
        eventually(lambda: has_table(target_db, "items"))
        made.delivery.open.clear()
        execute(source_db, *[f"INSERT INTO items (id) VALUES ({n})" for n in range(500)])
        eventually(lambda: sum(len(batch.changes) for batch in made.delivery.published) >= 500)
        assert made.delivery.lose_all() > 0
        made.delivery.open.set()
        eventually(lambda: same(source_db, target_db, "items"), 30)
        eventually(lambda: made.store.reports.all("capture")[0].status["resent_batches"] > 0)


def test_the_slot_is_confirmed_only_up_to_what_the_target_has(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE)
    confirmed = (
        "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name LIKE 'worker_sync%%'"
    )

    def passed(lsn: str) -> bool:
        with psycopg.connect(source_db) as connection:
            row = connection.execute(confirmed, (lsn,)).fetchone()
            return bool(row and row[0])

    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start()
        eventually(lambda: loaded(target_db))
        made.delivery.open.clear()
        execute(source_db, "INSERT INTO items (id) VALUES (1)")
        [(lsn,)] = rows_of(source_db, "SELECT pg_current_wal_insert_lsn()::text")
        eventually(lambda: any(batch.changes for batch in made.delivery.published))
        before = made.store.checkpoints.load("source")
        for _ in range(2):
            before_that = reported(made)
            execute(source_db, "SELECT pg_logical_emit_message(true, 'worker_sync.nudge', '')")
            eventually(partial(reported_beyond, made, before_that))
        assert not passed(lsn)
        made.delivery.open.set()
        eventually(lambda: passed(lsn))
        after = made.store.checkpoints.load("source")
        assert before is not None
        assert after is not None
        assert after.confirmed > before.confirmed


def test_a_transaction_larger_than_the_window_passes_in_bounded_pieces(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE)
    capture = {"batch_changes": 500, "batch_bytes": 65536, "window_bytes": 500_000, "window_batches": 4}
    with rig(settings_for(source_db, target_db, ["public.*"], capture), control_db) as made:
        made.start()
        eventually(lambda: loaded(target_db))
        execute(source_db, f"INSERT INTO items SELECT n, 'big', md5(n::text) FROM generate_series(1, {BIG}) n")
        eventually(lambda: same(source_db, target_db, "items"), 60)
        assert sum(batch.split for batch in made.delivery.published) > 10
        assert max(len(batch.changes) for batch in made.delivery.published) <= 1000


@pytest.mark.parametrize(
    ("accident", "state"),
    [
        (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
            State.SLOT_MISSING,
        ),
        (
            """SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots
            WHERE database = current_database()""",
            State.POSITION_LOST,
        ),
    ],
)
def test_a_lost_position_stops_in_a_named_state_and_resync_heals(
    source_db: str, target_db: str, control_db: str, accident: str, state: State
) -> None:
    execute(source_db, TABLE, "INSERT INTO items SELECT n, 'old', 'b' FROM generate_series(1, 100) n")
    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start()
        eventually(lambda: same(source_db, target_db, "items"))
        made.stop()
        execute(source_db, "DELETE FROM items WHERE id < 50", "INSERT INTO items (id) VALUES (1000)", accident)
        made.start()
        eventually(lambda: not made.running)
        assert made.exit_code == 1
        standing = made.store.pipelines.get("p")
        assert (standing.reason, standing.recovery) == (state, "worker-sync resync p")
        assert rows_of(target_db, "SELECT count(*) FROM items") == [(100,)]
        made.store.signals.send("source", "resync", "p")
        made.store.pipelines.resume("p")
        made.start()
        eventually(lambda: same(source_db, target_db, "items"))
        eventually(lambda: made.store.signals.pending("source") == [])
        made.stop()


def test_a_target_that_lost_its_watermark_is_not_gone_on_with_where_nothing_is_copied(
    source_db: str, target_db: str, control_db: str
) -> None:
    """Where rows are copied at the start they are copied again; here nobody would notice that they are gone."""
    execute(source_db, TABLE)
    execute(target_db, TABLE)
    with rig(settings_for(source_db, target_db, ["public.*"], snapshot="none"), control_db) as made:
        made.start()
        eventually(lambda: has_table(target_db, "worker_sync.watermarks"))
        eventually(lambda: made.store.checkpoints.load("source"))
        execute(source_db, "INSERT INTO items (id) VALUES (1)")
        eventually(lambda: same(source_db, target_db, "items"))
        made.stop()
        # As a target that was set up anew.
        execute(target_db, "TRUNCATE items", "TRUNCATE worker_sync.watermarks")
        made.start()
        eventually(lambda: not made.running)
        standing = made.store.pipelines.get("p")
        assert (standing.reason, standing.recovery) == (State.POSITION_LOST, "worker-sync resync p")


def test_resync_leads_past_what_the_log_holds_and_nobody_can_read(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE)
    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start(stay=True)
        eventually(lambda: loaded(target_db))
        execute(source_db, "ALTER TABLE items DROP CONSTRAINT items_pkey", "INSERT INTO items (id) VALUES (1)")
        eventually(lambda: made.store.pipelines.get("p").reason == State.TABLE_UNSUPPORTED)
        execute(source_db, "ALTER TABLE items ADD PRIMARY KEY (id)")
        made.store.signals.send("source", "resync", "p")
        made.store.pipelines.resume("p")
        eventually(lambda: same(source_db, target_db, "items"))
        made.stop()


def test_with_on_rejected_halt_a_refused_row_halts_its_pipeline_and_resume_goes_on(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE)
    with rig(settings_for(source_db, target_db, ["public.*"], on_rejected="halt"), control_db) as made:
        made.start(stay=True)
        eventually(lambda: has_table(target_db, "items"))
        execute(target_db, "ALTER TABLE items ADD CONSTRAINT short CHECK (length(name) < 5)")
        execute(source_db, "INSERT INTO items (id, name) VALUES (1, 'much too long'), (2, 'ok')")
        eventually(lambda: made.store.pipelines.get("p").reason == State.TARGET_REJECTED)
        assert rows_of(target_db, "SELECT count(*) FROM items") == [(0,)]
        execute(target_db, "ALTER TABLE items DROP CONSTRAINT short")
        made.store.pipelines.resume("p")
        eventually(lambda: same(source_db, target_db, "items"))
        made.stop()


def test_pause_holds_the_log_and_resume_continues(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE)
    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start()
        execute(source_db, "INSERT INTO items (id) VALUES (1)")
        eventually(lambda: same(source_db, target_db, "items"))
        made.store.pipelines.pause("p")
        # What comes before the session has ended may still be applied.
        eventually(lambda: not any(r.age_s < 1.5 for r in made.store.reports.all()))
        execute(source_db, "INSERT INTO items (id) VALUES (2)")
        assert rows_of(target_db, "SELECT count(*) FROM items") == [(1,)]
        made.store.pipelines.resume("p")
        eventually(lambda: same(source_db, target_db, "items"))
        made.stop()


def reported(made: Rig) -> str:
    """The position up to which the capture says that it has read."""
    reports = made.store.reports.all()
    return reports[0].status["position"] if reports else ""


def reported_beyond(made: Rig, position: str) -> bool:
    return reported(made) > position


def runs_with(made: Rig, shards: int) -> bool:
    """Every shard, and none beyond them, was among the last batches."""
    return {batch.shard for batch in made.delivery.published[-50:]} == set(range(shards))


def test_another_number_of_shards_takes_over_once_the_old_ones_are_drained(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE, "INSERT INTO items SELECT n, 'old', repeat('x', 5000) FROM generate_series(1, 500) n")
    with Load(source_db, 7) as load:
        for goal, shards in ((50, 1), (100, 4), (150, 2), (200, 3)):
            with rig(settings_for(source_db, target_db, ["public.*"], shards=shards), control_db) as made:
                made.start()
                eventually(partial(load.reached, goal), 120)
                eventually(partial(runs_with, made, shards), 30)
                made.stop()
    with rig(settings_for(source_db, target_db, ["public.*"], shards=3), control_db) as made:
        made.start()
        eventually(lambda: same(source_db, target_db, "items"), 60)
        made.stop()
        assert not any(batch.snapshot and batch.changes for batch in made.delivery.published)


def two_pipelines(source: str, target: str, other: str, *names: str) -> Settings:
    targets = {"p": "target", "q": "other"}
    return parse(
        {
            "databases": {"source": {"url": source}, "target": {"url": target}, "other": {"url": other}},
            "pipelines": {
                name: {"source": "source", "target": targets[name], "tables": ["public.*"]} for name in names
            },
            "capture": {"confirm_every_s": 0.2, "lease_s": 3},
        },
        where="test",
        folder=Path("/nonexistent"),
    )


def test_a_pipeline_that_was_not_captured_for_a_while_does_not_resume_over_the_gap(
    source_db: str, target_db: str, control_db: str, postgres: str
) -> None:
    execute(source_db, TABLE)
    with new_database(postgres, "other") as other:
        with rig(two_pipelines(source_db, target_db, other, "p", "q"), control_db) as made:
            made.start()
            execute(source_db, "INSERT INTO items (id) VALUES (1)")
            eventually(lambda: same(source_db, target_db, "items") and same(source_db, other, "items"))
            made.stop()
        with rig(two_pipelines(source_db, target_db, other, "p"), control_db) as made:
            made.start()
            execute(source_db, "INSERT INTO items (id) VALUES (2)")
            eventually(lambda: same(source_db, target_db, "items"))
            made.stop()
        with rig(two_pipelines(source_db, target_db, other, "p", "q"), control_db) as made:
            made.start(stay=True)
            eventually(lambda: made.store.pipelines.get("q").reason == State.POSITION_LOST)
            execute(source_db, "INSERT INTO items (id) VALUES (3)")
            eventually(lambda: same(source_db, target_db, "items"))
            assert rows_of(other, "SELECT id FROM items") == [(1,)]
            made.store.signals.send("source", "resync", "q")
            made.store.pipelines.resume("q")
            eventually(lambda: same(source_db, other, "items"))
            made.stop()


def test_a_paused_pipeline_notices_that_the_stream_was_begun_anew_for_another(
    source_db: str, target_db: str, control_db: str, postgres: str
) -> None:
    execute(source_db, TABLE)
    with (
        new_database(postgres, "other") as other,
        rig(two_pipelines(source_db, target_db, other, "p", "q"), control_db) as made,
    ):
        made.start()
        execute(source_db, "INSERT INTO items (id) VALUES (1)")
        eventually(lambda: same(source_db, target_db, "items") and same(source_db, other, "items"))
        made.store.pipelines.pause("q")
        made.stop()
        drop = (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )
        execute(source_db, "INSERT INTO items (id) VALUES (2)", drop)
        made.store.signals.send("source", "resync", "p")
        made.start(stay=True)
        eventually(lambda: same(source_db, target_db, "items"))
        made.store.pipelines.resume("q")
        eventually(lambda: made.store.pipelines.get("q").reason == State.POSITION_LOST)
        assert rows_of(other, "SELECT id FROM items") == [(1,)]
        made.stop()
