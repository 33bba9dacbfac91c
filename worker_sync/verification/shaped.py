"""The source's rows as they travel, for a comparison with what arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.base import Chunk, Scan, TableReader
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.shape import Shape, Shaper
from worker_sync.core.values import Key, Row


@dataclass(frozen=True, slots=True)
class Shaping:
    """A source table with all its columns, and the shape of what travels of it."""

    source: TableSchema
    shape: Shape


@dataclass(frozen=True, slots=True)
class _View:
    """How the rows of one requested table are read: the source's columns, and what is made of them."""

    source: TableSchema
    shaper: Shaper
    #: Where the requested columns stand in what the shaper makes.
    places: tuple[int, ...]

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        made = [shaped for row in rows if (shaped := self.shaper.row(row)) is not None]
        return [tuple([row[place] for place in self.places]) for row in made]


class _ShapedScan(Scan):
    """All rows of a table without a key, as they travel."""

    def __init__(self, scan: Scan, view: _View) -> None:
        self._scan = scan
        self._view = view

    def close(self) -> None:
        self._scan.close()

    def chunk(self) -> Chunk:
        chunk = self._scan.chunk()
        chunk.rows = self._view.rows(chunk.rows)
        return chunk


class ShapedReader(TableReader):
    """Gives the rows of the tables in `shapings` as they travel, those of other tables as they are. What a request
    calls columns are the target's names. Closes the reader that it was given."""

    def __init__(self, reader: TableReader, shapings: Mapping[TableName, Shaping]) -> None:
        self._reader = reader
        self._shapings = shapings
        self._views: dict[TableSchema, _View | None] = {}
        #: The last row of a chunk that belongs to the pipeline is not where the next chunk begins.
        self._resume: tuple[TableName, Key, Key] | None = None

    def close(self) -> None:
        self._reader.close()

    def schema(self, table: TableName) -> TableSchema | None:
        return self._reader.schema(table)

    def count(self, table: TableSchema) -> int:
        view = self._view(table)
        return self._reader.count(table if view is None else view.source)

    def rows(self, table: TableSchema, keys: Sequence[Key]) -> Chunk:
        view = self._view(table)
        if view is None:
            return self._reader.rows(table, keys)
        chunk = self._reader.rows(view.source, keys)
        chunk.rows = view.rows(chunk.rows)
        return chunk

    def chunk(self, table: TableSchema, after: Key | None, limit: int) -> Chunk:
        """A chunk without rows is the last one."""
        view = self._view(table)
        if view is None:
            return self._reader.chunk(table, after, limit)
        if self._resume is not None and self._resume[:2] == (table.table, after):
            after = self._resume[2]
        while True:
            chunk = self._reader.chunk(view.source, after, limit)
            if chunk.rows:
                after = tuple([chunk.rows[-1][index] for index in view.source.key_indexes])
            chunk.rows = view.rows(chunk.rows)
            if chunk.rows or chunk.done:
                break
        if chunk.rows and after is not None:
            last = tuple([chunk.rows[-1][index] for index in table.key_indexes])
            self._resume = table.table, last, after
        return chunk

    def scan(self, table: TableSchema, limit: int) -> Scan:
        view = self._view(table)
        if view is None:
            return self._reader.scan(table, limit)
        return _ShapedScan(self._reader.scan(view.source, limit), view)

    def _view(self, table: TableSchema) -> _View | None:
        if table not in self._views:
            shaping = self._shapings.get(table.table)
            self._views[table] = None if shaping is None else _viewed(shaping, table)
        return self._views[table]


def _viewed(shaping: Shaping, table: TableSchema) -> _View | None:
    whole = shaping.shape.compile(shaping.source)
    if whole is None:
        return None
    names = dict(zip(whole.table.column_names, whole.origins, strict=True))
    source, shape = shaping.shape.reading(shaping.source, [names[name] for name in table.column_names])
    shaper = shape.compile(source)
    assert shaper is not None
    places = [shaper.table.column_names.index(name) for name in table.column_names]
    return _View(source, shaper, tuple(places))
