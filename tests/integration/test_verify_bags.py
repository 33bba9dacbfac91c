"""The comparison of tables without a key, on real databases."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from connectors.registry import open_sink, open_source
from worker_sync.core.schema import TableName
from worker_sync.verification import Comparison, DifferenceKind, TablePair, TableResult
from worker_sync.verification.settle import TRIES

TABLE = """
    CREATE TABLE journal (n int, note text, weight float8);
    INSERT INTO journal SELECT i % 200, nullif('note ' || i % 3, 'note 2'), i % 7 / 7.0 FROM generate_series(1, 700) i;
    INSERT INTO journal SELECT 1, 'twin', 'NaN' FROM generate_series(1, 5);
"""


class Sides:
    def __init__(self, source: str, target: str) -> None:
        self.source, self.target = source, target
        for url in (source, target):
            self.run(url, TABLE)
        # Another physical order.
        self.run(target, "UPDATE journal SET n = n WHERE n % 2 = 0")

    def run(self, url: str, statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def compare(self, catch_up: Callable[[], None] = lambda: None) -> TableResult:
        with (
            open_source("source", self.source) as source,
            open_sink("target", self.target) as sink,
            source.reader() as here,
            sink.reader() as there,
        ):
            schema = here.schema(TableName("public", "journal"))
            assert schema is not None
            assert schema.key == ()
            return Comparison(here, there, catch_up, chunk_rows=64).table(TablePair(schema, schema))


@pytest.fixture
def sides(source_db: str, target_db: str) -> Sides:
    return Sides(source_db, target_db)


def only(result: TableResult) -> dict[str, int]:
    return {kind.value: count for kind, count in result.counts.items() if count}


def test_equal_bags_are_equal_in_whatever_order(sides: Sides) -> None:
    result = sides.compare()
    assert result.ok
    assert (result.source_rows, result.target_rows, result.rechecked) == (705, 705, 0)


def test_missing_extra_and_repeated_rows_are_counted(sides: Sides) -> None:
    sides.run(sides.target, "DELETE FROM journal WHERE note = 'twin'; INSERT INTO journal VALUES (1, 'twin', 'NaN')")
    sides.run(sides.target, "INSERT INTO journal VALUES (9, 'extra', 1), (9, 'extra', 1), (9, 'extra', 2)")
    result = sides.compare()
    assert only(result) == {"missing": 4, "extra": 3}
    assert not result.ok
    rows = {found.target or found.source for found in result.differences}
    assert {row[1] for row in rows if row} == {"twin", "extra"}
    assert "twin" not in str(result.as_json(show_values=False))
    assert "'note': 'twin'" in str(result.as_json(show_values=True))
    kinds = [found.kind for found in result.differences]
    assert sorted(kinds) == [DifferenceKind.EXTRA, DifferenceKind.EXTRA, DifferenceKind.MISSING]


def test_zeros_of_other_signs_are_different_rows(sides: Sides) -> None:
    sides.run(sides.source, "INSERT INTO journal VALUES (0, NULL, '-0')")
    sides.run(sides.target, "INSERT INTO journal VALUES (0, NULL, '0')")
    assert only(sides.compare()) == {"missing": 1, "extra": 1}


def test_rows_that_arrive_while_they_are_awaited_are_no_difference(sides: Sides) -> None:
    change = "INSERT INTO journal SELECT 500, 'new', i FROM generate_series(1, 50) i; DELETE FROM journal WHERE n = 7"
    sides.run(sides.source, change)
    waiting = [change]

    def arrive() -> None:
        if waiting:
            sides.run(sides.target, waiting.pop())

    assert sides.compare(arrive).ok


def test_traffic_makes_no_difference(sides: Sides) -> None:
    """The source moves on at every wait, and the target arrives at where the source was before."""
    looks: list[int] = []

    def catch_up() -> None:
        number = len(looks)
        looks.append(number)
        for url, which in ((sides.target, number - 1), (sides.source, number)):
            if which >= 0:
                sides.run(url, f"INSERT INTO journal VALUES ({which + 1000}, 'new', 1)")
                sides.run(url, f"DELETE FROM journal WHERE n = {which + 3}")

    result = sides.compare(catch_up)
    assert (only(result), result.unsettled) == ({}, 0)


def test_rows_whose_number_never_stands_still_are_unsettled(sides: Sides) -> None:
    looks: list[None] = []

    def change() -> None:
        looks.append(None)
        sides.run(sides.source, "INSERT INTO journal VALUES (1, 'hot', 1)")

    sides.run(sides.source, "INSERT INTO journal VALUES (1, 'hot', 1)")
    result = sides.compare(change)
    assert len(looks) == TRIES + 1
    assert (result.unsettled, only(result), result.ok) == (1, {}, False)


def test_everything_missing_is_counted_in_full_but_listed_in_part(sides: Sides) -> None:
    sides.run(sides.target, "TRUNCATE journal")
    sides.run(sides.source, "TRUNCATE journal; INSERT INTO journal SELECT i FROM generate_series(1, 500) i")
    result = sides.compare()
    assert only(result) == {"missing": 500}
    assert len(result.differences) == 100


def test_empty_bags_are_equal(sides: Sides) -> None:
    for url in (sides.source, sides.target):
        sides.run(url, "TRUNCATE journal")
    assert sides.compare().ok
