"""REPLICA IDENTITY FULL for tables without a key: set before publishing, never to the owner's harm, and put back."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.postgres import identity
from connectors.postgres.source import PostgresSource
from tests.contract.source_engine import following
from tests.fixtures.fix_postgres import new_database
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName

T = TableName("public", "t")
U = TableName("public", "u")


class Database:
    def __init__(self, url: str, conn: psycopg.Connection) -> None:
        self.url = url
        self.source = PostgresSource("db", url)
        self.conn = conn

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.conn.execute(statement.encode())

    def identity(self, table: str = "t") -> str:
        row = self.conn.execute("SELECT relreplident FROM pg_class WHERE oid = %s::regclass", (table,)).fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture(params=["postgres", "postgres15"])
def db(request: pytest.FixtureRequest) -> Iterator[Database]:
    server = request.getfixturevalue(request.param)
    with new_database(server, "source") as url, psycopg.connect(url, autocommit=True) as conn:
        yield Database(url, conn)


def test_a_table_without_key_is_published_with_whole_old_rows(db: Database) -> None:
    db.run("CREATE TABLE t (n int, large text)", "ALTER TABLE t ALTER large SET STORAGE EXTERNAL")
    [schema] = db.source.tables()
    assert schema.key == ()
    findings = db.source.preflight([T])
    assert [finding.check for finding in findings if not finding.ok] == []
    [key] = [finding for finding in findings if finding.check == "key public.t"]
    assert "REPLICA IDENTITY FULL" in key.detail
    assert db.identity() == "d"
    start = db.source.create_stream([T]).commit
    assert db.identity() == "f"
    db.run(
        "INSERT INTO t VALUES (1, repeat('x', 9000)), (1, repeat('x', 9000))",
        "UPDATE t SET n = 2 WHERE ctid = (SELECT min(ctid) FROM t)",
        "DELETE FROM t WHERE n = 1",
        "TRUNCATE t",
    )
    with following(db.source, start) as follower:
        changes = [change for _, change in follower.read_changes(5)]
        assert {follower.stream.schemas[change.table].key for change in changes} == {()}
    one, two = (1, "x" * 9000), (2, "x" * 9000)
    assert [(str(c.op), c.key or (), c.before, c.after) for c in changes] == [
        ("c", (), None, one),
        ("c", (), None, one),
        ("u", (), one, two),
        ("d", (), one, None),
        ("t", (), None, None),
    ]


@pytest.mark.parametrize(
    "definition",
    ["id int PRIMARY KEY DEFERRABLE, n int", "n int, id int NOT NULL UNIQUE"],
    ids=["deferrable", "unique"],
)
def test_a_key_that_the_log_has_with_full_rows_only_is_used(db: Database, definition: str) -> None:
    db.run(f"CREATE TABLE t ({definition})")
    [before] = db.source.tables()
    assert before.key == ("id",)
    start = db.source.create_stream([T]).commit
    assert db.source.tables() == [before]
    db.run("INSERT INTO t (id, n) VALUES (1, 1)", "UPDATE t SET n = 2")
    with following(db.source, start) as follower:
        _, change = follower.read_changes(2)[1]
        assert follower.stream.schemas[change.table] == before


def test_dropping_the_stream_puts_back_what_was_changed_and_nothing_else(db: Database) -> None:
    db.run("CREATE TABLE t (n int)", "CREATE TABLE u (n int)", "ALTER TABLE u REPLICA IDENTITY FULL")
    db.source.create_stream([T, U])
    assert db.source.create_stream([T, U]) == db.source.create_stream([T, U])
    db.source.drop_stream()
    assert (db.identity("t"), db.identity("u")) == ("d", "f")
    db.run("INSERT INTO t VALUES (1)", "UPDATE t SET n = 2")
    db.source.drop_stream()


def test_a_table_that_leaves_the_stream_gets_its_identity_back(db: Database) -> None:
    db.run("CREATE TABLE t (n int)", "CREATE TABLE u (n int)")
    db.source.create_stream([T, U])
    db.source.create_stream([U])
    assert (db.identity("t"), db.identity("u")) == ("d", "f")
    db.source.create_stream([T, U])
    assert (db.identity("t"), db.identity("u")) == ("f", "f")


def test_a_table_that_another_publication_needs_keeps_its_identity(db: Database) -> None:
    db.run("CREATE TABLE t (n int)")
    db.source.create_stream([T])
    db.run("CREATE PUBLICATION theirs FOR TABLE t")
    db.source.drop_stream()
    assert db.identity() == "f"
    db.run("INSERT INTO t VALUES (1)", "UPDATE t SET n = 2")


def test_a_table_that_was_dropped_meanwhile_is_in_nobodys_way(db: Database) -> None:
    db.run("CREATE TABLE t (n int)", "CREATE TABLE u (n int)")
    db.source.create_stream([T, U])
    db.run("DROP TABLE t")
    db.source.create_stream([U])
    db.source.drop_stream()
    assert db.identity("u") == "d"


def test_a_table_that_is_in_use_for_long_halts_with_the_statement(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "LOCK_MS", 50)
    db.run("CREATE TABLE t (n int)")
    with psycopg.connect(db.url) as other:
        other.execute("SELECT FROM t")
        with pytest.raises(Halt) as halt:
            db.source.create_stream([T])
    assert halt.value.state is State.PREFLIGHT_FAILED
    assert halt.value.recovery == 'ALTER TABLE "public"."t" REPLICA IDENTITY FULL'
    assert db.identity() == "d"
    assert not db.source.stream_status().exists
    db.run("INSERT INTO t VALUES (1)", "UPDATE t SET n = 2")
    db.run(halt.value.recovery)
    db.source.create_stream([T])


def test_a_table_that_is_in_use_for_a_moment_is_waited_for(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "LOCK_MS", 100)
    monkeypatch.setattr(identity, "LOCK_TRIES", 100)
    db.run("CREATE TABLE t (n int)")
    with psycopg.connect(db.url) as other:
        other.execute("SELECT FROM t")
        threading.Timer(0.5, other.rollback).start()
        db.source.create_stream([T])
    assert db.identity() == "f"


def test_a_table_of_others_is_named_and_never_made_to_refuse_their_updates(db: Database) -> None:
    name = f"role_{uuid.uuid4().hex[:8]}"
    role = sql.Identifier(name)
    db.conn.execute(sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD 'pw'").format(role))
    try:
        db.conn.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
            sql.Identifier(str(conninfo_to_dict(db.url)["dbname"])), role))  # fmt: skip
        db.run("CREATE TABLE t (n int)", "GRANT SELECT ON t TO PUBLIC", "INSERT INTO t VALUES (1)")
        theirs = PostgresSource("db", make_conninfo("", **{**conninfo_to_dict(db.url), "user": name, "password": "pw"}))
        assert "owner public.t" in [finding.check for finding in theirs.preflight([T]) if not finding.ok]
        with pytest.raises(Halt) as halt:
            theirs.create_stream([T])
        assert halt.value.recovery == 'ALTER TABLE "public"."t" REPLICA IDENTITY FULL'
        db.run("UPDATE t SET n = 2")
        theirs.drop_stream()
    finally:
        db.conn.execute(sql.SQL("DROP OWNED BY {}").format(role))
        db.conn.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_table_whose_identity_is_taken_away_stops_the_stream(db: Database) -> None:
    db.run("CREATE TABLE t (n int)")
    start = db.source.create_stream([T]).commit
    db.run("ALTER TABLE t REPLICA IDENTITY DEFAULT", "INSERT INTO t VALUES (1)")
    with following(db.source, start) as follower, pytest.raises(Halt) as halt:
        follower.read_changes(1)
    assert halt.value.state is State.TABLE_UNSUPPORTED
