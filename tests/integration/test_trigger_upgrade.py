"""Audit triggers of an earlier version: a capture says what to run, and that loses nothing of what is recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from connectors.postgres.triggers import installed
from connectors.postgres.triggers.install import Installer, Step
from connectors.postgres.triggers.names import VERSION
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.test_audit import changes
from tests.integration.test_audit_triggers import TRAIL, install, recording
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName
from worker_sync.store.pipelines import Status

Connection = psycopg.Connection

ORDERS = TableName("public", "orders")
FRESH = TableName("public", "fresh")
VERSION_1 = Path(__file__).with_name("audit_triggers_v1.sql")
#: What version 1 did not have.
_LATER = """
ALTER TABLE worker_sync_audit.changes DROP COLUMN usename, DROP COLUMN role, DROP COLUMN application_name,
    DROP COLUMN client_addr
"""
_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'worker_sync_audit.changes'::regclass"


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


@pytest.fixture
def owner(source_db: str) -> Iterator[Connection]:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY)")
        yield connection


def set_back(connection: Connection) -> None:
    """To what version 1 installed, which is all that its captures left behind."""
    with connection.transaction():
        connection.execute(_LATER)
        connection.execute(VERSION_1.read_bytes())


def write(url: str, numbers: range, done: list[int], stop: threading.Event) -> None:
    """Transactions of one and of three changes, in tables whose definitions change: each needs a new layout."""
    table = f"busy_{numbers.start}"
    with psycopg.connect(url, autocommit=True) as connection:
        for turn, number in enumerate(numbers[::4]):
            if stop.is_set():
                return
            connection.execute("INSERT INTO orders VALUES (%s)", [number])
            done.append(number)
            with connection.transaction():
                connection.execute("INSERT INTO orders VALUES (%s), (%s)", [number + 1, number + 2])
                connection.execute(f"INSERT INTO {table} (id) VALUES (%s)", [number])
            done += [number + 1, number + 2]
            if turn % 5 == 0:
                connection.execute(f"ALTER TABLE {table} ALTER COLUMN n TYPE {'text' if turn % 2 else 'varchar'}")


@contextmanager
def writing(url: str, writers: int = 3) -> Iterator[list[int]]:
    """Writers that run meanwhile; the orders that they have committed."""
    done: list[int] = []
    stop = threading.Event()
    ranges = [range(base, base + 900_000) for base in range(1_000_000, (writers + 1) * 1_000_000, 1_000_000)]
    threads = [threading.Thread(target=write, args=(url, numbers, done, stop)) for numbers in ranges]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def grown(done: list[int], more: int = 60) -> Callable[[], bool]:
    before = len(done)
    return lambda: len(done) >= before + more


def test_an_upgrade_under_writers_loses_nothing_that_is_recorded_and_not_read(
    owner: Connection, source_db: str, control_db: str
) -> None:
    for base in (1, 2, 3):
        owner.execute(f"CREATE TABLE busy_{base}000000 (id bigint, n text)")
    with recording(source_db, control_db) as running:
        running.stop()
        set_back(owner)
        with writing(source_db) as done:
            eventually(grown(done), 60, "changes are recorded by the old version")
            running.start()
            pipelines = running.store.pipelines
            eventually(lambda: pipelines.get(TRAIL).status is Status.HALTED, 60, "the trail halts")
            standing = pipelines.get(TRAIL)
            assert (standing.reason, "have version 1" in standing.detail) == (State.PREFLIGHT_FAILED, True)
            assert "worker-sync audit triggers install source" in standing.recovery
            eventually(grown(done), 60, "they are while nobody reads, too")
            install(running.settings)
            eventually(grown(done), 60, "changes are recorded by the new version")
            pipelines.resume(TRAIL)
            running.start()
            eventually(grown(done), 60, "while they are read, too")
        orders = [int(number) for (number,) in owner.execute("SELECT id FROM orders")]
        count = len(orders) + sum(
            int(row[0]) for base in (1, 2, 3) for row in owner.execute(f"SELECT count(*) FROM busy_{base}000000")
        )
        found = changes(control_db, count)
    assert sorted(orders) == sorted(done)
    recorded = [int(entry["key"]["id"]) for entry in found if entry["table"] == "public.orders"]
    assert sorted(recorded) == sorted(orders)
    assert len(found) == count
    for base in (1, 2, 3):
        own = [number for number in recorded if number // 1_000_000 == base]
        assert own == sorted(own)
    # Once a writer has met the upgrade, its session is known.
    for base in (1, 2, 3):
        known = ["session" in entry for entry in found if entry["after"]["id"].startswith(str(base))]
        assert known == sorted(known)
        assert set(known) == {False, True}


def test_an_upgrade_waits_for_a_writer_and_holds_up_others_only_for_a_moment(owner: Connection, source_db: str) -> None:
    with (
        Installer(source_db) as installer,
        psycopg.connect(source_db) as slow,
        psycopg.connect(source_db, autocommit=True) as quick,
    ):
        owner.execute("CREATE TABLE fresh (id int)")
        for step in installer.install_steps([ORDERS, FRESH]):
            installer.run(step)
        set_back(owner)
        owner.execute("INSERT INTO orders VALUES (0)")
        slow.execute("INSERT INTO orders VALUES (1)")
        (step,) = installer.install_steps([ORDERS, FRESH])
        refused: list[Halt] = []
        upgrade = threading.Thread(target=lambda: refused.append(halted(installer, step)))
        upgrade.start()
        eventually(lambda: owner.execute(_WAITS).fetchone() == (1,), 30, "the upgrade waits for the writer")
        # What it holds already must not be what the writer that it waits for still needs: a new layout.
        slow.execute("SET LOCAL lock_timeout = '500ms'")
        slow.execute("INSERT INTO fresh VALUES (1)")
        quick.execute("INSERT INTO orders VALUES (2)")
        assert upgrade.is_alive()
        upgrade.join()
        assert "another transaction held the table" in refused[0].detail
        assert installed.version(owner) == 1
        slow.commit()
        installer.run(step)
        assert installed.version(owner) == VERSION
        assert installer.install_steps([ORDERS, FRESH]) == []
        for writer in (quick, slow):
            writer.execute("INSERT INTO orders SELECT max(id) + 1 FROM orders")
            writer.commit()
    found = owner.execute("SELECT new, usename IS NOT NULL FROM worker_sync_audit.changes ORDER BY id").fetchall()
    assert owner.execute("SELECT count(*) FROM worker_sync_audit.layouts").fetchone() == (2,)
    assert found == [("(0)", False), ("(1)", False), ("(1)", False), ("(2)", False), ("(3)", True), ("(4)", True)]


def halted(installer: Installer, step: Step) -> Halt:
    with pytest.raises(Halt) as caught:
        installer.run(step)
    return caught.value
