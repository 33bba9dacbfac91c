"""Connections to PostgreSQL on a network that loses servers."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from connectors.postgres.conn import connect
from tests.fixtures.fix_proxy import ProxyTo
from worker_sync.core.secrets import Url
from worker_sync.libpq import PatientConnection
from worker_sync.store.connection import Connection


def options(url: str, *, replication: bool = False) -> tuple[int, int, int]:
    """Seconds of silence until the system asks whether the server lives, milliseconds until it gives up on what was
    sent, and whether it asks at all."""
    with connect(url, replication=replication) as connection, socket.socket(fileno=os.dup(connection.fileno())) as same:
        return (
            same.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            same.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        )


def test_a_server_that_vanishes_without_a_word_is_noticed(source_db: str) -> None:
    assert options(source_db) == (10, 30_000, 1)
    assert options(source_db, replication=True) == (10, 30_000, 1)


def test_the_url_may_say_otherwise(source_db: str) -> None:
    joined = "&" if "?" in source_db else "?"
    assert options(f"{source_db}{joined}keepalives_idle=60&tcp_user_timeout=90000") == (60, 90_000, 1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientConnection, "silent_s", 1.0)


@pytest.mark.usefixtures("impatient")
def test_a_line_that_died_in_silence_is_given_up_while_a_slow_answer_is_awaited(
    source_db: str, proxy_to: ProxyTo
) -> None:
    door = proxy_to(source_db)
    connection = connect(door.url)
    assert connection.execute("SELECT pg_sleep(3)").fetchone() == ("",)
    door.forget()
    with pytest.raises(psycopg.OperationalError, match="nothing was heard of the server for 1 s"):
        connection.execute("SELECT 1")
    assert connection.closed


@pytest.mark.usefixtures("impatient")
def test_a_line_is_given_up_when_the_server_can_not_be_asked_either(source_db: str, proxy_to: ProxyTo) -> None:
    door = proxy_to(f"{source_db}{'&' if '?' in source_db else '?'}connect_timeout=2")
    connection = connect(door.url)
    door.stall()
    with pytest.raises(psycopg.OperationalError, match="nothing was heard"):
        connection.execute("SELECT 1")


@pytest.mark.usefixtures("impatient")
def test_who_waits_for_a_lock_is_not_given_up(source_db: str) -> None:
    with connect(source_db) as holder, connect(source_db) as waiter:
        holder.execute("SELECT pg_advisory_lock(7)")
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(waiter.execute, "SELECT pg_advisory_lock(7)")
            with pytest.raises(TimeoutError):
                waiting.result(3)
            holder.execute("SELECT pg_advisory_unlock(7)")
            waiting.result(10)


def test_the_control_store_is_asked_again_over_a_new_line(target_db: str, proxy_to: ProxyTo) -> None:
    door = proxy_to(target_db)
    store = Connection(Url(door.url))
    try:
        assert store.run("has_migrations") != []
        door.forget()
        assert store.run("has_migrations") != []
    finally:
        store.close()
