"""The connection over which a sink records, and over which a command changes something."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import Connection

from connectors.ledger.appender import SETTINGS
from connectors.postgres.conn import connect, redact
from connectors.postgres.errors import translated


class Session:
    """One connection to the ledger's database, opened on first use and again after it broke."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection[Any] | None = None

    def connection(self) -> Connection[Any]:
        """The open connection; opens it when there is none. Raises Unreachable, ConfigError."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._url, SETTINGS)
            self._connection.cursor_factory = psycopg.RawCursor
        return self._connection

    def close(self) -> None:
        """Close the connection, whatever its state; a transaction that was under way is undone."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


@contextlib.contextmanager
def transaction(url: str) -> Iterator[Connection[Any]]:
    """One transaction over a connection of its own, which is undone by any error. Raises Unreachable and Transient."""
    session = Session(url)
    try:
        with translated(redact(url)), session.connection().transaction():
            yield session.connection()
    finally:
        session.close()
