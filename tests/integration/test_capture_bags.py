"""Tables without a key through snapshot and stream: no row lost, doubled or left behind, whatever is interrupted."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.traffic import Traffic
from tests.integration.capture_rig import has_table, rig, rows_of, settings_for
from worker_sync.core.change import Op
from worker_sync.core.errors import State
from worker_sync.store.signals import SignalKind

TABLES = """
CREATE TABLE journal (n int, note text, at json);
CREATE TABLE items (id bigint PRIMARY KEY, name text);
INSERT INTO items SELECT n, 'old' FROM generate_series(1, 500) n;
INSERT INTO journal SELECT n % 300, 'old ' || n % 2, '{"b":  1}' FROM generate_series(1, 3000) n;
"""
BAG = "SELECT n, note, at::text, count(*) FROM journal GROUP BY n, note, at::text ORDER BY 1, 2, 3"
QUICK = {"snapshot_rows": 100, "batch_changes": 50}


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


@pytest.fixture
def filled(source_db: str) -> str:
    execute(source_db, *TABLES.strip().split(";\n"))
    return source_db


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def same(source: str, target: str) -> bool:
    return has_table(target, "journal") and rows_of(source, BAG) == rows_of(target, BAG)


def snapshot(target: str) -> dict[str, object]:
    """Progress of the journal's copy, as its shard has it."""
    if not has_table(target, "worker_sync.watermarks"):
        return {}
    query = "SELECT snapshots->'public.journal' FROM worker_sync.watermarks ORDER BY shard LIMIT 1"
    found = rows_of(target, query)
    return (found[0][0] or {}) if found else {}


def loaded(target: str) -> bool:
    return bool(snapshot(target).get("done"))


class Load(Traffic):
    """Inserts, deletes and updates of single rows of the journal, equal rows among them, and of items."""

    def reached(self, transactions: int) -> bool:
        return self.transactions > transactions

    def work(self) -> None:
        with psycopg.connect(self.url) as connection:
            while not self.stopping.wait(0.002):
                with connection.transaction():
                    for _ in range(self.random.choice((1, 1, 1, 3, 20))):
                        self._change(connection)
                self.transactions += 1

    def _change(self, connection: psycopg.Connection) -> None:
        pick, n = self.random.random(), self.random.randrange(300)
        one = "ctid = (SELECT ctid FROM journal WHERE n = %s LIMIT 1)"
        if pick < 0.4:
            connection.execute("INSERT INTO journal VALUES (%s, 'new', NULL), (%s, NULL, '1.50')", (n, n))
        elif pick < 0.6:
            connection.execute(f"DELETE FROM journal WHERE {one}", (n,))
        elif pick < 0.8:
            connection.execute(f"UPDATE journal SET note = 'u' || %s WHERE {one}", (n % 7, n))
        elif pick < 0.81:
            connection.execute("DELETE FROM journal WHERE n = %s", (n,))
        else:
            connection.execute("UPDATE items SET name = %s WHERE id = %s", (f"u{n}", n))


@pytest.mark.parametrize("shards", [1, 3])
def test_a_table_without_key_arrives_through_snapshot_and_stream(
    filled: str, target_db: str, control_db: str, shards: int
) -> None:
    with rig(settings_for(filled, target_db, ["public.*"], QUICK, shards=shards), control_db) as made:
        with Load(filled, 1) as load:
            made.start()
            eventually(lambda: loaded(target_db) and load.reached(300), 120)
        eventually(lambda: same(filled, target_db), 60)
        made.stop()
        homes = {batch.shard for batch in made.delivery.published for table in batch.tables.values() if not table.key
                 and batch.changes}  # fmt: skip
        assert len(homes) == 1


@pytest.mark.parametrize("shards", [1, 3])
def test_a_bad_delivery_doubles_no_row_of_a_table_without_key(
    filled: str, target_db: str, control_db: str, shards: int
) -> None:
    settings = settings_for(filled, target_db, ["public.*"], {**QUICK, "resend_after_s": 0.1}, shards=shards)
    with rig(settings, control_db) as made:
        made.delivery.lose = made.delivery.repeat = made.delivery.shuffle = 0.1
        with Load(filled, 2) as load:
            made.start()
            eventually(lambda: loaded(target_db) and load.reached(150), 90)
        eventually(lambda: same(filled, target_db), 90)
        made.stop()
        assert made.delivery.outcomes.get("duplicate", 0) > 0


