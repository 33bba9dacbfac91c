"""A log that can't be continued exactly where it was left is named, and nothing of it is delivered."""

from __future__ import annotations

import resource
import time

import pytest

from connectors.base import Stream
from connectors.mysql.position import boundary
from connectors.mysql.source import MysqlSource
from tests.contract.source_engine import PATIENCE, following
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_mysql import connect, run
from tests.integration.mysql_rig import Rig, afters
from worker_sync.capture.preparation import check_stream, new_stream
from worker_sync.core.change import Piece
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.embedded import EmbeddedMysql
from worker_sync.store.checkpoints import Checkpoint

_BOTH = pytest.mark.parametrize("own", ["own_mariadb", "own_mysql"], indirect=True)


@pytest.fixture
def own(request: pytest.FixtureRequest) -> EmbeddedMysql:
    server: EmbeddedMysql = request.getfixturevalue(request.param)
    run(server.url, "CREATE DATABASE own CHARACTER SET utf8mb4")
    return server


def rig_on(server: EmbeddedMysql) -> Rig:
    rig = Rig(server.url.removesuffix("/") + "/own")
    rig.run("CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(50), body LONGTEXT)")
    rig.begin("items")
    return rig


def checkpoint(rig: Rig, confirmed: str) -> Checkpoint:
    return Checkpoint("rig", rig.source.identity(), confirmed, {}, 0)


def position_after_one(rig: Rig) -> str:
    rig.run("INSERT INTO items VALUES (1, 'delivered', NULL)")
    with rig.following() as follower:
        follower.read_changes(1)
        follower.read_to(rig.source.stream_status().head)
        return follower.reached


