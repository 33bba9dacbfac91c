"""The stream and the snapshot under trouble: lost slots, silence, cut connections, commits that nobody can see yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from time import monotonic

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from connectors.postgres.source import PostgresSource
from tests.contract.source_engine import PATIENCE, following
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_proxy import ProxyTo
from worker_sync.core.change import Piece
from worker_sync.core.errors import ConfigError, Halt, State, Transient, Unreachable
from worker_sync.core.schema import TableName
from worker_sync.embedded import EmbeddedPostgres
from worker_sync.libpq import PatientConnection

T = TableName("public", "t")


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def captured(url: str) -> tuple[PostgresSource, str]:
    """A source with a stream of table t, and where the stream starts."""
    run(url, "CREATE TABLE public.t (id int PRIMARY KEY, v text)")
    source = PostgresSource("db", url)
    return source, source.create_stream([T]).commit


def lengthen_log_until_lost(url: str, source: PostgresSource) -> None:
    def lost() -> str:
        for _ in range(2):
            run(url, "SELECT pg_logical_emit_message(false, 'filler', 'x')", "SELECT pg_switch_wal()")
        run(url, "CHECKPOINT")
        return source.stream_status().lost

    eventually(lost, PATIENCE, "the slot is lost")


@pytest.mark.slow
def test_ticks_keep_a_stream_alive_that_nobody_reads(source_db: str) -> None:
    source, start = captured(source_db)
    run(source_db, f"ALTER DATABASE {source_db.rpartition('/')[2].partition('?')[0]} SET wal_sender_timeout = '2s'")
    with following(source, start) as follower:
        # More than the sockets hold, so that the server is stuck in sending.
        run(source_db, "INSERT INTO public.t SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) n")
        until = monotonic() + 6
        while monotonic() < until:
            follower.stream.tick()
            threading.Event().wait(0.2)
        assert len(follower.read_changes(50_000)) == 50_000


@pytest.mark.slow
def test_a_stream_without_ticks_is_ended_by_the_server_and_can_be_resumed(source_db: str) -> None:
    source, start = captured(source_db)
    run(source_db, f"ALTER DATABASE {source_db.rpartition('/')[2].partition('?')[0]} SET wal_sender_timeout = '2s'")
    with following(source, start) as follower:
        run(source_db, "INSERT INTO public.t SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) n")
        eventually(lambda: not source.stream_status().active, PATIENCE, "the server gave up")
        with pytest.raises(Transient):
            follower.read_changes(50_000)
        with pytest.raises(Transient, match="ended"):
            follower.stream.read(0, 1)
    with following(source, start) as follower:
        assert len(follower.read_changes(50_000)) == 50_000


def test_a_terminated_connection_is_transient_and_the_next_stream_goes_on(source_db: str) -> None:
    source, start = captured(source_db)
    run(source_db, "INSERT INTO public.t VALUES (1)")
    with following(source, start) as follower:
        info, _ = follower.read_changes(1)[0]
        follower.stream.confirm(info.commit)
        run(source_db, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name ~ '_db$'")
        with pytest.raises(Transient):
            follower.read_changes(2)
    run(source_db, "INSERT INTO public.t VALUES (2)")
    with following(source, info.commit) as follower:
        assert [change.after for _, change in follower.read_changes(1)] == [(2, None)]


def test_a_killed_server_is_transient_and_the_stream_goes_on_after_its_restart(own_postgres: EmbeddedPostgres) -> None:
    source, start = captured(own_postgres.url)
    run(own_postgres.url, "INSERT INTO public.t VALUES (1)")
    with following(source, start) as follower:
        first = follower.read_changes(1)
        own_postgres.kill()
        with pytest.raises(Transient):
            follower.read_changes(2)
    with pytest.raises(Unreachable):
        source.stream_status()
    own_postgres.start()
    run(own_postgres.url, "INSERT INTO public.t VALUES (2)")
    with following(source, start) as follower:
        again = follower.read_changes(2)
    assert again[0] == first[0]
    assert again[1][1].after == (2, None)


def test_an_invalidated_slot_halts_with_the_way_out(own_postgres: EmbeddedPostgres) -> None:
    url = own_postgres.url
    source, start = captured(url)
    run(url, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    lengthen_log_until_lost(url, source)
    for attempt in (lambda: source.open_stream(start), lambda: source.create_stream([T])):
        with pytest.raises(Halt) as halt:
            attempt()
        assert halt.value.state is State.SLOT_INVALIDATED
        assert "worker-sync resync" in halt.value.recovery
    failed = [finding for finding in source.preflight([T]) if not finding.ok]
    assert [(finding.check, finding.fix) for finding in failed] == [("slot", "worker-sync resync PIPELINE")]
    source.drop_stream()
    fresh = source.create_stream([T]).commit
    assert fresh > start
    run(url, "INSERT INTO public.t VALUES (1)")
    with following(source, fresh) as follower:
        assert len(follower.read_changes(1)) == 1


def test_a_slot_invalidated_under_a_reader_halts_when_it_is_opened_again(own_postgres: EmbeddedPostgres) -> None:
    url = own_postgres.url
    source, start = captured(url)
    with following(source, start) as follower:
        run(url, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
        lengthen_log_until_lost(url, source)
        with pytest.raises((Transient, Halt)):
            follower.read_changes(1)
    with pytest.raises(Halt) as halt:
        source.open_stream(start)
    assert halt.value.state is State.SLOT_INVALIDATED


@pytest.mark.parametrize("server", ["postgres", "postgres15"])
@pytest.mark.parametrize("again", [False, True], ids=["gone", "created again"])
def test_a_publication_dropped_under_a_reader_halts(request: pytest.FixtureRequest, server: str, again: bool) -> None:
    with new_database(request.getfixturevalue(server), "source") as url:
        source, start = captured(url)
        with following(source, start) as follower:
            run(url, "DROP PUBLICATION worker_sync_db", "INSERT INTO public.t VALUES (1)")
            if again:
                run(url, "CREATE PUBLICATION worker_sync_db FOR TABLE public.t", "INSERT INTO public.t VALUES (2)")
            with pytest.raises(Halt, match="publication") as halt:
                follower.read_changes(1)
        assert halt.value.state is State.SLOT_MISSING
        assert follower.changes == []


def test_a_missing_publication_is_not_replaced_as_if_nothing_had_happened(source_db: str) -> None:
    source, start = captured(source_db)
    run(source_db, "DROP PUBLICATION worker_sync_db")
    for attempt in (lambda: source.open_stream(start), lambda: source.create_stream([T])):
        with pytest.raises(Halt, match="publication") as halt:
            attempt()
        assert halt.value.state is State.SLOT_MISSING


def test_a_position_beyond_the_servers_log_halts(source_db: str) -> None:
    source, _ = captured(source_db)
    with pytest.raises(Halt, match="log ends") as halt:
        source.open_stream("00FFFFFF00000000")
    assert halt.value.state is State.POSITION_LOST


def test_a_stream_is_not_dropped_while_it_is_read(source_db: str) -> None:
    source, start = captured(source_db)
    with following(source, start):
        with pytest.raises(Transient, match="another process"):
            source.drop_stream()
        assert source.stream_status().exists


@contextmanager
def unfinished_commits(url: str) -> Iterator[None]:
    """Commits reach the log and then wait for a standby that isn't there: until the end, no one sees them."""
    run(url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    try:
        eventually(lambda: _setting(url, "synchronous_standby_names") == "nobody", PATIENCE, "the setting is in force")
        yield
    finally:
        run(url, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


def _setting(url: str, name: str) -> str:
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def test_a_transaction_in_the_log_that_is_not_visible_yet_is_not_in_the_chunk(own_postgres: EmbeddedPostgres) -> None:
    url = own_postgres.url
    source, start = captured(url)
    run(url, "INSERT INTO public.t VALUES (1)")
    with ThreadPoolExecutor(1) as pool, following(source, start) as follower, source.reader() as reader:
        with unfinished_commits(url):
            waiting = pool.submit(run, url, "INSERT INTO public.t VALUES (2)")
            changes = follower.read_changes(2)
            schema = reader.schema(T)
            assert schema is not None
            before = reader.chunk(schema, None, 10)
            assert not waiting.done()
        waiting.result(PATIENCE)
        after = reader.chunk(schema, None, 10)
    assert before.rows == [(1, None)]
    assert [before.sees(info) for info, _ in changes] == [True, False]
    # Its commit is before the horizon all the same: the position alone would have lied.
    assert changes[1][0].commit <= before.horizon
    assert len(after.rows) == 2
    assert [after.sees(info) for info, _ in changes] == [True, True]


def test_adding_a_table_waits_for_those_who_were_writing_to_it(source_db: str) -> None:
    source, start = captured(source_db)
    added = TableName("public", "added")
    run(source_db, "CREATE TABLE public.added (id int PRIMARY KEY)")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(source_db) as writer, source.reader() as reader:
        writer.execute("INSERT INTO public.added VALUES (1)")
        adding = pool.submit(source.create_stream, [T, added])
        eventually(lambda: published(source_db, "added"), PATIENCE, "the publication has the table")
        with pytest.raises(TimeoutError):
            adding.result(0.5)
        writer.commit()
        assert adding.result(PATIENCE).commit == start
        schema = reader.schema(added)
        assert schema is not None
        assert reader.chunk(schema, None, 10).rows == [(1,)]


def test_a_wait_for_older_writers_that_was_cut_short_is_taken_up_again(source_db: str) -> None:
    source, start = captured(source_db)
    added = TableName("public", "added")
    # What a process leaves that was killed while it waited.
    run(
        source_db,
        "CREATE TABLE public.added (id int PRIMARY KEY)",
        "ALTER PUBLICATION worker_sync_db ADD TABLE public.added",
        "COMMENT ON PUBLICATION worker_sync_db IS "
        "'worker-sync: waiting for writers that are older than this publication''s tables'",
    )
    with ThreadPoolExecutor(1) as pool, psycopg.connect(source_db) as writer:
        writer.execute("INSERT INTO public.added VALUES (1)")
        adding = pool.submit(source.create_stream, [T, added])
        with pytest.raises(TimeoutError):
            adding.result(0.5)
        writer.commit()
        assert adding.result(PATIENCE).commit == start


def published(url: str, table: str) -> bool:
    with psycopg.connect(url) as conn:
        return bool(conn.execute("SELECT FROM pg_publication_tables WHERE tablename = %s", (table,)).fetchall())


def test_two_processes_that_create_the_stream_at_once_agree(source_db: str) -> None:
    run(source_db, "CREATE TABLE public.t (id int PRIMARY KEY, v text)")
    with ThreadPoolExecutor(4) as pool:
        sources = [PostgresSource("db", source_db) for _ in range(4)]
        positions = list(pool.map(lambda source: source.create_stream([T]), sources))
    assert len(set(positions)) == 1


def test_no_way_in_is_one_clear_line_without_the_password(source_db: str) -> None:
    host = {name: str(value) for name, value in conninfo_to_dict(source_db).items()}
    address = f"{host['host']}:{host['port']}"
    for url, reason in [
        (f"postgresql://{host['user']}:s3cret-wrong@{address}/{host['dbname']}", "password authentication failed"),
        (source_db.replace(host["dbname"], "no_such_database"), 'database "no_such_database" does not exist'),
        ("postgresql://user:s3cret-wrong@127.0.0.1:1/db", "Connection refused"),
        ("postgresql://user:s3cret-wrong@no-such-host.invalid/db", "no-such-host.invalid"),
    ]:
        with pytest.raises(Unreachable) as error:
            PostgresSource("db", url).identity()
        text = str(error.value)
        assert reason in text
        assert "\n" not in text
        assert "s3cret" not in text
        assert error.value.__cause__ is None
        findings = PostgresSource("db", url).preflight([T])
        assert [(finding.check, finding.ok) for finding in findings] == [("reachable", False)]


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@host:port/db", "postgresql://u:s3%zzcret@host/db"])
def test_a_bad_url_is_a_configuration_error_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        PostgresSource("db", url)
    assert "cret" not in str(error.value)


def test_a_stream_whose_line_died_in_silence_ends_while_an_idle_one_goes_on(
    source_db: str, proxy_to: ProxyTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientConnection, "silent_s", 1.5)
    monkeypatch.setattr("connectors.postgres.stream.STATUS_INTERVAL", 0.3)
    door = proxy_to(source_db)
    _, start = captured(source_db)
    with closing(PostgresSource("db", door.url).open_stream(start)) as stream:
        quiet_until = monotonic() + 4
        while monotonic() < quiet_until:
            assert not [piece for piece in stream.read(0.2, 10) if isinstance(piece, Piece)]
        door.forget()
        with pytest.raises(Transient, match="nothing was heard of the server"):
            stream.read(10, 10)
