"""Reads the rows of databases inside one process."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.base import Chunk, Scan, TableReader
from connectors.memory_store import MemoryDatabase, Table
from worker_sync.core.change import TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row


class MemoryChunk(Chunk):
    def __init__(self, rows: list[Row], horizon: str, done: bool, unseen: frozenset[str]) -> None:
        self.rows = rows
        self.horizon = horizon
        self.done = done
        self._unseen = unseen

    def part(self, rows: list[Row], *, done: bool) -> MemoryChunk:
        """Some rows of the same snapshot."""
        return MemoryChunk(rows, self.horizon, done, self._unseen)

    def sees(self, info: TransactionInfo) -> bool:
        return info.commit <= self.horizon and info.commit not in self._unseen


class MemoryScan(Scan):
    """Parts of one chunk of all rows."""

    def __init__(self, whole: MemoryChunk, limit: int) -> None:
        self._whole = whole
        self._limit = limit
        self._at = 0

    def chunk(self) -> Chunk:
        rows = self._whole.rows[self._at : self._at + self._limit]
        self._at += self._limit
        return self._whole.part(rows, done=self._at > len(self._whole.rows))

    def close(self) -> None:
        """Nothing is held."""


class MemoryReader(TableReader):
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def close(self) -> None:
        """Nothing is held."""

    def schema(self, table: TableName) -> TableSchema | None:
        with self._database.changed:
            found = self._database.tables.get(table)
            return None if found is None else found.schema

    def chunk(self, table: TableSchema, after: Key | None, limit: int) -> Chunk:
        with self._database.changed:
            found = self._found(table.table)
            keys = sorted(key for key in found.rows if after is None or key > after)
            return self._chunk(table, found, keys[:limit], len(keys) <= limit)

    def rows(self, table: TableSchema, keys: Sequence[Key]) -> Chunk:
        with self._database.changed:
            found = self._found(table.table)
            return self._chunk(table, found, [key for key in dict.fromkeys(keys) if key in found.rows], True)

    def scan(self, table: TableSchema, limit: int) -> Scan:
        with self._database.changed:
            found = self._found(table.table)
            return MemoryScan(self._chunk(table, found, list(found.rows), True), limit)

    def count(self, table: TableSchema) -> int:
        with self._database.changed:
            return len(self._found(table.table).rows)

    def _found(self, name: TableName) -> Table:
        found = self._database.tables.get(name)
        if found is None:
            raise Halt(State.SCHEMA_MISMATCH, f"there is no table {name}", f"create table {name}")
        return found

    def _chunk(self, table: TableSchema, found: Table, keys: list[Key], done: bool) -> MemoryChunk:
        order = found.indexes(table.column_names)
        rows = [tuple(found.rows[key][index] for index in order) for key in keys]
        return MemoryChunk(rows, self._database.head, done, self._database.unseen)
