"""Tables of PostgreSQL that inherit from each other: each is a table of its own, in the log and in the copy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import has_table, rig, rows_of, settings_for
from tests.integration.partition_moves import execute


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def own_rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows_of(url, f"SELECT * FROM ONLY {name} ORDER BY id") for name in ("parent", "heir")}


def test_a_table_and_one_that_inherits_from_it_keep_their_rows_apart(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(
        source_db,
        "CREATE TABLE parent (id int PRIMARY KEY, note text)",
        "CREATE TABLE heir (extra int, PRIMARY KEY (id)) INHERITS (parent)",
        "INSERT INTO parent VALUES (1, 'own'), (2, 'own')",
        "INSERT INTO heir VALUES (1, 'of the heir', 10), (3, 'of the heir', 30)",
    )

    def in_step() -> bool:
        there = has_table(target_db, "parent") and has_table(target_db, "heir")
        return there and own_rows(source_db) == own_rows(target_db)

    with rig(settings_for(source_db, target_db, ["public.*"]), control_db) as made:
        made.start()
        eventually(in_step, 60, "the existing rows are there")
        execute(
            source_db,
            "UPDATE parent SET note = note || ', changed'",
            "DELETE FROM heir WHERE id = 3",
            "INSERT INTO heir VALUES (2, 'new', 20)",
            "DELETE FROM ONLY parent WHERE id = 1",
        )
        eventually(in_step, 60, "the changes are there")
        made.store.signals.send("source", "resync", "p", "public.parent")
        eventually(lambda: not made.store.signals.pending("source"), 60, "the parent is copied anew")
        assert in_step()
        made.stop()