def purge(rig: Rig) -> None:
    rig.run("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    newest = rig.run("SHOW BINARY LOGS")[-1][0]

    def purged() -> bool:
        # The server keeps a file that the thread of the closed stream still reads, and notices its end later.
        rig.run(f"PURGE BINARY LOGS TO '{newest}'")
        return bool(rig.run("SHOW BINARY LOGS")[0][0] == newest)

    eventually(purged)


def reset(rig: Rig) -> None:
    """Begin the log anew, with files that are as long as the old ones."""
    before = int(time.time())
    eventually(lambda: int(time.time()) > before, what="another second")
    rig.run("RESET MASTER" if rig.is_mariadb else "RESET BINARY LOGS AND GTIDS")
    for number in range(100, 300):
        rig.run(f"INSERT INTO items VALUES ({number}, 'after the reset', REPEAT('x', 1000))")


def assert_lost(rig: Rig, start: str) -> None:
    with pytest.raises(Halt) as halt:
        rig.source.open_stream(start)
    assert halt.value.state is State.POSITION_LOST
    assert "worker-sync resync" in halt.value.recovery
    with pytest.raises(Halt) as halt:
        check_stream(MysqlSource("rig", rig.url), checkpoint(rig, start))
    assert halt.value.state is State.SLOT_INVALIDATED


@_BOTH
def test_a_purged_log_is_named_and_a_new_stream_begins(own: EmbeddedMysql) -> None:
    rig = rig_on(own)
    start = position_after_one(rig)
    purge(rig)
    assert_lost(rig, start)
    fresh = new_stream(rig.source, "rig", [rig.table("items")])
    rig.run("INSERT INTO items VALUES (2, 'new', NULL)")
    rig.start = fresh.confirmed
    assert afters(rig.to_head()) == [(2, "new", None)]


@_BOTH
def test_a_reset_log_is_named_although_it_has_the_position(own: EmbeddedMysql) -> None:
    rig = rig_on(own)
    start = position_after_one(rig)
    reset(rig)
    assert rig.source.stream_status().head > start[:23]
    assert_lost(rig, start)


@_BOTH
def test_a_log_that_is_shorter_than_the_position_is_named(own: EmbeddedMysql) -> None:
    rig = rig_on(own)
    file, offset, _, created = map(int, position_after_one(rig).split(":"))
    assert_lost(rig, boundary(file, offset + 1_000_000, created))


@_BOTH
def test_a_reset_under_a_running_stream_is_named(own: EmbeddedMysql) -> None:
    rig = rig_on(own)
    rig.run("FLUSH BINARY LOGS", "INSERT INTO items VALUES (1, 'before', NULL)")
    with rig.following() as follower:
        follower.read_changes(1)
        reset(rig)
        with pytest.raises((Halt, Transient)) as raised:
            read_for(follower.stream)
        assert len(follower.changes) == 1
        reached = follower.reached
    if isinstance(raised.value, Transient):
        assert_lost(rig, reached)
    else:
        assert isinstance(raised.value, Halt)
        assert raised.value.state is State.POSITION_LOST


def read_for(stream: Stream) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        delivered = [item for item in stream.read(0.1, 100) if isinstance(item, Piece)]
        assert delivered == []


def test_another_mysql_behind_the_same_address(own_mysql: EmbeddedMysql, mysql_source: str) -> None:
    run(own_mysql.url, "CREATE DATABASE own CHARACTER SET utf8mb4")
    rig = rig_on(own_mysql)
    other = MysqlSource("rig", mysql_source)
    assert other.identity().partition("/")[0] != rig.source.identity().partition("/")[0]


def test_the_identity_of_a_mariadb_is_that_of_its_stream(mariadb_source: str, mariadb_target: str) -> None:
    one, other = MysqlSource("rig", mariadb_source), MysqlSource("rig", mariadb_target)
    one.create_stream([])
    other.create_stream([])
    assert one.identity().partition("/")[0] != other.identity().partition("/")[0]
    before = one.identity()
    one.drop_stream()
    one.create_stream([])
    assert one.identity() == before


@_BOTH
def test_a_server_that_crashed_goes_on_where_it_was(own: EmbeddedMysql) -> None:
    rig = rig_on(own)
    start = position_after_one(rig)
    rig.run("INSERT INTO items VALUES (2, 'before the crash', NULL)")
    own.kill()
    own.start()
    rig.run("INSERT INTO items VALUES (3, 'after', NULL)")
    rig.start = start
    assert afters(rig.to_head()) == [(2, "before the crash", None), (3, "after", None)]


@_BOTH
def test_reading_may_pause_for_longer_than_the_server_would_wait(own: EmbeddedMysql) -> None:
    rig = rig_on(own)
    rig.run("SET GLOBAL net_write_timeout = 1")
    with rig.following() as follower:
        for base in range(0, 40, 10):
            rows = ", ".join(f"({number}, 'x', REPEAT('y', 1000000))" for number in range(base, base + 10))
            rig.run(f"INSERT INTO items VALUES {rows}")
        # Far more than all buffers between hold; the pause is what is tested.
        paused = time.monotonic() + 5
        eventually(lambda: [follower.stream.tick(), time.monotonic() > paused][1], what="the pause is over")
        follower.read_changes(40)
    assert [(change.after or ())[0] for _, change in follower.changes] == list(range(40))


@pytest.mark.slow
@_BOTH
def test_a_large_transaction_comes_in_pieces_in_bounded_memory(own: EmbeddedMysql) -> None:
    rig = rig_on(own)
    with connect(rig.url) as connection, connection.cursor() as session:
        if not rig.is_mariadb:
            session.execute("SET SESSION binlog_transaction_compression = ON")
        session.execute("BEGIN")
        for base in range(0, 100_000, 5_000):
            rows = ", ".join(f"({n}, 'name', REPEAT('{n % 10}', 1000))" for n in range(base, base + 5_000))
            session.execute(f"INSERT INTO items VALUES {rows}")
        session.execute("COMMIT")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count, pieces, commits = 0, 0, set()
    with following(rig.source, rig.start) as follower:
        while count < 100_000:
            for item in follower.stream.read(1, 1_000):
                if isinstance(item, Piece):
                    assert [(change.after or ())[0] for change in item.changes] == list(
                        range(count, count + len(item.changes))
                    )
                    count += len(item.changes)
                    pieces += 1
                    commits.add(item.info.commit)
    assert pieces >= 100
    assert len(commits) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
