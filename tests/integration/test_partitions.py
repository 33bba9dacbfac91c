"""Partitions that come and go on PostgreSQL, with rows of which the log has no word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.traffic import Traffic
from tests.integration.capture_rig import Rig, rig, rows_of, same, settings_for
from tests.integration.partition_moves import HARMLESS, MOVES, TABLE, execute
from worker_sync.core.errors import State
from worker_sync.store.pipelines import Standing, Status

HAPPENINGS = {
    **MOVES,
    **HARMLESS,
    "emptied as a whole": ("TRUNCATE events", "INSERT INTO events VALUES (1, 1, 'later')"),
    "emptied as a whole, then one by itself": (
        "TRUNCATE events",
        "INSERT INTO events VALUES (1, 1, 'later'), (2, 150, 'later')",
        "TRUNCATE events_1",
    ),
}


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def in_step(source: str, target: str) -> bool:
    return same(source, target, "events", "1, 2")


def halted(made: Rig) -> Standing:
    eventually(lambda: made.store.pipelines.get("p").status is Status.HALTED, 60)
    made.stop()
    return made.store.pipelines.get("p")


def looked(made: Rig, source: str) -> None:
    """Until the capture has followed what the catalog says now."""
    execute(source, "CREATE TABLE events_9 PARTITION OF events FOR VALUES FROM (900) TO (1000)")

    def known() -> bool:
        found = [record.partitions for record in made.store.versions.of("p").values()]
        return any(part.name.endswith("events_9") for one in found if one for part in one.members.values())

    eventually(known, 60, "the newest partition is known")


@pytest.mark.parametrize("name", ["dropped", "truncated", "attached", "emptied as a whole, then one by itself"])
def test_rows_that_come_or_go_with_a_partition_are_brought_in_step(
    source_db: str, target_db: str, control_db: str, name: str
) -> None:
    execute(source_db, *TABLE)
    settings = settings_for(source_db, target_db, ["public.events"], schema_changes="apply")
    with rig(settings, control_db) as made:
        made.start()
        eventually(lambda: in_step(source_db, target_db), 60)
        execute(source_db, *HAPPENINGS[name])
        eventually(lambda: in_step(source_db, target_db), 60, "the target is in step again")
        execute(source_db, "INSERT INTO events VALUES (9, 150, 'after')")
        eventually(lambda: in_step(source_db, target_db), 60)
        made.stop()


@pytest.mark.parametrize("name", ["detached", "truncated below", "made, filled and attached at once"])
def test_they_halt_where_a_person_is_to_decide_also_when_nobody_was_looking(
    source_db: str, target_db: str, control_db: str, name: str
) -> None:
    execute(source_db, *TABLE)
    with rig(settings_for(source_db, target_db, ["public.events"]), control_db) as made:
        made.start()
        eventually(lambda: in_step(source_db, target_db), 60)
        looked(made, source_db)
        made.stop()
        execute(source_db, *HAPPENINGS[name])
        made.start()
        standing = halted(made)
        assert standing.reason == State.SCHEMA_CHANGED
        assert "public.events: partition " in standing.detail
        assert standing.recovery.startswith("worker-sync resync p public.events, ")
        made.store.signals.send("source", "resync", "p", "public.events")
        made.store.pipelines.resume("p")
        made.start()
        eventually(lambda: in_step(source_db, target_db), 60)
        execute(source_db, "INSERT INTO events VALUES (9, 150, 'after')")
        eventually(lambda: in_step(source_db, target_db), 60)
        assert made.running
        made.stop()


def test_a_person_may_leave_the_target_as_it_is(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, *TABLE)
    with rig(settings_for(source_db, target_db, ["public.events"]), control_db) as made:
        made.start()
        eventually(lambda: in_step(source_db, target_db), 60)
        execute(source_db, "DROP TABLE events_1")
        assert "worker-sync resume p" in halted(made).recovery
        made.store.pipelines.resume("p")
        made.start()
        execute(source_db, "INSERT INTO events VALUES (9, 150, 'after')")
        eventually(lambda: (9, 150, "after") in rows_of(target_db, "SELECT * FROM events"), 60)
        looked(made, source_db)
        assert made.running
        assert rows_of(target_db, "SELECT count(*) FROM events WHERE at < 100") == [(200,)]
        made.stop()


def test_who_ignores_schema_changes_is_told_and_goes_on(
    source_db: str, target_db: str, control_db: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(source_db, *TABLE)
    settings = settings_for(source_db, target_db, ["public.events"], schema_changes="ignore")
    with rig(settings, control_db) as made:
        made.start()
        eventually(lambda: in_step(source_db, target_db), 60)
        execute(source_db, "DROP TABLE events_1")
        eventually(lambda: "partition public.events_1 was detached or dropped" in caplog.text, 60)
        looked(made, source_db)
        assert rows_of(target_db, "SELECT count(*) FROM events WHERE at < 100") == [(200,)]
        made.stop()


@pytest.mark.parametrize("name", ["a new partition", "rewritten", "emptied as a whole"])
def test_what_moves_no_row_without_a_word_stops_nobody(
    source_db: str, target_db: str, control_db: str, name: str
) -> None:
    execute(source_db, *TABLE)
    with rig(settings_for(source_db, target_db, ["public.events"]), control_db) as made:
        made.start()
        eventually(lambda: in_step(source_db, target_db), 60)
        execute(source_db, *HAPPENINGS[name])
        looked(made, source_db)
        eventually(lambda: in_step(source_db, target_db), 60)
        made.stop()
        made.start()
        execute(source_db, "INSERT INTO events VALUES (9, 150, 'after')")
        eventually(lambda: in_step(source_db, target_db), 60)
        assert made.running
        made.stop()


class Writers(Traffic):
    def work(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stopping.wait(0.002):
                number = self.transactions
                row: tuple[Any, ...] = (10_000 + number, number % 200, f"n{number}")
                connection.execute("INSERT INTO events VALUES (%s, %s, %s)", row)
                connection.execute("DELETE FROM events WHERE id = %s", (number,))
                self.transactions += 1


def test_partitions_come_and_go_under_load(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, *TABLE)
    settings = settings_for(source_db, target_db, ["public.events"], schema_changes="apply", shards=2)
    with rig(settings, control_db) as made:
        made.start()
        eventually(lambda: in_step(source_db, target_db), 60)
        with Writers(source_db) as writers:
            writers.more()
            for name in ("truncated", "attached", "truncated below"):
                execute(source_db, *HAPPENINGS[name])
                writers.more(200)
        eventually(lambda: in_step(source_db, target_db), 120)
        made.stop()
