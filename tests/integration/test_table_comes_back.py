"""A table that leaves a pipeline's configuration and comes back later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig, rig, same, settings_for
from tests.integration.partition_moves import execute
from worker_sync.core.schema import TableName

TABLES = (
    "CREATE TABLE items (id int PRIMARY KEY, note text)",
    "CREATE TABLE others (id int PRIMARY KEY, note text)",
    "INSERT INTO items SELECT n, 'old' FROM generate_series(1, 100) n",
    "INSERT INTO others SELECT n, 'old' FROM generate_series(1, 100) n",
)


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def configure(made: Rig, source: str, target: str, *tables: str) -> None:
    made.settings = settings_for(source, target, list(tables))
    made.delivery.use(made.settings)


def test_what_changed_while_it_was_out_is_not_missed(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, *TABLES)
    both = ("public.items", "public.others")
    with rig(settings_for(source_db, target_db, list(both)), control_db) as made:
        made.start()
        eventually(lambda: all(same(source_db, target_db, name) for name in ("items", "others")), 60)
        made.stop()
        configure(made, source_db, target_db, "public.items")
        made.start()
        execute(source_db, "INSERT INTO items VALUES (1000, 'new')")
        eventually(lambda: same(source_db, target_db, "items"), 60)
        execute(
            source_db,
            "DELETE FROM others WHERE id < 10",
            "UPDATE others SET note = 'unseen' WHERE id > 90",
            "INSERT INTO others VALUES (1000, 'unseen')",
            "INSERT INTO items VALUES (1001, 'behind it')",
        )
        eventually(lambda: same(source_db, target_db, "items"), 60)
        made.stop()
        configure(made, source_db, target_db, *both)
        made.start()
        execute(source_db, "INSERT INTO others VALUES (1001, 'seen')")
        eventually(lambda: same(source_db, target_db, "others"), 20, "what was missed is there")
        made.stop()


def test_what_becomes_of_it_while_it_is_out_stops_nobody(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, *TABLES, "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    stays, leaves = ("public.items", "public.parts"), "public.others"
    with rig(settings_for(source_db, target_db, [*stays, leaves]), control_db) as made:
        made.start()
        eventually(lambda: all(same(source_db, target_db, name) for name in ("items", "others")), 60)
        made.stop()
        configure(made, source_db, target_db, *stays)
        made.start()
        execute(source_db, "INSERT INTO items VALUES (1000, 'new')")
        eventually(lambda: same(source_db, target_db, "items"), 60)
        execute(source_db, "DROP TABLE others", "CREATE TABLE part PARTITION OF parts DEFAULT")

        def has_looked() -> bool:
            known = made.store.versions.of("p")[TableName("public", "parts")].partitions
            return bool(known and known.members)

        eventually(has_looked, 30, "the capture has looked at the catalog since")
        execute(source_db, "INSERT INTO items VALUES (1001, 'newer')")
        eventually(lambda: same(source_db, target_db, "items"), 60)
        assert made.running
        made.stop()
