"""Databases that refuse for a while: the system waits, loses nothing, and goes on by itself."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pymysql
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.faults.harness import execute, marks_in, running_system
from tests.faults.load import Load
from tests.faults.mixed import IDS
from tests.faults.world import PATIENCE_S, Route, World, running_world
from tests.fixtures import fix_mysql
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_proxy import ProxyTo
from tests.fixtures.servers import server_directory, with_database
from tests.fixtures.standby import copied
from worker_sync.core.position import Position
from worker_sync.embedded import EmbeddedPostgres
from worker_sync.store import ControlStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Who applies to the targets: without the rights of a superuser, whom no limit holds.
ROLE, PASSWORD = "ws_limited", "limited"


def as_limited(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{ROLE}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}"))


@pytest.fixture
def limited(
    postgres: str, mariadb: str, mongo_target: str, control_db: str, redis_url: str, tmp_path: Path
) -> Iterator[World]:
    """PostgreSQL into all three engines, by users whom the server's limits hold."""
    with (
        new_database(postgres, "source") as source,
        new_database(postgres, "reporting") as reporting,
        fix_mysql.new_mysql_database(mariadb, "mirror") as mirror,
        contextlib.ExitStack() as stack,
    ):
        execute(postgres, f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        stack.callback(execute, postgres, f"DROP ROLE {ROLE}")
        stack.callback(execute, postgres, f"ALTER DATABASE {name_of(reporting)} OWNER TO CURRENT_USER")
        stack.callback(execute, reporting, f"REASSIGN OWNED BY {ROLE} TO CURRENT_USER", f"DROP OWNED BY {ROLE}")
        execute(postgres, f"ALTER DATABASE {name_of(reporting)} OWNER TO {ROLE}")
        fix_mysql.run(
            mariadb,
            f"CREATE USER {ROLE} IDENTIFIED BY '{PASSWORD}'",
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, CREATE TEMPORARY TABLES "
            f"ON {name_of(mirror)}.* TO {ROLE}",
        )
        stack.callback(fix_mysql.run, mariadb, f"DROP USER {ROLE}")
        routes = [
            Route("source", "reporting", reporting, as_limited(reporting)),
            Route("source", "mirror", mirror, as_limited(mirror)),
            Route("source", "catalog", mongo_target),
        ]
        with running_world(tmp_path, {"source": source}, routes, control_db, redis_url) as made:
            execute(reporting, f"ALTER TABLE items OWNER TO {ROLE}", f"GRANT ALL ON SCHEMA public TO {ROLE}")
            yield made
            made.close()  # before its role goes


def name_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def start(world: World) -> None:
    world.captures()
    world.start("worker", "--queues", "sync,audit", "--grace", "1")
    world.await_loaded()
    world.await_news()


def end_sessions(url: str) -> None:
    """Whoever works in this database has to come in again, and finds its new settings."""
    own = f"datname = '{name_of(url)}' AND pid <> pg_backend_pid() AND usename = '{ROLE}'"
    execute(with_database(url, "postgres"), f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}")


def end_mysql_sessions(url: str) -> None:
    for (session,) in fix_mysql.run(url, f"SELECT id FROM information_schema.processlist WHERE user = '{ROLE}'"):
        with contextlib.suppress(pymysql.Error):  # it may have ended meanwhile
            fix_mysql.run(url, f"KILL {session}")


@contextlib.contextmanager
def postgres_set(url: str, do: str, undo: str) -> Iterator[None]:
    """A setting that holds for new sessions, and none but new sessions."""
    server = with_database(url, "postgres")
    execute(server, do.format(database=name_of(url), role=ROLE))
    end_sessions(url)
    try:
        yield
    finally:
        execute(server, undo.format(database=name_of(url), role=ROLE))
        end_sessions(url)


@contextlib.contextmanager
def mariadb_set(url: str, do: str, undo: str) -> Iterator[None]:
    fix_mysql.run(url, do.format(role=ROLE))
    end_mysql_sessions(url)
    try:
        yield
    finally:
        fix_mysql.run(url, undo.format(role=ROLE))
        end_mysql_sessions(url)


def await_complaints(world: World, words: str) -> None:
    """Somebody met it and means to try again."""
    seen = [len(role.text()) for role in world.roles]

    def met() -> bool:
        news = [role.text()[start:] for role, start in zip(world.roles, seen, strict=True)]
        return any(words in line and "retry" in line for text in news for line in text.splitlines())

    world.until(met, f"somebody is told {words!r} and will try again", PATIENCE_S)


POSTGRES = {
    "read-only": (
        "ALTER DATABASE {database} SET default_transaction_read_only = on",
        "ALTER DATABASE {database} RESET default_transaction_read_only",
        "read-only transaction",
    ),
    "out of connections": (
        "ALTER ROLE {role} CONNECTION LIMIT 0",
        "ALTER ROLE {role} CONNECTION LIMIT -1",
        "too many connections",
    ),
    "statement timeout": (
        "ALTER DATABASE {database} SET statement_timeout = '1ms'",
        "ALTER DATABASE {database} RESET statement_timeout",
        "statement timeout",
    ),
}
MARIADB = {
    "read-only": ("SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF", "read-only"),
    "out of connections": (
        "ALTER USER {role} WITH MAX_USER_CONNECTIONS 1",
        "ALTER USER {role} WITH MAX_USER_CONNECTIONS 0",
        "max_user_connections",
    ),
    "statement timeout": (
        "ALTER USER {role} WITH MAX_STATEMENT_TIME 0.0001",
        "ALTER USER {role} WITH MAX_STATEMENT_TIME 0",
        "max_statement_time",
    ),
}


def test_targets_that_refuse_for_a_while_are_waited_for(limited: World) -> None:
    """Read-only, out of connections, statements that time out, a primary that steps down: one after the other."""
    with limited.traffic():
        start(limited)
        for do, undo, words in POSTGRES.values():
            with postgres_set(limited.targets["reporting"], do, undo):
                await_complaints(limited, words)
            limited.await_news()
        for do, undo, words in MARIADB.values():
            with mariadb_set(limited.targets["mirror"], do, undo):
                await_complaints(limited, words)
            limited.await_news()
        step_down(limited.targets["catalog"])
        limited.await_news()
    limited.assert_same()
    assert_nothing_halted(limited)


def step_down(url: str) -> None:
    """The only member of its set gives up being primary for a while."""
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=20_000) as client:
        with contextlib.suppress(PyMongoError):  # some versions hang up on whoever asks
            client.admin.command({"replSetStepDown": 3, "force": True})
        eventually(lambda: client.admin.command("hello").get("isWritablePrimary"), 60, "MongoDB is primary again")


