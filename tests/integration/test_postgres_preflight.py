"""Preflight on a PostgreSQL that lacks something: what failed is named, and the fix is what mends it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.base import Finding
from connectors.postgres.source import PostgresSource
from tests.contract.source_engine import following
from tests.fixtures.servers import server_directory
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName
from worker_sync.embedded import EmbeddedPostgres

T = TableName("public", "t")


@pytest.fixture
def role(source_db: str) -> Iterator[str]:
    """A role that may do nothing but log in; gone afterwards."""
    name = f"role_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(source_db, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(sql.Identifier(name)))
        yield name
        conn.execute(sql.SQL("DROP PUBLICATION IF EXISTS worker_sync_db"))
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def failed(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


def test_every_missing_privilege_is_named_and_its_fix_mends_it(source_db: str, role: str) -> None:
    parameters = conninfo_to_dict(source_db)
    source = PostgresSource("db", make_conninfo("", **{**parameters, "user": role, "password": "pw"}))
    with psycopg.connect(source_db, autocommit=True) as admin:
        admin.execute("CREATE TABLE public.t (id int PRIMARY KEY)")
        findings = failed(source.preflight([T]))
        assert {finding.check for finding in findings} == {
            "replication",
            "publication",
            "select public.t",
            "owner public.t",
        }
        with pytest.raises(Halt) as halt:
            source.create_stream([T])
        assert halt.value.state is State.PREFLIGHT_FAILED
        assert not source.stream_status().exists
        for finding in findings:
            for statement in finding.fix.partition(", or")[0].split("; "):
                admin.execute(statement.encode())
        assert failed(source.preflight([T])) == []
        start = source.create_stream([T]).commit
        admin.execute("INSERT INTO public.t VALUES (1)")
    with following(source, start) as follower:
        assert len(follower.read_changes(1)) == 1
    source.drop_stream()


def test_row_security_that_hides_rows_is_named_and_never_reads_less(source_db: str, role: str) -> None:
    parameters = conninfo_to_dict(source_db)
    source = PostgresSource("db", make_conninfo("", **{**parameters, "user": role, "password": "pw"}))
    with psycopg.connect(source_db, autocommit=True) as admin:
        admin.execute("CREATE TABLE public.t (id int PRIMARY KEY)")
        admin.execute("ALTER TABLE public.t ENABLE ROW LEVEL SECURITY")
        admin.execute(sql.SQL("GRANT SELECT ON public.t TO {}").format(sql.Identifier(role)))
    assert "row security public.t" in [finding.check for finding in failed(source.preflight([T]))]
    with source.reader() as reader:
        schema = reader.schema(T)
        assert schema is not None
        with pytest.raises(Halt, match="row-level security"):
            reader.chunk(schema, None, 10)


def test_a_server_without_logical_log_is_named_and_nothing_is_created() -> None:
    with server_directory("pg") as directory:
        server = EmbeddedPostgres(directory, {"wal_level": "replica"})
        server.start()
        try:
            with psycopg.connect(server.url) as conn:
                conn.execute("CREATE TABLE public.t (id int PRIMARY KEY)")
            source = PostgresSource("db", server.url)
            findings = failed(source.preflight([T]))
            assert [finding.check for finding in findings] == ["wal_level"]
            assert "ALTER SYSTEM SET wal_level = logical" in findings[0].fix
            with pytest.raises(Halt, match="wal_level") as halt:
                source.create_stream([T])
            assert halt.value.state is State.PREFLIGHT_FAILED
            with psycopg.connect(server.url) as conn:
                assert conn.execute("SELECT FROM pg_publication").fetchall() == []
        finally:
            server.stop()


def test_a_server_with_all_slots_in_use_leaves_nothing_behind() -> None:
    with server_directory("pg") as directory:
        server = EmbeddedPostgres(directory, {"max_replication_slots": "1"})
        server.start()
        try:
            with psycopg.connect(server.url, autocommit=True) as conn:
                conn.execute("CREATE TABLE public.t (id int PRIMARY KEY)")
                conn.execute("SELECT pg_create_physical_replication_slot('taken')")
                source = PostgresSource("db", server.url)
                findings = failed(source.preflight([T]))
                assert [finding.check for finding in findings] == ["max_replication_slots"]
                with pytest.raises(Halt, match="replication slots") as halt:
                    source.create_stream([T])
                assert halt.value.state is State.PREFLIGHT_FAILED
                assert conn.execute("SELECT FROM pg_publication").fetchall() == []
        finally:
            server.stop()
