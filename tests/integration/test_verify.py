"""The comparison of two databases, on real ones."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from connectors.base import TableReader
from connectors.registry import open_sink, open_source
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.verification import Comparison, DifferenceKind, TablePair, TableResult
from worker_sync.verification.settle import TRIES

TABLE = """
    CREATE TABLE parts (id int, batch text, name text, weight float8, amount numeric(10, 2), at timestamptz,
        PRIMARY KEY (id, batch));
    INSERT INTO parts SELECT i, 'b' || i % 3, 'part ' || i, i / 7.0, i / 100.0, '2024-02-29 12:00:00+00'
    FROM generate_series(1, 500) i;
"""


class Sides:
    """A source and a target with the same table, and a comparison of the two."""

    def __init__(self, source_url: str, target_url: str) -> None:
        self.source_url, self.target_url = source_url, target_url
        for url in (source_url, target_url):
            self.run(url, TABLE)
        self.source: TableReader
        self.target: TableReader

    def run(self, url: str, statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def compare(self, catch_up: Callable[[], None] = lambda: None, columns: tuple[str, ...] = ()) -> TableResult:
        with (
            open_source("source", self.source_url) as source,
            open_sink("target", self.target_url) as sink,
            source.reader() as self.source,
            sink.reader() as self.target,
        ):
            schema = self.source.schema(TableName("public", "parts"))
            assert schema is not None
            kept = tuple(c for c in schema.columns if not columns or c.name in columns)
            narrowed = TableSchema(schema.table, kept, schema.key, schema.engine)
            return Comparison(self.source, self.target, catch_up, chunk_rows=64).table(TablePair(narrowed, narrowed))


@pytest.fixture
def sides(source_db: str, target_db: str) -> Sides:
    return Sides(source_db, target_db)


def only(result: TableResult) -> dict[str, int]:
    return {kind.value: count for kind, count in result.counts.items() if count}


def test_equal_tables_are_equal(sides: Sides) -> None:
    result = sides.compare()
    assert result.ok
    assert (result.source_rows, result.target_rows, result.rechecked) == (500, 500, 0)


def test_a_difference_in_one_column_is_found_and_named(sides: Sides) -> None:
    sides.run(sides.target_url, "UPDATE parts SET weight = weight + 1e-9, name = 'x' WHERE id = 321")
    result = sides.compare()
    assert only(result) == {"different": 1}
    assert result.differences[0].key == (321, "b0")
    assert result.differences[0].columns == ("name", "weight")


def test_a_missing_and_an_extra_row_are_found(sides: Sides) -> None:
    sides.run(sides.target_url, "DELETE FROM parts WHERE id IN (1, 500)")
    sides.run(sides.target_url, "INSERT INTO parts (id, batch) VALUES (-1, 'b'), (250, 'other'), (9999, 'b')")
    result = sides.compare()
    assert only(result) == {"missing": 2, "extra": 3}
    assert {found.key for found in result.differences if found.kind is DifferenceKind.EXTRA} == {
        (-1, "b"),
        (250, "other"),
        (9999, "b"),
    }


def test_columns_that_do_not_travel_are_not_compared(sides: Sides) -> None:
    sides.run(sides.target_url, "UPDATE parts SET name = 'x'")
    assert sides.compare(columns=("id", "batch", "amount")).ok


def test_values_are_shown_only_when_asked_for(sides: Sides) -> None:
    sides.run(sides.target_url, "UPDATE parts SET name = 'secret' WHERE id = 3")
    result = sides.compare()
    assert "secret" not in str(result.as_json(show_values=False))
    assert result.as_json(show_values=True)["differences"][0]["target"] == {"name": "secret"}
    assert "secret" not in repr(result.differences)


def test_two_nan_are_the_same(sides: Sides) -> None:
    for url in (sides.source_url, sides.target_url):
        sides.run(url, "UPDATE parts SET weight = 'NaN' WHERE id = 3")
    assert sides.compare().ok


def test_what_arrives_while_it_is_awaited_is_no_difference(sides: Sides) -> None:
    sides.run(sides.source_url, "UPDATE parts SET name = 'new' WHERE id <= 100; DELETE FROM parts WHERE id = 200")

    def arrive() -> None:
        sides.run(sides.target_url, "UPDATE parts SET name = 'new' WHERE id <= 100; DELETE FROM parts WHERE id = 200")

    result = sides.compare(arrive)
    assert result.ok
    assert result.rechecked == 101


def test_a_row_that_never_stands_still_is_unsettled_not_different(sides: Sides) -> None:
    looks: list[None] = []

    def change() -> None:
        looks.append(None)
        sides.run(sides.source_url, f"UPDATE parts SET name = 'change {len(looks)}' WHERE id = 7")

    sides.run(sides.source_url, "UPDATE parts SET name = 'first' WHERE id = 7")
    result = sides.compare(change)
    assert len(looks) == TRIES
    assert (result.unsettled, only(result), result.ok) == (1, {}, False)


def test_a_difference_is_looked_at_twice_before_it_is_reported(sides: Sides) -> None:
    sides.run(sides.target_url, "UPDATE parts SET name = 'late' WHERE id = 7")
    looks: list[None] = []

    def heal_at_the_second_look() -> None:
        looks.append(None)
        if len(looks) == 2:
            sides.run(sides.target_url, "UPDATE parts SET name = 'part 7' WHERE id = 7")

    assert sides.compare(heal_at_the_second_look).ok


def test_empty_tables_are_equal(sides: Sides) -> None:
    for url in (sides.source_url, sides.target_url):
        sides.run(url, "TRUNCATE parts")
    assert sides.compare().ok


def test_everything_missing_is_counted_in_full_but_listed_in_part(sides: Sides) -> None:
    sides.run(sides.target_url, "TRUNCATE parts")
    result = sides.compare()
    assert only(result) == {"missing": 500}
    assert len(result.differences) == 100