def assert_nothing_halted(world: World) -> None:
    states = {name: world.status(name)["state"] for name in world.targets}
    assert set(states.values()) == {"running"}, states


class Quarrel:
    """An application that locks rows of a target, some at a time and in any order; it changes nothing."""

    def __init__(self, url: str, lock: str) -> None:
        self._url, self._lock = url, lock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        rand = random.Random(1)
        while not self._stop.wait(0.02):
            with contextlib.suppress(psycopg.OperationalError, pymysql.OperationalError):  # it may be the victim
                self._quarrel(rand)

    def _quarrel(self, rand: random.Random) -> None:
        keys = rand.sample(range(IDS), 30)
        if self._url.startswith("postgresql"):
            with psycopg.connect(self._url) as connection:
                for key in keys:
                    connection.execute(self._lock.encode(), (key,))
                connection.rollback()
            return
        with fix_mysql.connect(self._url) as other, other.cursor() as cursor:
            cursor.execute("BEGIN")
            for key in keys:
                cursor.execute(self._lock, (key,))
            cursor.execute("ROLLBACK")


DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
MARIADB_DEADLOCKS = (
    "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'innodb_deadlocks'"
)


@pytest.mark.long
def test_deadlocks_with_an_application_in_the_target_cost_only_time(limited: World) -> None:
    reporting, mirror = limited.targets["reporting"], limited.targets["mirror"]

    def deadlocks() -> tuple[int, int]:
        return int(execute(reporting, DEADLOCKS)[0][0]), int(fix_mysql.run(mirror, MARIADB_DEADLOCKS)[0][0])

    lock = "SELECT 1 FROM items WHERE id = %s FOR UPDATE"
    before = deadlocks()
    with limited.traffic():
        start(limited)
        with Quarrel(reporting, lock), Quarrel(mirror, lock):
            limited.until(
                lambda: all(now > then for now, then in zip(deadlocks(), before, strict=True)),
                "both targets had deadlocks",
                PATIENCE_S,
            )
            limited.await_news()
    limited.assert_same()
    assert_nothing_halted(limited)


LOCK_TIMEOUT = (
    "ALTER DATABASE {database} SET lock_timeout = '20ms'",
    "ALTER DATABASE {database} RESET lock_timeout",
)


