"""A publication that somebody else altered stops the stream by name; what loses no change stops nothing."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from connectors.postgres.source import PostgresSource
from tests.contract.source_engine import following
from tests.fixtures.fix_postgres import new_database
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName

T = TableName("public", "t")
U = TableName("public", "u")
OURS = "worker_sync_db"
ALL = "insert, update, delete, truncate"


class Published:
    """A stream of the tables t and u of one database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.run("CREATE TABLE t (id int PRIMARY KEY, v text)", "CREATE TABLE u (id int PRIMARY KEY, v text)")
        self.source = PostgresSource("db", url)
        self.start = self.source.create_stream([T, U]).commit

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def create_again(self) -> str:
        return self.source.create_stream([T, U]).commit

    def read_inserts(self) -> list[TableName]:
        """The tables that an insert into each of them is read of."""
        self.run("INSERT INTO t VALUES (1, 'x')", "INSERT INTO u VALUES (1, 'x')")
        with following(self.source, self.start) as follower:
            tables = [change.table for _, change in follower.read_changes(2)]
            return [follower.stream.schemas[table].table for table in tables]


@pytest.fixture(params=["postgres", "postgres15"])
def db(request: pytest.FixtureRequest) -> Iterator[Published]:
    with new_database(request.getfixturevalue(request.param), "source") as url:
        yield Published(url)


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        ([f"ALTER PUBLICATION {OURS} DROP TABLE t"], "public.t"),
        ([f"ALTER PUBLICATION {OURS} DROP TABLE t, u"], "public.t, public.u"),
        ([f"ALTER PUBLICATION {OURS} DROP TABLE t", f"ALTER PUBLICATION {OURS} ADD TABLE t"], "public.t"),
        ([f"ALTER PUBLICATION {OURS} SET TABLE t WHERE (id > 5), u"], "public.t"),
        ([f"ALTER PUBLICATION {OURS} SET TABLE t, u (id)"], "public.u"),
        ([f"ALTER PUBLICATION {OURS} SET (publish = 'insert')"], OURS),
        ([f"ALTER PUBLICATION {OURS} SET (publish_via_partition_root = false)"], OURS),
        ([f"ALTER PUBLICATION {OURS} SET (publish = '{events}')" for events in ("insert", ALL)], OURS),
        ([f"DROP PUBLICATION {OURS}", f"CREATE PUBLICATION {OURS} FOR TABLE t, u"], "made anew"),
    ],
)
def test_a_publication_that_somebody_altered_halts(db: Published, statements: list[str], what: str) -> None:
    assert db.source.curtailed() == ""
    db.run(*statements)
    assert what in db.source.curtailed()
    for attempt in (db.create_again, lambda: db.source.open_stream(db.start)):
        with pytest.raises(Halt, match=what) as halt:
            attempt()
        assert halt.value.state is State.SLOT_INVALIDATED
        assert "worker-sync resync" in halt.value.recovery
    status = db.source.stream_status()
    assert what in status.lost
    assert status.held
    [failed] = [finding for finding in db.source.preflight([T, U]) if not finding.ok]
    assert (failed.check, failed.fix) == ("slot", "worker-sync resync PIPELINE")
    db.source.drop_stream()
    db.start = db.create_again()
    assert db.source.curtailed() == ""
    assert db.read_inserts() == [T, U]


@pytest.mark.parametrize(
    "statements",
    [
        [],
        ["CREATE TABLE more (id int PRIMARY KEY)", f"ALTER PUBLICATION {OURS} ADD TABLE more"],
        ["ALTER TABLE t RENAME TO s", "ALTER TABLE s RENAME TO t"],
        ["ALTER TABLE t ADD more int", "ALTER TABLE t DROP more", "ALTER TABLE u REPLICA IDENTITY FULL"],
        ["VACUUM FULL pg_publication", "VACUUM FULL pg_publication_rel", "VACUUM FREEZE pg_publication_rel"],
        # What an older comment looks like, and what a person says who knows that nothing is missing.
        [f"COMMENT ON PUBLICATION {OURS} IS 'worker-sync'"],
        [f"ALTER PUBLICATION {OURS} OWNER TO CURRENT_USER", f"COMMENT ON PUBLICATION {OURS} IS 'worker-sync'"],
    ],
)
def test_what_loses_no_change_stops_nothing(db: Published, statements: list[str]) -> None:
    db.run(*statements)
    assert db.source.curtailed() == ""
    assert db.create_again() == db.start
    assert db.source.curtailed() == ""
    assert db.read_inserts() == [T, U]
    db.run(f"ALTER PUBLICATION {OURS} DROP TABLE t")
    assert db.source.curtailed()


def test_a_table_that_was_dropped_is_nobodys_loss(db: Published) -> None:
    db.run("DROP TABLE t")
    assert db.source.curtailed() == ""
    assert db.source.create_stream([U]).commit == db.start
    db.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    assert db.create_again() == db.start
    assert db.source.curtailed() == ""
    assert db.read_inserts() == [T, U]


def test_an_alteration_of_our_own_is_none(db: Published) -> None:
    for tables in ([T], [U], [], [T, U]):
        db.source.create_stream(tables)
        assert db.source.curtailed() == ""


def test_a_start_that_changes_nothing_writes_nothing(db: Published) -> None:
    def written() -> list[tuple[object, ...]]:
        with psycopg.connect(db.url) as conn:
            return conn.execute(
                "SELECT p.xmin::text, d.xmin::text FROM pg_publication p JOIN pg_description d ON d.objoid = p.oid"
            ).fetchall()

    before = written()
    assert db.create_again() == db.start
    assert written() == before


def test_the_list_of_an_older_comment_is_kept(db: Published) -> None:
    db.run(
        "ALTER TABLE t REPLICA IDENTITY FULL",
        f"""COMMENT ON PUBLICATION {OURS} IS 'worker-sync\n[["public", "t"]]'""",
    )
    db.create_again()
    db.source.drop_stream()
    with psycopg.connect(db.url) as conn:
        assert conn.execute("SELECT relreplident FROM pg_class WHERE relname = 't'").fetchone() == ("d",)
