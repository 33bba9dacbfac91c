"""What can't go on stops in a named state, with an exit code, and the recovery that is printed is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from tests.faults.harness import TABLES, Done, System, execute, mongo, running_system
from tests.faults.load import fill
from tests.fixtures.fix_proxy import Proxy, ProxyTo
from tests.fixtures.running import Role
from worker_sync.embedded import EmbeddedPostgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 200
SLOT = "worker_sync_source"
DROP_SLOT = f"SELECT pg_drop_replication_slot('{SLOT}')"
END_SENDER = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"


@pytest.fixture
def simple(tables: str, target_db: str, control_db: str, redis_url: str, tmp_path: Path) -> Iterator[System]:
    """PostgreSQL into PostgreSQL."""
    with running_system(tmp_path, tables, {"reporting": target_db}, control_db, redis_url) as made:
        yield made


def start(system: System) -> Role:
    """A running, loaded system; its capture."""
    fill(system.source, ROWS)
    capture = system.capture()
    system.worker()
    system.until(system.loaded, "the snapshots are applied", 90)
    return capture


def ends(system: System, capture: Role) -> None:
    """The capture stops by itself with exit code 1."""
    system.until(lambda: capture.process.poll() is not None, "the capture ends", 60)
    assert capture.process.returncode == 1
    assert "Traceback" not in capture.text()


def halted(system: System, state: str, pipeline: str = "reporting") -> str:
    """The pipeline is said to be halted in this state; its recovery."""
    entry = system.status(pipeline)
    assert (entry["state"], entry["reason"]) == ("halted", state), entry
    recovery = str(entry["recovery"])
    assert pipeline in recovery
    waiting: Done = system.cli("wait", pipeline, "--timeout", "5")
    assert waiting.code == 1
    assert recovery in waiting.err
    return recovery


def one_of(recovery: str, command: str) -> str:
    """The command, which is one of those that the recovery names."""
    assert command in recovery
    return command


def write_some(url: str, first: int = 10_000) -> None:
    execute(
        url,
        f"INSERT INTO items SELECT n, 'new', n, repeat('y', 3000) FROM generate_series({first}, {first + 50}) n",
        "UPDATE items SET id = id + 5000, name = 'moved' WHERE id < 20",
        "DELETE FROM items WHERE id BETWEEN 30 AND 60",
    )


def heals(system: System, recovery: str) -> None:
    system.recover(recovery)
    system.capture()
    system.assert_same()
    assert system.status("reporting")["state"] == "running"


def test_a_slot_that_is_dropped_under_a_running_capture(simple: System) -> None:
    capture = start(simple)
    with psycopg.connect(simple.source, autocommit=True) as connection:

        def dropped() -> bool:
            connection.execute(END_SENDER)
            try:
                connection.execute(DROP_SLOT.encode())
            except psycopg.errors.ObjectInUse:
                return False
            return True

        simple.until(dropped, "the slot is dropped")
    write_some(simple.source)
    ends(simple, capture)
    heals(simple, halted(simple, "slot-missing"))


def test_a_slot_that_the_server_invalidated(
    own_postgres: EmbeddedPostgres, target_db: str, control_db: str, redis_url: str, tmp_path: Path
) -> None:
    source = own_postgres.url
    execute(source, TABLES, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    with running_system(tmp_path, source, {"reporting": target_db}, control_db, redis_url) as system:
        assert start(system).stop() == 0
        write_some(source)
        for _ in range(4):
            execute(source, "SELECT pg_logical_emit_message(false, 'x', 'x')", "SELECT pg_switch_wal()")
        execute(source, "CHECKPOINT")
        assert execute(source, "SELECT wal_status FROM pg_replication_slots") == [("lost",)]
        ends(system, system.capture())
        heals(system, halted(system, "slot-invalidated"))


@pytest.mark.parametrize("runs", [True, False], ids=["under a running capture", "while the capture is down"])
def test_a_table_out_of_the_publication_for_a_while(simple: System, runs: bool) -> None:
    capture = start(simple)
    if not runs:
        assert capture.stop() == 0
    execute(simple.source, f"ALTER PUBLICATION {SLOT} DROP TABLE items")
    write_some(simple.source)
    execute(simple.source, f"ALTER PUBLICATION {SLOT} ADD TABLE items")
    ends(simple, capture if runs else simple.capture())
    heals(simple, halted(simple, "slot-invalidated"))


def adopt(own: EmbeddedPostgres, url: str) -> str:
    """The same database, user and password on another server, as a restored copy has; its URL."""
    parts = urlsplit(url)
    name, user, password = parts.path[1:], str(parts.username), str(parts.password)
    found = execute(own.url, f"SELECT 1 FROM pg_roles WHERE rolname = '{user}'")
    with psycopg.connect(own.url, autocommit=True) as connection:
        verb = sql.SQL("ALTER" if found else "CREATE")
        role = sql.SQL("{} ROLE {} SUPERUSER LOGIN PASSWORD {}")
        connection.execute(role.format(verb, sql.Identifier(user), sql.Literal(password)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    own_parts = urlsplit(own.url)
    return parts._replace(netloc=f"{user}:{password}@127.0.0.1:{own_parts.port}").geturl()


@pytest.mark.parametrize("way_out", ["back", "anew"])
def test_another_server_behind_the_same_address(
    tables: str,
    target_db: str,
    control_db: str,
    redis_url: str,
    own_postgres: EmbeddedPostgres,
    proxy_to: ProxyTo,
    tmp_path: Path,
    way_out: str,
) -> None:
    door = proxy_to(tables)
    with running_system(tmp_path, door.url, {"reporting": target_db}, control_db, redis_url) as system:
        capture = start(system)
        other = adopt(own_postgres, tables)
        execute(other, TABLES, "INSERT INTO items VALUES (1, 'of the other', 1, 'x')")
        door.lead_to(other)
        ends(system, capture)
        recovery = halted(system, "identity-changed")
        assert execute(target_db, "SELECT count(*) FROM items") == [(ROWS,)]
        assert execute(other, "SELECT count(*) FROM pg_replication_slots") == [(0,)]
        assert execute(other, "SELECT count(*) FROM pg_publication") == [(0,)]
        if way_out == "back":
            door.lead_to(tables)
            write_some(tables)
            heals(system, one_of(recovery, "worker-sync resume reporting"))
        else:
            heals(system, recovery)
            assert execute(target_db, "SELECT name FROM items") == [("of the other",)]


class Garbling(Proxy):
    """While `armed`, every insert in the log stream is of a kind that nobody knows."""

    armed = False

    def passing(self, data: bytes) -> bytes:
        return re.sub(rb"(w.{24})I(?=.{4}N)", rb"\g<1>?", data, flags=re.DOTALL) if self.armed else data


def test_a_message_of_an_unknown_kind_in_the_log_stream(
    tables: str, target_db: str, control_db: str, redis_url: str, tmp_path: Path
) -> None:
    door = Garbling(tables)
    try:
        with running_system(tmp_path, door.url, {"reporting": target_db}, control_db, redis_url) as system:
            capture = start(system)
            door.armed = True
            write_some(tables)
            ends(system, capture)
            recovery = halted(system, "unknown-message")
            assert execute(target_db, "SELECT count(*) FROM items") == [(ROWS,)]
            door.armed = False  # as an upgrade does
            heals(system, recovery)
    finally:
        door.close()


def unrepresentable(system: System) -> Role:
    """An infinite date has reached MongoDB's pipeline; PostgreSQL's goes on."""
    system.change_pipeline("catalog", {"on_rejected": "halt"})
    execute(system.source, "ALTER TABLE items ADD day date")
    capture = start(system)
    execute(system.source, "UPDATE items SET day = 'infinity' WHERE id = 25")
    system.until(lambda: "halted" in "".join(role.text() for role in system.roles), "the pipeline is halted")
    write_some(system.source)
    return capture


def test_a_value_that_the_target_has_no_form_for_halts_its_pipeline_alone(system: System) -> None:
    capture = unrepresentable(system)
    recovery = halted(system, "unrepresentable-value", "catalog")
    assert system.cli("wait", "reporting", "--timeout", "60").code == 0
    assert execute(system.targets["reporting"], "SELECT id FROM items WHERE day = 'infinity'") == [(25,)]
    assert capture.process.poll() is None
    with mongo(system.targets["catalog"]) as database:
        assert database.items.find_one({"_id": 25})["day"] is None
    execute(system.source, "UPDATE items SET day = NULL WHERE id = 25")
    assert re.search(r"worker-sync resync catalog$", recovery)
    system.recover(recovery)
    system.assert_same()


def test_a_value_that_the_target_has_no_form_for_is_left_out_with_its_column(system: System) -> None:
    capture = unrepresentable(system)
    recovery = halted(system, "unrepresentable-value", "catalog")
    excluded = [{"name": "public.items", "columns": {"exclude": ["day"]}}, "public.tags"]
    system.change_pipeline("catalog", {"tables": excluded})
    assert capture.stop() == 0
    system.recover(one_of(recovery, "worker-sync resume catalog"))
    system.capture()
    system.assert_same()


REFUSALS = {
    "target-rejected": (
        "ALTER TABLE items ADD CONSTRAINT short CHECK (length(name) < 4)",
        "ALTER TABLE items DROP CONSTRAINT short",
    ),
    "schema-mismatch": ("ALTER TABLE items RENAME amount TO price", "ALTER TABLE items RENAME price TO amount"),
}


@pytest.mark.parametrize("state", REFUSALS)
def test_a_target_that_refuses_a_row_or_lacks_a_column(simple: System, state: str) -> None:
    simple.change_pipeline("reporting", {"on_rejected": "halt"})
    capture = start(simple)
    accident, remedy = REFUSALS[state]
    target = simple.targets["reporting"]
    execute(simple.source, "DELETE FROM items WHERE length(name) > 3")
    assert simple.cli("wait", "reporting").code == 0
    execute(target, accident)
    execute(simple.source, "INSERT INTO items VALUES (1000, 'too long', 1, 'secret text'), (1001, 'ok', 1, 'x')")
    ends(simple, capture)
    recovery = halted(simple, state)
    assert "secret text" not in "".join(role.text() for role in simple.roles)
    assert execute(target, "SELECT count(*) FROM items WHERE id >= 1000") == [(0,)]
    execute(target, remedy)
    heals(simple, recovery)
