"""Connections to PostgreSQL on a network that loses servers."""

from __future__ import annotations

import os
import socket

from connectors.postgres.conn import connect


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
