"""Row events: the rows that one statement inserted, updated or deleted in one table.

Layout: table id (6), flags (2), in version 2 a length and extra data, number of columns, a bitmap of the columns in the
images (two for updates), then the images. MariaDB's compressed events pack what follows the bitmaps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from connectors.mysql.binlog import events
from connectors.mysql.binlog.compression import unpack_mariadb
from connectors.mysql.binlog.events import malformed
from connectors.mysql.binlog.json_diff import apply_diffs
from connectors.mysql.binlog.jsonb import json_text, json_tree, render
from connectors.mysql.binlog.numbers import length_encoded
from connectors.mysql.binlog.rows import ImageColumn, ReadRow, compile_reader
from worker_sync.core.change import Change, Op
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row, is_complete, merge

_HEADER_V1: Final = 8
#: Kinds of row events: operation, version 2, compressed.
KINDS: Final = {
    events.WRITE_ROWS_V1: (Op.INSERT, False, False),
    events.UPDATE_ROWS_V1: (Op.UPDATE, False, False),
    events.DELETE_ROWS_V1: (Op.DELETE, False, False),
    events.WRITE_ROWS: (Op.INSERT, True, False),
    events.UPDATE_ROWS: (Op.UPDATE, True, False),
    events.DELETE_ROWS: (Op.DELETE, True, False),
    events.PARTIAL_UPDATE_ROWS: (Op.UPDATE, True, False),
    events.WRITE_ROWS_COMPRESSED_V1: (Op.INSERT, False, True),
    events.UPDATE_ROWS_COMPRESSED_V1: (Op.UPDATE, False, True),
    events.DELETE_ROWS_COMPRESSED_V1: (Op.DELETE, False, True),
    events.WRITE_ROWS_COMPRESSED: (Op.INSERT, True, True),
    events.UPDATE_ROWS_COMPRESSED: (Op.UPDATE, True, True),
    events.DELETE_ROWS_COMPRESSED: (Op.DELETE, True, True),
}
_PARTIAL_JSON: Final = 1


class TableReader:
    """Reads the row events of one version of one table; `number` is its id in the stream's schemas.

    `columns` are those of the images, `json` the indexes of the JSON columns among them. `carries_messages`: its rows
    are messages, not changes.
    """

    carries_messages = False

    def __init__(self, number: int, schema: TableSchema, columns: Sequence[ImageColumn], json: Sequence[int]) -> None:
        self.number = number
        self.schema = schema
        self._columns = columns
        self._json = json
        self._bitmap = (len(columns) + 7) // 8
        self._whole = (1 << len(columns)) - 1
        self._readers: dict[tuple[int, bool], ReadRow] = {}
        self._key_of: Callable[[Row], Key] = _picker(schema.key_indexes)

    def read(self, kind: int, body: bytes, ordinal: int) -> list[Change]:
        """The changes of a row event, numbered from `ordinal`. Raises Halt for what can't be read."""
        operation, second, compressed = KINDS[kind]
        try:
            at = _HEADER_V1 + (int.from_bytes(body[8:10], "little") if second else 0)
            count, at = length_encoded(body, at)
            if count != len(self._columns):
                raise malformed(f"rows of {self.schema.table} with {count} columns instead of {len(self._columns)}")
            first, at = self._present(body, at)
            then, at = self._present(body, at) if operation is Op.UPDATE else (first, at)
            if compressed:
                body, at = unpack_mariadb(body[at:]), 0
            if operation is Op.INSERT:
                return self._inserts(body, at, first, ordinal)
            if operation is Op.DELETE:
                return self._deletes(body, at, first, ordinal)
            if kind == events.PARTIAL_UPDATE_ROWS:
                return self._partial_updates(body, at, first, then, ordinal)
            return self._updates(body, at, first, then, ordinal)
        except (struct.error, IndexError, ValueError, OverflowError) as error:
            raise self._unreadable(error) from error

    def _present(self, body: bytes, at: int) -> tuple[int, int]:
        """Which columns the images hold, as bits, and the place behind the bitmap."""
        end = at + self._bitmap
        return int.from_bytes(body[at:end], "little") & self._whole, end

    def _unreadable(self, error: Exception) -> Halt:
        if isinstance(error, UnicodeDecodeError):
            detail = f"{self.schema.table} holds text that its character set ({error.encoding}) does not know"
            fix = "correct the value, then worker-sync resync PIPELINE"
            return Halt(State.UNREPRESENTABLE_VALUE, detail, fix)
        return malformed(f"rows of {self.schema.table} that can't be read ({type(error).__name__})")

    def _reader(self, present: int, *, raw_json: bool = False) -> ReadRow:
        reader = self._readers.get((present, raw_json))
        if reader is None:
            here = [bool(present >> number & 1) for number in range(len(self._columns))]
            columns = [_raw(c) if raw_json and n in self._json else c for n, c in enumerate(self._columns)]
            reader = compile_reader(columns, here, len(self.schema.columns))
            self._readers[present, raw_json] = reader
        return reader

    def _inserts(self, body: bytes, at: int, first: int, ordinal: int) -> list[Change]:
        changes = []
        read, number, end = self._reader(first), self.number, len(body)
        while at < end:
            row, at = read(body, at)
            changes.append(Change(ordinal, "c", number, None, None, row))
            ordinal += 1
        self._require_end(at, end)
        return changes

    def _deletes(self, body: bytes, at: int, first: int, ordinal: int) -> list[Change]:
        changes = []
        read, number, key_of, end = self._reader(first), self.number, self._key_of, len(body)
        whole = first == self._whole
        while at < end:
            row, at = read(body, at)
            key = key_of(row) if whole else self._known(key_of(row))
            changes.append(Change(ordinal, "d", number, key, row if whole else None, None))
            ordinal += 1
        self._require_end(at, end)
        return changes

    def _updates(self, body: bytes, at: int, first: int, then: int, ordinal: int) -> list[Change]:
        changes = []
        read, read_after, end = self._reader(first), self._reader(then), len(body)
        number, key_of = self.number, self._key_of
        whole = first == then == self._whole
        while at < end:
            before, at = read(body, at)
            after, at = read_after(body, at)
            if whole:
                old = key_of(before)
                changes.append(Change(ordinal, "u", number, None if old == key_of(after) else old, before, after))
            else:
                changes.append(self._update(ordinal, before, after))
            ordinal += 1
        self._require_end(at, end)
        return changes

    def _update(self, ordinal: int, before: Row, after: Row) -> Change:
        """An update whose images may lack columns; what the new one lacks is as the old one has it."""
        after = merge(before, after)
        old = self._known(self._key_of(before))
        key = None if old == self._key_of(after) else old
        return Change(ordinal, "u", self.number, key, before if is_complete(before) else None, after)

    def _partial_updates(self, body: bytes, at: int, first: int, then: int, ordinal: int) -> list[Change]:
        """Updates whose JSON columns may be sent as differences to the old document. Before each new image stand
        options and, where the first says so, a bitmap of the JSON columns of the table that are differences."""
        changes = []
        read, read_after = self._reader(first, raw_json=True), self._reader(then, raw_json=True)
        end = len(body)
        while at < end:
            before, at = read(body, at)
            options, at = length_encoded(body, at)
            partial = 0
            if options & _PARTIAL_JSON:
                size = (len(self._json) + 7) // 8
                partial, at = int.from_bytes(body[at : at + size], "little"), at + size
            after, at = read_after(body, at)
            changes.append(self._update(ordinal, *self._with_documents(before, after, partial)))
            ordinal += 1
        self._require_end(at, end)
        return changes

    def _with_documents(self, before: Row, after: Row, partial: int) -> tuple[Row, Row]:
        old, new = list(before), list(after)
        for number, index in enumerate(self._json):
            place = self._columns[index].place
            if place is None:
                continue
            if partial >> number & 1 and isinstance(new[place], bytes):
                if not isinstance(before[place], bytes):
                    raise self._without_document()
                new[place] = render(apply_diffs(json_tree(before[place]), new[place]))
            elif isinstance(new[place], bytes):
                new[place] = json_text(new[place])
            if isinstance(old[place], bytes):
                old[place] = json_text(old[place])
        return tuple(old), tuple(new)

    def _without_document(self) -> Halt:
        return Halt(
            State.UNREPRESENTABLE_VALUE,
            f"{self.schema.table}: the log holds a part of a JSON document only, and not the document before it",
            "SET PERSIST binlog_row_value_options = '' (or binlog_row_image = FULL), then worker-sync resync PIPELINE",
        )

    def _known(self, key: Key) -> Key:
        if UNCHANGED in key:
            detail = f"{self.schema.table}: the log does not say which row was changed"
            fix = "SET GLOBAL binlog_row_image = FULL, then worker-sync resync PIPELINE"
            raise Halt(State.PREFLIGHT_FAILED, detail, fix)
        return key

    def _require_end(self, at: int, end: int) -> None:
        if at != end:
            raise malformed(f"rows of {self.schema.table} that end in the middle")


def _picker(indexes: Sequence[int]) -> Callable[[Row], Key]:
    if len(indexes) == 1:
        (index,) = indexes
        return lambda row: (row[index],)
    return lambda row: tuple([row[index] for index in indexes])


def _raw(column: ImageColumn) -> ImageColumn:
    return ImageColumn(replace(column.packing, convert=None), column.place)
