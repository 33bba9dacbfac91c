"""Reads snapshot chunks from a thread of its own, so that a slow query never delays the stream."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from connectors.base import Chunk, Scan, TableReader
from worker_sync.capture.background import Background
from worker_sync.capture.overlay import ChunkRows
from worker_sync.capture.routing import Route, TargetOf
from worker_sync.core.errors import Halt, Permanent, State, Transient
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row


@dataclass(slots=True)
class TableLoad:
    """The snapshot of one table for one pipeline.

    First the rows in key order, then those of `again` by key, then (with `sweep`) the rows that the target has and
    the source has not. A table without key (`keyless`) is read in one scan instead, which is open while `scanning`.
    `signal` is the person's request that it serves.
    """

    name: TableName
    signal: int | None = None
    chunk: int = 0
    last_key: Key | None = None
    rows_read: bool = False
    sweep: bool = False
    swept_to: Key | None = None
    swept: bool = False
    again: deque[Key] = field(default_factory=deque)
    rows: int = 0
    estimate: int = 0
    keyless: bool = False
    scanning: bool = False


@dataclass(slots=True)
class Fetched:
    """A chunk on its way into the stream."""

    route: Route
    chunk: Chunk
    rows: ChunkRows
    #: The keys that were asked for, when rows were read by key.
    asked: list[Key] = field(default_factory=list)
    #: The last of the target's keys that were looked for.
    swept_to: Key | None = None


class Fetcher(Background):
    """Serves one request at a time; the answer (or the error) waits in `take`.

    `nudge` writes something into the source's log: an idle source would keep the stream from ever passing the
    chunk's horizon.
    """

    def __init__(
        self,
        source: Callable[[], TableReader],
        target: Callable[[], TableReader],
        target_of: TargetOf,
        limit: int,
        nudge: Callable[[], object],
    ) -> None:
        super().__init__("fetcher")
        self._nudge = nudge
        self._open_source, self._open_target = source, target
        self._target_of = target_of
        self._limit = limit
        self._requests: queue.SimpleQueue[TableLoad | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Fetched] = queue.SimpleQueue()
        self._readers: dict[str, TableReader] = {}
        self._scan: tuple[Route, Scan] | None = None

    def request(self, load: TableLoad) -> None:
        """Ask for the next chunk of a table, whose `load` is left alone until the answer is taken."""
        self._requests.put(load)

    def take(self) -> Fetched | None:
        """The answer, or None while it is not there. Raises what reading raised."""
        self.check()
        try:
            return self._answers.get_nowait()
        except queue.Empty:
            return None

    def wake(self) -> None:
        self._requests.put(None)

    def work(self) -> None:
        try:
            while (load := self._requests.get()) is not None and not self.stopping.is_set():
                fetched = self._fetch(load)
                self._nudge()
                self._answers.put(fetched)
        finally:
            self._close_scan()
            for reader in self._readers.values():
                reader.close()

    def _source(self) -> TableReader:
        if "source" not in self._readers:
            self._readers["source"] = self._open_source()
        return self._readers["source"]

    def _target(self) -> TableReader:
        if "target" not in self._readers:
            self._readers["target"] = self._open_target()
        return self._readers["target"]

    def _fetch(self, load: TableLoad) -> Fetched:
        """The next chunk, of the definition that the table had before and after it was read."""
        source = self._source()
        schema = source.schema(load.name)
        while True:
            try:
                fetched = self._read(source, load, schema)
            except (Halt, Permanent):
                if (now := source.schema(load.name)) == schema:
                    raise
            else:
                if (now := source.schema(load.name)) == schema:
                    return fetched
            if load.scanning:
                # What was read of the scan can't be read once more.
                raise Transient(f"the columns of {load.name} changed while it was being read")
            schema = now

    def _read(self, source: TableReader, load: TableLoad, schema: TableSchema | None) -> Fetched:
        route = None if schema is None else self._target_of(schema)
        if schema is None or route is None:
            recovery = "take it out of the pipeline, then worker-sync resume PIPELINE"
            raise Halt(State.SCHEMA_MISMATCH, f"table {load.name} is gone", recovery)
        if load.keyless == bool(schema.key):
            raise Transient(f"the key of {load.name} changed")
        if not load.estimate:
            load.estimate = source.count(schema)
        if load.keyless:
            return self._scanned(load, schema, route)
        if not load.rows_read:
            chunk = source.chunk(schema, load.last_key, self._limit)
            return Fetched(route, chunk, by_key(schema, chunk.rows))
        if load.again:
            keys = [load.again[index] for index in range(min(self._limit, len(load.again)))]
            chunk = source.rows(schema, keys)
            return Fetched(route, chunk, by_key(schema, chunk.rows), keys)
        return self._sweep(load, schema, route)

    def _scanned(self, load: TableLoad, schema: TableSchema, route: Route) -> Fetched:
        if self._scan is None or not load.scanning:
            self._close_scan()
            self._scan = route, self._source().scan(schema, self._limit)
            load.scanning = True
        of_scan, scan = self._scan
        chunk = scan.chunk()
        if chunk.done:
            self._close_scan()
        return Fetched(of_scan, chunk, {})

    def _close_scan(self) -> None:
        if self._scan is not None:
            self._scan[1].close()
            self._scan = None

    def _sweep(self, load: TableLoad, schema: TableSchema, route: Route) -> Fetched:
        found = self._target().chunk(route.target, load.swept_to, self._limit)
        indexes = route.target.key_indexes
        keys = [tuple([row[index] for index in indexes]) for row in found.rows]
        chunk = self._source().rows(schema, keys)
        existing = by_key(schema, [row for row in chunk.rows if route.carries(row)])
        chunk.done = found.done
        absent: ChunkRows = {key: None for key in keys if key not in existing}
        return Fetched(route, chunk, absent, swept_to=keys[-1] if keys else load.swept_to)


def by_key(schema: TableSchema, rows: list[Row]) -> ChunkRows:
    indexes = schema.key_indexes
    return {tuple([row[index] for index in indexes]): row for row in rows}
