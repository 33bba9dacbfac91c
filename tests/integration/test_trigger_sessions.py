"""What audit triggers record of whoever is logged in: beside what the application says, and never by its word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.fixtures.fix_postgres import new_database
from tests.integration.test_audit import Entry, changes
from tests.integration.test_audit_triggers import recording
from worker_sync.context import audited

Connection = psycopg.Connection

#: Of a login, and of a role that it may take on.
LOGIN, GROUP = "session_login", "session_group"


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


@pytest.fixture
def login_url(source_db: str) -> Iterator[str]:
    """URL of a login without rights on anything but the table `orders` of `source_db`."""
    with psycopg.connect(source_db, autocommit=True) as owner:
        owner.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        owner.execute(f"CREATE ROLE {GROUP}")
        owner.execute(f"CREATE ROLE {LOGIN} LOGIN PASSWORD 'secret' IN ROLE {GROUP}")
        try:
            owner.execute(f"GRANT ALL ON orders TO {LOGIN}, {GROUP}")
            yield make_conninfo(source_db, user=LOGIN, password="secret", application_name="shop-web")
        finally:
            for role in (LOGIN, GROUP):
                owner.execute(f"DROP OWNED BY {role} CASCADE")
                owner.execute(f"DROP ROLE {role}")


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def insert(connection: Connection, number: int) -> None:
    connection.execute("INSERT INTO orders VALUES (%s, 'x')", [number])


def session(connection: Connection, **facts: Any) -> Entry:
    """What has to stand in the entries of a connection of `login_url`."""
    row = connection.execute("SELECT host(inet_client_addr())").fetchone()
    assert row is not None
    return {
        "session_user": LOGIN,
        "role": None,
        "application_name": "shop-web",
        "client_addr": row[0],
    } | facts


def test_an_entry_has_the_session_of_each_change_and_no_actor_of_it(
    login_url: str, source_db: str, control_db: str
) -> None:
    with connected(login_url) as connection, recording(source_db, control_db):
        insert(connection, 1)
        with audited(connection, "ann", reason="refund"):
            insert(connection, 2)
        with connection.transaction():
            insert(connection, 3)
            connection.execute(f"SET LOCAL ROLE {GROUP}")
            connection.execute("SET LOCAL application_name = 'nightly'")
            connection.execute("UPDATE orders SET note = 'y' WHERE id = 3")
        connection.execute("DELETE FROM orders WHERE id = 3")
        connection.execute("SET application_name = ''")
        connection.execute("TRUNCATE orders")
        found = changes(control_db, 6)
        plain = session(connection)
    assert [entry["session"] for entry in found] == [
        plain,
        plain,
        plain,
        plain | {"role": GROUP, "application_name": "nightly"},
        plain,
        plain | {"application_name": None},
    ]
    assert [entry["actor"] for entry in found] == [None, "ann", None, None, None, None]
    assert [entry["context"] for entry in found][:3] == [None, {"actor": "ann", "reason": "refund"}, None]


def test_a_context_that_speaks_of_a_session_stays_a_context(login_url: str, source_db: str, control_db: str) -> None:
    forged = {"session_user": "postgres", "session": {"session_user": "postgres"}, "role": "postgres", "actor": "ann"}
    with connected(login_url) as connection, recording(source_db, control_db):
        for name in ("session", "session_user", "usename", "recorded"):
            connection.execute("SELECT set_config(%s, %s, false)", [f"worker_sync.{name}", json.dumps(forged)])
        connection.execute("SELECT set_config('worker_sync.context', %s, false)", [json.dumps(forged)])
        insert(connection, 1)
        (entry,) = changes(control_db, 1)
        assert entry["session"] == session(connection)
    assert (entry["actor"], entry["context"]) == ("ann", forged)


@pytest.mark.parametrize("prefix", ["worker_sync.session", "worker_sync.context"])
def test_a_message_in_the_log_is_no_session(login_url: str, source_db: str, control_db: str, prefix: str) -> None:
    forged = json.dumps({"session": {"session_user": "postgres"}, "session_user": "postgres"})
    with connected(login_url) as connection, recording(source_db, control_db, capture="log"):
        with connection.transaction():
            connection.execute("SELECT pg_logical_emit_message(true, %s, %s)", [prefix, forged])
            insert(connection, 1)
        (entry,) = changes(control_db, 1)
    assert "session" not in entry
    assert entry["context"] == (json.loads(forged) if prefix == "worker_sync.context" else None)


def test_the_user_is_who_logged_in_whatever_function_writes(login_url: str, source_db: str, control_db: str) -> None:
    with connected(source_db) as owner, connected(login_url) as connection, recording(source_db, control_db):
        owner.execute(
            "CREATE FUNCTION add(number int) RETURNS void LANGUAGE sql SECURITY DEFINER AS "
            "$$ INSERT INTO public.orders VALUES (number, 'x') $$"
        )
        connection.execute("SELECT add(1)")
        owner.execute(f"SET SESSION AUTHORIZATION {LOGIN}")
        insert(owner, 2)
        found = changes(control_db, 2)
        assert found[0]["session"] == session(connection)
    # A superuser can become anybody: that is what it means to be one.
    assert found[1]["session"]["session_user"] == LOGIN


@pytest.mark.parametrize("version", ["postgres", pytest.param("postgres15", marks=pytest.mark.long)])
def test_what_a_client_calls_itself_is_kept_as_the_server_has_it(
    version: str, request: pytest.FixtureRequest, control_db: str
) -> None:
    names = ["x" * 100, "ü\n\\\"'", '","session_user":"postgres', " "]
    with new_database(request.getfixturevalue(version), "source") as url, connected(url) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        with recording(url, control_db):
            shown = []
            for number, name in enumerate(names):
                connection.execute("SELECT set_config('application_name', %s, false)", [name])
                shown += [connection.execute("SHOW application_name").fetchone()]
                insert(connection, number)
            found = changes(control_db, len(names))
    assert [(entry["session"]["application_name"],) for entry in found] == shown
    assert shown[0] == ("x" * 63,)
    assert {entry["session"]["session_user"] for entry in found} == {conninfo_to_dict(url)["user"]}


def test_every_change_of_a_large_transaction_has_its_session(login_url: str, source_db: str, control_db: str) -> None:
    """Over the pieces in which it is read, and the batches in which it travels."""
    with connected(login_url) as connection, recording(source_db, control_db):
        with connection.transaction():
            connection.execute("INSERT INTO orders SELECT g, 'x' FROM generate_series(1, 7000) g")
            connection.execute(f"SET LOCAL ROLE {GROUP}")
            connection.execute("UPDATE orders SET note = 'y'")
        found = changes(control_db, 14_000)
        plain = session(connection)
    assert [entry["session"] for entry in found] == [plain] * 7000 + [plain | {"role": GROUP}] * 7000


def test_temporary_objects_of_a_writer_are_not_what_the_trigger_works_with(
    login_url: str, source_db: str, control_db: str
) -> None:
    """A type `text` of a writer's own would run its checks with the rights of who installed the triggers; a table
    `pg_attribute` of its own would say what recorded rows mean."""
    with connected(source_db) as owner:
        owner.execute("CREATE SCHEMA hidden CREATE TABLE secrets (told text)")
        with recording(source_db, control_db), connected(login_url) as connection:
            connection.execute(
                "CREATE FUNCTION pg_temp.spy(given pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS "
                "$$ BEGIN INSERT INTO hidden.secrets VALUES (current_user); RETURN true; END $$"
            )
            for name in ("text", "name", "oid", "int4", "int8"):
                base, domain = sql.Identifier("pg_catalog", name), sql.Identifier("pg_temp", name)
                check = sql.SQL("CHECK (pg_temp.spy(VALUE::pg_catalog.text))")
                connection.execute(sql.SQL("CREATE DOMAIN {} AS {} {}").format(domain, base, check))
            connection.execute(
                "CREATE TEMP TABLE pg_attribute AS "
                "SELECT attrelid, attnum, attname, atttypid, atttypmod, attgenerated, attisdropped "
                "FROM pg_catalog.pg_attribute LIMIT 0"
            )
            insert(connection, 1)
            (entry,) = changes(control_db, 1)
            assert entry["after"] == {"id": "1", "note": "x"}
            assert owner.execute("SELECT * FROM hidden.secrets").fetchall() == []
