"""MongoDB as a source: a database whose collections are tables of whole documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from connectors.base import Finding, Source, Stream, StreamStatus, TableReader
from connectors.mongodb import registration
from connectors.mongodb.change_cursor import cut_off, readers
from connectors.mongodb.cluster import end_of_log, head, identity, is_sharded, log_left_s, now
from connectors.mongodb.collections import ENGINE, collection_schema, listed, obstacle
from connectors.mongodb.conn import open_database, redacted
from connectors.mongodb.errors import not_a_replica_set, translated
from connectors.mongodb.reader import MongoReader
from connectors.mongodb.registration import Registration
from connectors.mongodb.source_preflight import SHARDED, run_checks
from connectors.mongodb.stream import MongoStream
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema

_RESYNC = "worker-sync resync PIPELINE"


class MongoSource(Source):
    """The database that the URL's path names; its stream is registered there under `name`.

    Raises ConfigError for a URL without a database or that can't be used; connects on first use.
    """

    engine: ClassVar[str] = ENGINE
    home = ""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._where = redacted(url)
        self._database = open_database(url)

    def close(self) -> None:
        self._database.client.close()

    def identity(self) -> str:
        with translated(self._where):
            return identity(self._database, self._where)

    def now(self) -> datetime:
        with translated(self._where):
            return now(self._database)

    def tables(self) -> list[TableSchema]:
        """Views, time series and capped collections are left out: their changes are not in change streams."""
        with translated(self._where):
            return [collection_schema(name) for name, info in listed(self._database).items() if not obstacle(info)]

    def preflight(self, tables: Sequence[TableName]) -> list[Finding]:
        return run_checks(self._database, self._where, self.name, tables)

    def create_stream(self, tables: Sequence[TableName]) -> Position:
        with translated(self._where):
            self._require_replica_set()
            found = listed(self._database)
            for table in tables:
                _require_supported(table, found.get(table))
            return Position(registration.register(self._database, self.name, sorted(map(str, tables))).start)

    def drop_stream(self) -> None:
        with translated(self._where):
            registration.remove(self._database, self.name)

    def stream_status(self, confirmed: str = "") -> StreamStatus:
        """The server knows nothing of what is confirmed; whether it still has the log is found by `open_stream`."""
        with translated(self._where):
            found = registration.find(self._database, self.name)
            active = found is not None and bool(readers(self._database, self.name))
            left_s = log_left_s(self._database, confirmed or found.start) if found is not None else None
            return StreamStatus(found is not None, "", "", head(self._database), None, active, left_s=left_s)

    def cut_off(self) -> None:
        with translated(self._where):
            cut_off(self._database, self.name)

    def open_stream(self, start: str) -> Stream:
        with translated(self._where):
            found = self._require_registration()
            self._require_free(1)
            self._require_written(start)
        gone = sorted({str(schema.table) for schema in self.remembered}.difference(found.collections))
        stream = MongoStream(
            open_database(self._url), self._where, self.name, found, start or found.start, self.context_field, gone
        )
        try:
            with translated(self._where):
                # Two that looked at the same time see each other now.
                self._require_free(2)
        except BaseException:
            stream.close()
            raise
        return stream

    def reader(self) -> TableReader:
        return MongoReader(open_database(self._url), self._where)

    def emit(self, prefix: str, content: bytes) -> str:
        with translated(self._where):
            return registration.send(self._database, self.name, prefix, content)

    # What must hold

    def _require_replica_set(self) -> None:
        hello = self._database.command("hello")
        if is_sharded(hello):
            raise Halt(State.PREFLIGHT_FAILED, f"{self._where}: {SHARDED}", "use a replica set as the source")
        if "setName" not in hello:
            raise not_a_replica_set(self._where)

    def _require_registration(self) -> Registration:
        found = registration.find(self._database, self.name)
        if found is None:
            raise Halt(State.SLOT_MISSING, f"{self._where}: there is no stream {self.name}", _RESYNC)
        return found

    def _require_free(self, most: int) -> None:
        if len(readers(self._database, self.name)) >= most:
            raise Transient(f"{self._where}: another process is reading the stream {self.name}")

    def _require_written(self, start: str) -> None:
        """Raises Halt when the log ends before `start`: the server would wait until it comes there."""
        with self._database.client.start_session(causal_consistency=False) as session:
            end = end_of_log(self._database, session)
        if start > end:
            detail = f"{self._where}: the oplog ends at {end}, before {start} where streaming was to start"
            raise Halt(State.POSITION_LOST, detail, _RESYNC)


def _require_supported(table: TableName, info: Mapping[str, Any] | None) -> None:
    if info is None:
        raise Halt(State.SCHEMA_MISMATCH, f"collection {table} does not exist", "correct the tables in the config")
    if reason := obstacle(info):
        raise Halt(State.TABLE_UNSUPPORTED, f"{table} can't be captured: it is {reason}", "leave it out of the tables")
