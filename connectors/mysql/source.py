"""MySQL and MariaDB as a source: questions and set-up over short connections."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import ClassVar

from connectors.base import Finding, Source, Stream, StreamStatus, TableReader
from connectors.mysql import catalog, log, registration
from connectors.mysql.captured import Captured
from connectors.mysql.conn import Connection, close, connect, database_name, is_mariadb, parse_url, redact
from connectors.mysql.errors import translated
from connectors.mysql.position import RESYNC, LogPosition, parse_position
from connectors.mysql.reader import MysqlReader
from connectors.mysql.registration import Registered
from connectors.mysql.snapshots import LoggedSnapshots
from connectors.mysql.source_preflight import check_source, require_supported
from connectors.mysql.stream import MysqlStream
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema


class MysqlSource(Source):
    """The database that the URL names; its stream is called `name`."""

    engine: ClassVar[str] = catalog.ENGINE

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.home = database_name(url)
        self._url = url
        self._where = redact(url)
        self._lock = registration.lock_name(self.home, name)
        self._tables: frozenset[TableName] | None = None
        #: Files of the log whose time of creation was compared already, with that time.
        self._created: dict[int, int] = {}

    def identity(self) -> str:
        """The server's uuid and the database. MariaDB has none that stays: its server id, and once there is a stream
        the random id that the database's row holds."""
        with self._connected() as conn:
            if is_mariadb(conn):
                found = registration.find(conn, "")
                server = f"{log.variable(conn, 'server_id')}-{found.id if found else ''}"
            else:
                server = log.variable(conn, "server_uuid") or ""
        return f"{server}/{self.home}"

    def now(self) -> datetime:
        with self._connected() as conn:
            return catalog.server_time(conn)

    def tables(self) -> list[TableSchema]:
        with self._connected() as conn:
            found = catalog.load_tables(conn, self.home)
        schemas = [table.schema(self.home) for table in found if not table.name.startswith(catalog.OWN_PREFIX)]
        return sorted(schemas, key=lambda schema: schema.table)

    def preflight(self, tables: Sequence[TableName]) -> list[Finding]:
        return check_source(self._url, tables, self._server_id(None))

    def fingerprint(self) -> str:
        with self._connected() as conn:
            return catalog.fingerprint(conn)

    def create_stream(self, tables: Sequence[TableName]) -> Position:
        with self._connected() as conn:
            require_supported(conn, self.home, tables)
            registration.prepare(conn)
            found = registration.find(conn, self.name)
            if found is None:
                registration.register(conn, self.name, self._head(conn))
                found = registration.find(conn, self.name)
            assert found is not None
        self._tables = frozenset(tables)
        return Position(found.started)

    def drop_stream(self) -> None:
        with self._connected() as conn:
            if registration.holder(conn, self._lock) is not None:
                raise Transient(f"{self._where}: the stream is being read by another process: stop that capture first")
            registration.unregister(conn, self.name)

    def stream_status(self, confirmed: str = "") -> StreamStatus:
        with self._connected() as conn:
            found = registration.find(conn, self.name)
            end = log.head(conn)
            head = str(end) if end else ""
            if found is None:
                return StreamStatus(False, "", "", head, None)
            position = parse_position(confirmed or found.started)
            files = log.files(conn) if end else []
            lost = log.lost(files, position) or self._recreated(position)
            retained = None if lost else log.retained(files, position)
            active = registration.holder(conn, self._lock) is not None
            left_s = None if lost else self._left_s(conn, files, position)
        return StreamStatus(True, lost, "", head, retained, active, left_s=left_s)

    def _left_s(self, conn: Connection, files: list[log.LogFile], position: LogPosition) -> float | None:
        """Seconds until the server may purge the file of a position: it does so by the age of the file's end, which is
        where the next one begins. The file that is being written has all of the time before it."""
        kept_s = log.kept_s(conn)
        following = [file.number for file in files if file.number > position.file]
        if kept_s is None or not following:
            return kept_s
        first = min(following)
        if first not in self._created:
            self._created[first] = self._created_of(first)
        return max(0.0, self._created[first] + kept_s - log.clock(conn))

    def cut_off(self) -> None:
        with self._connected() as conn:
            session = registration.holder(conn, self._lock)
            if session is not None:
                registration.kill(conn, session, self._lock)

    def open_stream(self, start: str) -> Stream:
        with self._connected() as conn:
            found = self._require_registered(conn)
            position = parse_position(start or found.started)
            lost = log.lost(log.files(conn), position)
            if lost:
                raise Halt(State.POSITION_LOST, f"{self._where}: {lost}", RESYNC)
            base = log.base_name(conn)
            folds = log.variable(conn, "lower_case_table_names") != "0"
        captured = Captured(self._url, self._tables, folds=folds, gone=self._gone())
        return MysqlStream(self._url, self._lock, self._server_id(found), base, position, captured)

    def _gone(self) -> list[TableSchema]:
        """Those of the remembered tables that are not among those to deliver."""
        tables = self._tables
        return [] if tables is None else [schema for schema in self.remembered if schema.table not in tables]

    def reader(self) -> TableReader:
        return MysqlReader(self._url, LoggedSnapshots())

    def emit(self, prefix: str, content: bytes) -> str:
        """See `Source.emit`. The position is the end of the log before the message was written."""
        with self._connected() as conn:
            if registration.find(conn, "") is None:
                registration.prepare(conn)
            end = log.head(conn)
            registration.send(conn, prefix, content)
        return str(end) if end else ""

    def close(self) -> None:
        """Nothing is kept open."""

    def _require_registered(self, conn: Connection) -> Registered:
        found = registration.find(conn, self.name)
        if found is None:
            detail = f"{self._where}: table {registration.TABLE} has no stream {self.name!r}"
            raise Halt(State.SLOT_MISSING, detail, RESYNC)
        return found

    def _head(self, conn: Connection) -> str:
        """The end of the log, with the time of its file."""
        end = log.head(conn)
        if end is None:
            raise Halt(State.PREFLIGHT_FAILED, f"{self._where} writes no binary log", "worker-sync check")
        return str(end._replace(created=self._created_of(end.file)))

    def _created_of(self, file: int) -> int:
        with self._connected() as conn:
            return log.created(conn, log.base_name(conn), file, self._server_id(None))

    def _recreated(self, position: LogPosition) -> str:
        """Whether the file of a position was begun at another time than the position says."""
        if position.created is None:
            return ""
        if position.file not in self._created:
            self._created[position.file] = self._created_of(position.file)
        if self._created[position.file] == position.created:
            return ""
        return f"binary log file {position.file} was begun at another time: the log was reset, or is another server's"

    def _server_id(self, found: Registered | None) -> int:
        given = parse_url(self._url).options.get("server-id")
        if given is not None:
            return int(given)
        # Looks at the log are short and may meet each other: each has an id of its own.
        return (found or Registered(uuid.uuid4().hex, "")).server_id

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        conn = connect(self._url)
        try:
            with translated(self._where):
                yield conn
        finally:
            close(conn)
