"""Tables without a key: a bag of rows, in which equal rows may stand more than once and can't be told apart.

An insert adds a row, a delete takes exactly one equal row away, an update replaces exactly one. Rows are equal when
every value is the same value written the same way: NULL equals NULL, NaN equals NaN, -0.0 differs from 0.0, and 1.0
from 1.00 where the type keeps the difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from worker_sync.core.change import Change
from worker_sync.core.errors import Permanent
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Row

_encode: Final = msgspec.msgpack.Encoder().encode


def exact(row: Row) -> bytes:
    """What equal rows, and only they, have in common. Raises TypeError for a row that holds UNCHANGED."""
    return _encode(row)


def old_row(change: Change, table: TableSchema) -> Row:
    """The row that an update or delete finds. Raises Permanent when the source did not send it."""
    if change.before is None:
        raise Permanent(f"{table.table}: a change of a table without key came without its old row")
    return change.before


@dataclass(slots=True)
class BagWrites:
    """The final effect of a run of changes on one table without key; equal rows stand in the lists as often as meant.

    Every one of `deletes` takes one equal row that was there before the run; where there is none, the target refuses
    the batch. Deletes are to be written before inserts.
    """

    table: TableSchema
    inserts: list[Row] = field(default_factory=list)
    deletes: list[Row] = field(default_factory=list)


class BagFolder:
    """Collects the changes of one table: a row that was inserted and then deleted was never there."""

    def __init__(self, table: TableSchema) -> None:
        self._table = table
        self._inserts: list[Row | None] = []
        self._deletes: list[Row] = []
        #: Where inserted rows stand, made when the first row is deleted: most tables without key only grow.
        self._places: dict[bytes, list[int]] | None = None

    def add(self, change: Change) -> None:
        """Take up an insert, update or delete."""
        if change.op in ("u", "d"):
            self._delete(old_row(change, self._table))
        if change.after is not None:
            self._insert(change.after)

    def _insert(self, row: Row) -> None:
        if self._places is not None:
            self._places.setdefault(exact(row), []).append(len(self._inserts))
        self._inserts.append(row)

    def _delete(self, row: Row) -> None:
        if self._places is None:
            self._places = {}
            for place, inserted in enumerate(self._inserts):
                assert inserted is not None
                self._places.setdefault(exact(inserted), []).append(place)
        places = self._places.get(exact(row))
        if places:
            self._inserts[places.pop()] = None
        else:
            self._deletes.append(row)

    def writes(self) -> BagWrites:
        return BagWrites(self._table, [row for row in self._inserts if row is not None], self._deletes)
