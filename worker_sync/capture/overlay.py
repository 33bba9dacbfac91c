"""Bringing the rows of a snapshot chunk to where the stream is; see `worker_sync.capture.snapshot` for the why."""

from __future__ import annotations

from collections.abc import Callable

from worker_sync.core.change import Change, Op, TransactionInfo
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key, Row, merge

#: A chunk's rows by key; None stands for a row that the target has and the source has not.
ChunkRows = dict[Key, Row | None]


def lay_over(rows: ChunkRows, change: Change, schema: TableSchema) -> None:
    """Apply to a chunk's rows a change that its snapshot did not see and the stream has brought already.

    A key that the chunk does not hold stays out of it: its row is the stream's.
    """
    if change.op == Op.TRUNCATE:
        rows.clear()
        return
    if change.after is None:
        assert change.key is not None
        rows.pop(change.key, None)
        return
    new_key = tuple([change.after[index] for index in schema.key_indexes])
    old = rows.pop(new_key if change.key is None else change.key, None)
    rows.pop(new_key, None)
    if old is not None:
        rows[new_key] = merge(old, change.after)


class Overlay:
    """The changes of one loading table that no chunk's snapshot is known to have seen, in stream order."""

    def __init__(self) -> None:
        self._entries: list[tuple[TransactionInfo, Change, TableSchema]] = []

    def observe(self, info: TransactionInfo, change: Change, schema: TableSchema) -> None:
        self._entries.append((info, change, schema))

    def forget(self, seen: Callable[[TransactionInfo], bool]) -> None:
        """Drop what a snapshot saw: every later one sees it too."""
        self._entries = [entry for entry in self._entries if not seen(entry[0])]

    def agrees(self, schema: TableSchema) -> bool:
        """Whether all entries have the columns of `schema`; if not, the chunk must be read again."""
        return all(
            change.op == Op.TRUNCATE or seen_as.column_names == schema.column_names
            for _, change, seen_as in self._entries
        )

    def lay_over(self, rows: ChunkRows, schema: TableSchema) -> None:
        """Apply all entries, which must agree with the chunk's columns."""
        for _, change, _ in self._entries:
            lay_over(rows, change, schema)

    def transactions(self) -> list[TransactionInfo]:
        return [info for info, _, _ in self._entries]
