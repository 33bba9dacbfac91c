"""What PostgreSQL's catalog tells of partitions, and what of it moved rows."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import psycopg
import pytest

from connectors.postgres import catalog
from connectors.postgres.conn import READ_SETTINGS, connect
from connectors.postgres.partitions import ended, partitions
from tests.fixtures.fix_postgres import new_database
from tests.integration.partition_moves import HARMLESS, MOVES, TABLE, execute
from worker_sync.core.partitions import Partitions, moved
from worker_sync.core.schema import TableName

EVENTS = TableName("public", "events")


@pytest.fixture(params=["postgres", "postgres15"])
def source(request: pytest.FixtureRequest) -> Iterator[str]:
    with new_database(request.getfixturevalue(request.param), "source") as url:
        execute(url, *TABLE)
        yield url


def look(url: str, before: Partitions | None = None) -> Partitions:
    with connect(url, READ_SETTINGS) as connection:
        return partitions(connection, {} if before is None else {EVENTS: before})[EVENTS]


def fingerprint(url: str) -> str:
    with connect(url, READ_SETTINGS) as connection:
        return catalog.fingerprint(connection)


@pytest.mark.parametrize("name", MOVES)
def test_rows_that_come_or_go_with_a_partition_are_seen(source: str, name: str) -> None:
    before, looked_like = look(source), fingerprint(source)
    execute(source, *MOVES[name])
    assert fingerprint(source) != looked_like
    now = look(source, before)
    found = moved(before, now)
    assert found
    assert all(words.startswith("partition public.") for words in found)
    # Whoever has not recorded it sees the same at the next look; whoever has, nothing.
    again = look(source, now)
    assert moved(before, again) == found
    assert moved(now, again) == []


@pytest.mark.parametrize("name", HARMLESS)
def test_what_moves_no_row_is_not_taken_for_it(source: str, name: str) -> None:
    before = look(source)
    execute(source, *HARMLESS[name])
    assert moved(before, look(source, before)) == []


def test_rows_that_were_there_at_the_last_look_tell_a_rewritten_partition(source: str) -> None:
    before = look(source)
    execute(
        source,
        "CREATE TABLE events_4 PARTITION OF events FOR VALUES FROM (300) TO (400)",
        "INSERT INTO events VALUES (1, 301, 'new')",
    )
    with connect(source, READ_SETTINGS) as connection:
        known = msgspec.structs.replace(look(source, before), ended=ended(connection))
    execute(source, "INSERT INTO events VALUES (2, 301, 'newer')", "VACUUM FULL events_4")
    rewritten = look(source, known)
    assert moved(known, rewritten) == []
    execute(source, "TRUNCATE events_4", "INSERT INTO events VALUES (3, 301, 'newest')")
    assert moved(rewritten, look(source, rewritten)) == [
        "partition public.events_4 was truncated or rewritten by itself"
    ]


def test_a_transaction_that_is_open_at_the_look_proves_nothing(source: str) -> None:
    """Its number is old, and it may write into a partition that was truncated since."""
    with psycopg.connect(source) as slow:
        slow.execute("INSERT INTO events VALUES (900, 150, 'gives it a number')")
        before = look(source)
        execute(source, "TRUNCATE events_1")
        slow.execute("INSERT INTO events VALUES (901, 1, 'behind the truncate')")
        slow.commit()
    assert moved(before, look(source, before)) == ["partition public.events_1 was truncated or rewritten by itself"]


def test_truncating_the_table_is_told_from_truncating_partitions(source: str) -> None:
    before = look(source)
    execute(source, "TRUNCATE events")
    now = look(source, before)
    assert moved(before, now, truncated=True) == []
    assert len(moved(before, now)) == 3
    execute(source, "INSERT INTO events VALUES (1, 1, 'later')", "TRUNCATE events_1")
    assert len(moved(before, look(source, before), truncated=True)) == 3


def test_a_partition_that_may_not_be_read_counts_as_emptied(source: str) -> None:
    execute(source, "CREATE ROLE only_reader LOGIN PASSWORD 'reader'", "GRANT SELECT ON events TO only_reader")
    try:
        reader = psycopg.conninfo.make_conninfo(source, user="only_reader", password="reader")
        with psycopg.connect(reader, autocommit=True) as connection:
            before = partitions(connection, {})[EVENTS]
            execute(source, "VACUUM FULL events_1")
            now = partitions(connection, {EVENTS: before})[EVENTS]
        assert len(moved(before, now)) == 1
        execute(source, "GRANT SELECT ON events_1 TO only_reader", "VACUUM FULL events_1")
        with psycopg.connect(reader, autocommit=True) as connection:
            assert moved(now, partitions(connection, {EVENTS: now})[EVENTS]) == []
    finally:
        execute(source, "DROP OWNED BY only_reader", "DROP ROLE only_reader")


def test_a_partition_that_somebody_holds_for_himself_keeps_nobody_waiting(source: str) -> None:
    before = look(source)
    with psycopg.connect(source) as owner:
        owner.execute("LOCK TABLE events_1, events_2 IN ACCESS EXCLUSIVE MODE")
        owner.execute("TRUNCATE events_1")
        assert moved(before, look(source, before)) == []
    assert len(moved(before, look(source, before))) == 1


def test_a_table_that_has_no_partition_yet_or_any_more(source: str) -> None:
    execute(source, "CREATE TABLE bare (id int, note text) PARTITION BY RANGE (id)")
    bare = TableName("public", "bare")

    def again(before: Partitions) -> Partitions:
        with connect(source, READ_SETTINGS) as connection:
            return partitions(connection, {bare: before})[bare]

    with connect(source, READ_SETTINGS) as connection:
        without = partitions(connection, {})[bare]
    execute(source, "CREATE TABLE full_one AS SELECT 1 AS id, 'attached' AS note")
    execute(source, "ALTER TABLE bare ATTACH PARTITION full_one FOR VALUES FROM (0) TO (10)")
    one = again(without)
    assert moved(without, one) == ["partition public.full_one was attached with rows"]
    execute(source, "ALTER TABLE bare DETACH PARTITION full_one")
    assert moved(one, again(one)) == ["partition public.full_one was detached or dropped"]


def test_names_that_need_quotes(source: str) -> None:
    execute(source, 'CREATE TABLE "Odd ""%s {x}" PARTITION OF events FOR VALUES FROM (300) TO (400)')
    execute(source, "INSERT INTO events VALUES (1, 301, 'new')")
    before = look(source)
    execute(source, 'VACUUM FULL "Odd ""%s {x}"')
    now = look(source, before)
    assert moved(before, now) == []
    execute(source, 'TRUNCATE "Odd ""%s {x}"')
    assert moved(now, look(source, now)) == ['partition public."Odd ""%s {x}" was truncated or rewritten by itself']