def test_a_copy_that_is_interrupted_begins_anew_and_doubles_nothing(
    filled: str, target_db: str, control_db: str
) -> None:
    with rig(settings_for(filled, target_db, ["public.*"], QUICK), control_db) as made:
        with Load(filled, 3) as load:
            for _ in range(4):
                before = snapshot(target_db).get("chunk", 0)
                made.start()
                eventually(lambda before=before: snapshot(target_db).get("chunk", 0) != before, 30)  # type: ignore[misc]
                made.stop()
            made.start()
            eventually(lambda: loaded(target_db), 60)
            for goal in range(3):
                made.stop()
                made.start()
                at = load.transactions
                eventually(lambda at=at, goal=goal: load.reached(at + 20 * goal), 30)  # type: ignore[misc]
        eventually(lambda: same(filled, target_db), 60)
        made.stop()


def test_what_happens_to_the_table_alone_is_not_applied_twice_after_a_restart(
    source_db: str, target_db: str, control_db: str
) -> None:
    """Nothing else moves the watermark past the changes that the snapshot saw or that followed it."""
    execute(source_db, "CREATE TABLE journal (n int, note text, at json)", "INSERT INTO journal VALUES (1, 'a', NULL)")
    settings = settings_for(source_db, target_db, ["public.*"], {**QUICK, "confirm_every_s": 30, "lease_s": 90})
    with rig(settings, control_db) as made:
        made.delivery.open.clear()
        made.start()
        eventually(lambda: len(made.delivery.published) >= 1, 30)
        execute(
            source_db, "INSERT INTO journal VALUES (1, 'a', NULL), (2, 'b', NULL)", "DELETE FROM journal WHERE n = 2"
        )
        made.delivery.open.set()
        eventually(lambda: loaded(target_db) and same(source_db, target_db), 60)
        made.stop()
        made.start()
        execute(source_db, "INSERT INTO journal VALUES (3, 'c', NULL)")
        eventually(lambda: same(source_db, target_db), 30)
        made.stop()


@pytest.mark.parametrize("kind", [SignalKind.RESYNC, SignalKind.SNAPSHOT])
@pytest.mark.parametrize("table", [None, "public.journal"])
def test_a_table_without_key_is_copied_again_while_it_changes(
    filled: str, target_db: str, control_db: str, kind: SignalKind, table: str | None
) -> None:
    with rig(settings_for(filled, target_db, ["public.*"], QUICK), control_db) as made:
        made.start()
        with Load(filled, 4) as load:
            eventually(lambda: loaded(target_db) and load.reached(20), 120)
            execute(target_db, "INSERT INTO journal VALUES (-1, 'nobody knows', NULL)")
            made.store.signals.send("source", kind, "p", table)
            eventually(lambda: made.store.signals.pending("source") == [], 60)
        eventually(lambda: same(filled, target_db), 60)
        made.stop()


def test_a_target_table_with_rows_is_emptied_by_the_copy(filled: str, target_db: str, control_db: str) -> None:
    execute(target_db, "CREATE TABLE journal (n int, note text, at json)", "INSERT INTO journal VALUES (-1, 'x', '1')")
    with rig(settings_for(filled, target_db, ["public.*"], QUICK), control_db) as made:
        made.start()
        eventually(lambda: loaded(target_db) and same(filled, target_db), 60)
        made.stop()
        assert made.delivery.published[0].changes[0].op == Op.READ  # tables with a key come first


def test_a_row_that_the_target_lost_halts_the_pipeline(filled: str, target_db: str, control_db: str) -> None:
    with rig(settings_for(filled, target_db, ["public.*"], QUICK), control_db) as made:
        made.start(stay=True)
        eventually(lambda: loaded(target_db), 60)
        execute(filled, "INSERT INTO journal VALUES (-5, 'gone', NULL)")
        eventually(lambda: same(filled, target_db), 30)
        execute(target_db, "DELETE FROM journal WHERE n = -5")
        execute(filled, "DELETE FROM journal WHERE n = -5")
        eventually(lambda: made.store.pipelines.get("p").reason == State.TARGET_REJECTED, 30)
        made.stop()


def test_a_truncate_while_the_table_is_copied_arrives(filled: str, target_db: str, control_db: str) -> None:
    with rig(settings_for(filled, target_db, ["public.*"], QUICK), control_db) as made:
        made.start()
        eventually(lambda: snapshot(target_db).get("chunk"), 60)
        execute(filled, "TRUNCATE journal", "INSERT INTO journal VALUES (1, 'after', NULL)")
        eventually(lambda: loaded(target_db) and same(filled, target_db), 60)
        made.stop()
