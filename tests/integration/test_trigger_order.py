"""The order in which recorded changes are read, on a server whose log nobody may read: what depends on another
transaction is behind it, nothing is lost or read twice, however transactions overlap."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from connectors.postgres.triggers.install import Installer
from connectors.postgres.triggers.source import TriggerSource
from tests.contract.source_engine import Follower, following
from tests.fixtures.fix_postgres import ROOM, new_database
from tests.fixtures.servers import server_directory
from worker_sync.core.change import Change
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName
from worker_sync.embedded import EmbeddedPostgres

ROWS = TableName("public", "rows")
Connection = psycopg.Connection


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with server_directory("pg") as directory:
        settings = {"wal_level": "replica", "max_prepared_transactions": "5", "fsync": "off"}
        running = EmbeddedPostgres(directory, {**ROOM, **settings})
        try:
            yield running.start()
        finally:
            running.stop()


@pytest.fixture
def url(server: str) -> Iterator[str]:
    with new_database(server, "source") as found:
        with psycopg.connect(found) as connection:
            connection.execute("CREATE TABLE rows (id int PRIMARY KEY, n int)")
            connection.execute("INSERT INTO rows SELECT id, 0 FROM generate_series(1, 5) id")
        with Installer(found) as installer:
            for step in installer.install_steps([ROWS]):
                installer.run(step)
        yield found


@pytest.fixture
def source(url: str) -> TriggerSource:
    return TriggerSource("shop", url)


@pytest.fixture
def start(source: TriggerSource) -> str:
    return source.create_stream([ROWS]).commit


def add(connection: Connection, row: int) -> None:
    connection.execute("UPDATE rows SET n = n + 1 WHERE id = %s", [row])


def story(follower: Follower) -> list[tuple[int, int]]:
    """What became of which row, in order."""
    return [(change.after[0], change.after[1]) for _, change in follower.changes if change.after]


def test_a_transaction_that_began_first_and_waited_is_behind_the_one_it_waited_for(
    url: str, source: TriggerSource, start: str
) -> None:
    with psycopg.connect(url) as low, psycopg.connect(url) as high:
        add(low, 1)
        add(high, 2)
        add(high, 3)
        high.commit()
        add(low, 2)
        low.commit()
    with following(source, start) as follower:
        follower.read_changes(4)
    assert story(follower) == [(2, 1), (3, 1), (1, 1), (2, 2)]


def test_a_transaction_that_is_open_for_long_arrives_once_it_has_committed(
    url: str, source: TriggerSource, start: str
) -> None:
    with psycopg.connect(url) as long, psycopg.connect(url, autocommit=True) as others:
        add(long, 1)
        with following(source, start) as follower:
            for count in range(1, 4):
                add(others, 2)
                follower.read_changes(count)
            follower.stream.confirm(follower.reached)
            long.commit()
            add(others, 2)
            follower.read_changes(5)
            assert story(follower) == [(2, 1), (2, 2), (2, 3), (1, 1), (2, 4)]


def test_what_is_rolled_back_to_a_savepoint_does_not_arrive(url: str, source: TriggerSource, start: str) -> None:
    with psycopg.connect(url) as connection:
        add(connection, 1)
        with suppress(ZeroDivisionError), connection.transaction():
            add(connection, 2)
            raise ZeroDivisionError
        with connection.transaction():
            add(connection, 3)
    with psycopg.connect(url) as connection:
        add(connection, 4)
        connection.rollback()
    with following(source, start) as follower:
        found = follower.read_changes(2)
        follower.read_to(source.emit("worker_sync.nudge", b""))
    assert story(follower) == [(1, 1), (3, 1)]
    assert len({info.commit for info, _ in found}) == 1


def test_a_prepared_transaction_arrives_when_it_is_committed(url: str, source: TriggerSource, start: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("BEGIN")
        add(connection, 1)
        connection.execute("PREPARE TRANSACTION 'one'")
        with following(source, start) as follower:
            add(connection, 2)
            follower.read_changes(1)
            follower.read_to(source.emit("worker_sync.nudge", b""))
            connection.execute("COMMIT PREPARED 'one'")
            follower.read_changes(2)
    assert story(follower) == [(2, 1), (1, 1)]


def test_windows_are_the_same_again_after_a_crash(url: str, source: TriggerSource, start: str) -> None:
    with psycopg.connect(url) as one, psycopg.connect(url) as two:
        add(one, 1)
        add(two, 2)
        two.commit()
        with following(source, start) as follower:
            follower.read_changes(1)
        one.commit()
        with following(source, start) as follower:
            first = follower.read_changes(2)
        add(two, 3)
        two.commit()
    with following(source, start) as follower:
        assert follower.read_changes(3)[:2] == first


def test_a_recorded_change_that_was_deleted_unread_stops_the_stream(
    url: str, source: TriggerSource, start: str
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        add(connection, 1)
        source.emit("worker_sync.nudge", b"")
        connection.execute("DELETE FROM worker_sync_audit.changes WHERE op = 'u'")
    with following(source, start) as follower, pytest.raises(Halt) as halt:
        follower.read_changes(1)
    assert halt.value.state is State.POSITION_LOST


def test_a_stream_that_is_dropped_while_it_is_read_says_so(source: TriggerSource, start: str) -> None:
    with following(source, start) as follower:
        follower.read_to(start)
        source.drop_stream()
        with pytest.raises(Halt) as halt:
            follower.read_changes(1)
    assert halt.value.state is State.SLOT_MISSING


def test_what_is_confirmed_is_deleted(url: str, source: TriggerSource, start: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(20):
            add(connection, 1)
        with following(source, start) as follower:
            follower.read_changes(20)
            assert _left(connection) == 20
            follower.stream.confirm(follower.reached)
            follower.read_until(lambda: _left(connection) == 0, "the changes are deleted")
        assert source.stream_status().retained_bytes == 0


def _left(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM worker_sync_audit.changes").fetchone()
    assert row is not None
    return int(row[0])


def test_writers_at_once_are_read_as_every_row_lived_through_it(url: str, source: TriggerSource, start: str) -> None:
    """Each change of a row has before it what the change before had left: nothing else than the right order of all
    changes, each once, has that."""
    threads = [threading.Thread(target=_write, args=(url, seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    at, lived = start, dict.fromkeys(range(1, 6), 0)
    try:
        while any(thread.is_alive() for thread in threads):
            at = _follow(source, at, lived)
        _follow(source, at, lived)
    finally:
        for thread in threads:
            thread.join()
    with psycopg.connect(url) as connection:
        assert dict(connection.execute("SELECT id, n FROM rows").fetchall()) == lived
    assert sum(lived.values()) > 150


def _follow(source: TriggerSource, at: str, lived: dict[int, int]) -> str:
    """Read what has come, as a stream that is opened anew and has confirmed only some of it."""
    until = source.emit("worker_sync.nudge", b"")
    with following(source, at, limit=3) as follower:
        follower.read_to(until)
        for info, change in follower.changes:
            # What has come of a transaction that is not here to its end comes again.
            if info.commit <= follower.reached:
                _live(change, lived)
        follower.stream.confirm(follower.reached)
        return follower.reached


def _live(change: Change, lived: dict[int, int]) -> None:
    assert change.before is not None
    assert change.after is not None
    assert lived[change.before[0]] == change.before[1]
    lived[change.after[0]] = change.after[1]


def _write(url: str, seed: int) -> None:
    chance = random.Random(seed)
    with psycopg.connect(url) as connection:
        for _ in range(40):
            # In one order, so that they wait for each other and never for ever.
            for row in sorted(chance.sample(range(1, 6), chance.randint(1, 4))):
                add(connection, row)
                if chance.random() < 0.2:
                    with suppress(ZeroDivisionError), connection.transaction():
                        add(connection, row)
                        raise ZeroDivisionError
            if chance.random() < 0.15:
                connection.rollback()
            connection.commit()