@pytest.mark.long
def test_a_lock_that_is_not_given_in_time_is_asked_for_again(limited: World) -> None:
    reporting = limited.targets["reporting"]
    with limited.traffic():
        start(limited)
        with postgres_set(reporting, *LOCK_TIMEOUT), psycopg.connect(reporting) as holder:
            holder.execute("LOCK TABLE items IN EXCLUSIVE MODE")
            await_complaints(limited, "lock timeout")
            holder.rollback()
            limited.await_news()
    limited.assert_same()
    assert_nothing_halted(limited)


def test_a_target_that_takes_a_right_away_stops_its_own_pipeline_alone(limited: World) -> None:
    reporting = limited.targets["reporting"]
    with limited.traffic():
        start(limited)
        execute(reporting, f"REVOKE ALL ON worker_sync.watermarks FROM {ROLE}")
        limited.until(lambda: limited.status("reporting")["state"] == "halted", "it is noticed", PATIENCE_S)
        status = limited.status("reporting")
        assert status["reason"] == "preflight-failed", status
        others = [witness for witness in limited.witnesses if witness.name != "reporting"]
        goal = limited.origins["source"].steps() + 1
        limited.until(lambda: all(witness.last_step >= goal for witness in others), "the others go on", PATIENCE_S)
        execute(reporting, f"GRANT ALL ON worker_sync.watermarks TO {ROLE}")
        limited.recover(status["recovery"])
        limited.await_news()
    limited.assert_same()
    assert_nothing_halted(limited)


# -- a full disk


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of a few megabytes."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    with server_directory("disk") as directory:
        where = directory / "small"
        where.mkdir()
        command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "tmpfs", where]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this machine lets nobody mount a file system")
        try:
            yield where
        finally:
            subprocess.run(["umount", "--lazy", where], check=True)


def test_a_target_whose_disk_is_full_is_waited_for(
    small_disk: Path, tables: str, own_postgres: EmbeddedPostgres, control_db: str, redis_url: str, tmp_path: Path
) -> None:
    target = own_postgres.url
    space = small_disk / "space"
    space.mkdir()
    data = own_postgres.directory / "data"
    os.chown(space, data.stat().st_uid, data.stat().st_gid)
    execute(
        target,
        f"CREATE TABLESPACE small LOCATION '{space}'",
        f"ALTER DATABASE {name_of(target)} SET default_tablespace = 'small'",
    )
    with running_system(tmp_path, tables, {"reporting": target}, control_db, redis_url) as system:
        with Load(tables):
            system.capture()
            worker = system.worker()
            system.await_progress(50, 90)
            filler = small_disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(65536))
            system.until(lambda: "No space left" in worker.text(), "the target's disk is full", 90)
            filler.unlink()
            system.await_progress(50, 90)
        system.assert_same()
        assert system.status("reporting")["state"] == "running"


# -- failed over


def saved(store: ControlStore) -> Position:
    """Where the target stands, as the control store has it."""
    checkpoint = store.checkpoints.load("source")
    return Position.parse(checkpoint.lanes["reporting/0"]) if checkpoint else Position("")


def test_a_target_that_failed_over_to_a_copy_that_lags_is_named_and_heals(
    tables: str, own_postgres: EmbeddedPostgres, control_db: str, redis_url: str, proxy_to: ProxyTo, tmp_path: Path
) -> None:
    door = proxy_to(own_postgres.url)
    with contextlib.ExitStack() as stack:
        targets = {"reporting": door.url}
        system = stack.enter_context(running_system(tmp_path, tables, targets, control_db, redis_url))
        with Load(tables):
            capture = system.capture()
            system.worker()
            system.until(system.loaded, "the empty tables are copied", 90)
            system.await_progress(50, 90)
            standby = stack.enter_context(copied(own_postgres))
            stack.callback(system.close)
            [mark] = marks_in(door.url, "reporting")
            with ControlStore(control_db) as store:
                system.until(lambda: saved(store) > mark.position, "the copy lacks what is confirmed", 90)
            standby.start()
            door.lead_to(standby.url)
            system.until(lambda: capture.process.poll() is not None, "the capture says what happened", 90)
            status = system.status("reporting")
            assert (status["state"], status["reason"]) == ("halted", "position-lost"), status
            system.recover(status["recovery"])
            system.capture()
            system.await_progress(50, 90)
        system.assert_same()
