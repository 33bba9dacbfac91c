"""PostgreSQL as a source: questions and set-up over short connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import ClassVar

from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.base import Finding, Source, Stream, StreamStatus, TableReader
from connectors.postgres import catalog, publication, slot, timelines
from connectors.postgres.conn import READ_SETTINGS, connect, redact
from connectors.postgres.errors import translated
from connectors.postgres.partitions import ended, partitions
from connectors.postgres.pgoutput import format_lsn
from connectors.postgres.preflight import check_source
from connectors.postgres.reader import PostgresReader
from connectors.postgres.stream import PostgresStream
from connectors.postgres.timelines import on_a_primary
from worker_sync.core.errors import Transient
from worker_sync.core.partitions import Partitions
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema


class PostgresSource(Source):
    """The database at `url`; slot and publication are named after `name`."""

    engine: ClassVar[str] = catalog.ENGINE
    home = "public"

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._where = redact(url)
        self._stream_name = slot.stream_name(name)
        self._timeline: int | None = None

    def identity(self) -> str:
        """The cluster's system identifier and the database's OID."""
        with self._connected() as conn:
            row = conn.execute(
                "SELECT system_identifier::text, d.oid::text FROM pg_control_system(), pg_database d "
                "WHERE d.datname = current_database()"
            ).fetchone()
        assert row is not None
        return f"{row[0]}/{row[1]}"

    def history(self) -> str:
        with self._connected() as conn:
            self._timeline = timelines.current(conn)
        return str(self._timeline)

    def shared(self, before: str, now: str) -> str:
        with translated(self._where):
            return timelines.shared(self._url, int(before), int(now))

    def now(self) -> datetime:
        with self._connected() as conn:
            return catalog.now(conn)

    def tables(self) -> list[TableSchema]:
        with self._connected() as conn:
            return [relation.schema for relation in catalog.all_relations(conn)]

    def fingerprint(self) -> str:
        with self._connected() as conn:
            return catalog.fingerprint(conn)

    def partitions(self, before: Mapping[TableName, Partitions]) -> dict[TableName, Partitions]:
        with self._connected() as conn:
            return partitions(conn, before)

    def ended(self) -> str:
        with self._connected() as conn:
            return ended(conn)

    def preflight(self, tables: Sequence[TableName]) -> list[Finding]:
        return check_source(self._url, self._stream_name, tables)

    def create_stream(self, tables: Sequence[TableName]) -> Position:
        with self._connected() as conn, slot.exclusive(conn, self._stream_name):
            return Position(slot.set_up(conn, self._stream_name, tables))

    def drop_stream(self) -> None:
        with self._connected() as conn, slot.exclusive(conn, self._stream_name):
            slot.tear_down(conn, self._stream_name)

    def stream_status(self, confirmed: str = "") -> StreamStatus:
        with self._connected() as conn:
            return slot.status(conn, self._stream_name)

    def curtailed(self) -> str:
        with self._connected() as conn:
            return publication.altered(conn, self._stream_name)

    def cut_off(self) -> None:
        with self._connected() as conn:
            slot.cut_off(conn, self._stream_name)

    def open_stream(self, start: str) -> Stream:
        self._require(start)
        stream = PostgresStream(self._url, self._stream_name, self._stream_name, start, self.remembered)
        try:
            if self._timeline not in (None, stream.timeline):
                raise Transient(f"{self._where}: another server, or one that was promoted, answers since a moment ago")
            # Only now that the slot is ours can nobody else move it; the first look gave the better message.
            stream.confirm(self._require(start).confirmed)
        except BaseException:
            stream.abandon()
            raise
        return stream

    def reader(self) -> TableReader:
        return PostgresReader(self._url)

    def emit(self, prefix: str, content: bytes) -> str:
        """See `Source.emit`. The position is the end of the message's record, which its commit record follows."""
        with self._connected() as conn:
            row = conn.execute(
                "SELECT (pg_logical_emit_message(true, %s, %s::bytea) - '0/0')::bigint", (prefix, content)
            ).fetchone()
        assert row is not None
        return format_lsn(row[0])

    def close(self) -> None:
        """Nothing is kept open."""

    def _require(self, start: str) -> StreamStatus:
        with self._connected() as conn:
            found = slot.status(conn, self._stream_name)
            slot.require_healthy(found, self._stream_name)
            slot.require_publication(conn, self._stream_name)
        slot.require_position(found, self._stream_name, start)
        return found

    @contextmanager
    def _connected(self) -> Iterator[Connection[TupleRow]]:
        with translated(self._where), connect(self._url, READ_SETTINGS) as conn, on_a_primary(conn, self._where):
            yield conn
