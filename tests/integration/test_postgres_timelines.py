"""What servers say of their timelines: the newest and the oldest that a test machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from connectors.base import ENDLESS
from connectors.postgres.pgoutput import format_lsn
from connectors.postgres.source import PostgresSource
from tests.fixtures.fix_postgres import DEBIAN_15, ROOM
from tests.fixtures.servers import server_directory
from tests.fixtures.standby import copied, promote, start_as_standby
from worker_sync.core.errors import Transient
from worker_sync.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow


@pytest.fixture(params=[None, DEBIAN_15], ids=["newest", "15"])
def binaries(request: pytest.FixtureRequest) -> Path | None:
    found: Path | None = request.param
    return found


@pytest.fixture
def primary(binaries: Path | None) -> Iterator[EmbeddedPostgres]:
    with server_directory("pg") as directory:
        server = EmbeddedPostgres(directory, ROOM, binaries=binaries)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def head(url: str) -> str:
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    return format_lsn(row[0])


def test_a_promoted_standby_shares_its_primarys_log_up_to_the_branch(
    primary: EmbeddedPostgres, binaries: Path | None
) -> None:
    with copied(primary, binaries) as standby:
        start_as_standby(standby)
        source = PostgresSource("db", standby.url)
        for question in (source.history, source.stream_status):
            with pytest.raises(Transient, match="is a standby"):
                question()
        with psycopg.connect(standby.url) as conn:
            row = conn.execute("SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint").fetchone()
            assert row is not None
        promote(standby)
        assert source.history() == "2"
        assert source.shared("1", "2") == format_lsn(row[0] - 1)
        assert source.shared("1", "2") < head(standby.url)
        assert source.shared("2", "2") == ENDLESS
        assert source.shared("3", "2") == ""
    of_the_first = PostgresSource("db", primary.url)
    assert of_the_first.history() == "1"
    assert of_the_first.shared("2", "1") == ""


def test_a_stream_of_another_timeline_than_was_looked_at_is_not_read(
    primary: EmbeddedPostgres, binaries: Path | None
) -> None:
    """An address may lead to another server from one connection to the next."""
    with psycopg.connect(primary.url, autocommit=True) as conn:
        conn.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source = PostgresSource("db", primary.url)
    [table] = source.tables()
    start = source.create_stream([table.table]).commit
    assert source.history() == "1"
    source.open_stream(start).close()
    primary.stop()
    start_as_standby(primary)
    promote(primary)
    with pytest.raises(Transient, match="was promoted"):
        source.open_stream(start)
    assert source.history() == "2"
    source.open_stream(start).close()
