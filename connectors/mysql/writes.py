"""Writes the steps of a batch, inside the transaction that the sink has open.

Rows are upserted; an upsert that would touch another row than the one with its key fails (see
`TargetTable.upsert_tail`). What fails so, or by a unique value that another row of the batch is about to give up, is
done over as a rewrite: the rows are taken out and put in again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Any, Final

from connectors.mysql.bags import write_bag
from connectors.mysql.session import Session
from connectors.mysql.sql import quote
from connectors.mysql.target import TargetTable, gap_of
from connectors.mysql.types import Converter
from worker_sync.core.apply import Move, Step, TableWrites, Truncate, Writes
from worker_sync.core.errors import TargetRejected
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key, Row

#: Keys in one condition; the optimisers of both servers take longer lists for a reason to read the whole table.
KEYS_PER_STATEMENT: Final = 500
#: Rows in one INSERT.
ROWS_PER_STATEMENT: Final = 2_000

Groups = dict[tuple[int, ...], list[Row]]


class Manner(Enum):
    """How rows are written to tables with more than one unique index."""

    #: Rows are inserted or updated in place; two that swap unique values collide.
    UPSERT = "upsert"
    #: Rows are taken out and put in again: the state after the batch has no collision, those on the way may have.
    REWRITE = "rewrite"


class Writing:
    """One attempt at one batch."""

    def __init__(self, session: Session, manner: Manner) -> None:
        self._session = session
        self._manner = manner

    def run(self, steps: Sequence[Step]) -> None:
        """Raises TargetRejected, Unrepresentable, Halt and pymysql.Error; the caller rolls back."""
        for step in steps:
            if isinstance(step, Truncate):
                # TRUNCATE would commit.
                self._session.run(f"DELETE FROM {self._session.table(step.table).name}")
            elif isinstance(step, Move):
                self._move(step)
            else:
                for bag in step.bags:
                    write_bag(self._session, self._session.table(bag.table), bag)
                for writes in step.tables:
                    self._write(self._session.table(writes.table), writes)

    def _write(self, table: TargetTable, writes: TableWrites) -> None:
        self._delete(table, list(writes.deletes))
        groups = _by_gap(writes)
        if self._manner is Manner.REWRITE and not table.alone:
            self._rewrite(table, groups, writes.loading)
            return
        complete = groups.pop((), [])
        for gap, rows in groups.items():
            self._update(table, table.name, rows, gap, writes.loading)
        for some in _slices(complete, ROWS_PER_STATEMENT):
            self._put(table, some)

    def _delete(self, table: TargetTable, keys: Sequence[Key], name: str = "") -> None:
        for some in _slices(keys, KEYS_PER_STATEMENT):
            self._session.run(f"DELETE FROM {name or table.name} WHERE {table.where_any(some)}")

    def _put(self, table: TargetTable, rows: list[Row]) -> None:
        self._session.insert(table, table.tuples(rows), table.upsert_tail(self._session.row_alias))

    def _existing(self, table: TargetTable, name: str, keys: Sequence[Key]) -> set[Key]:
        """Those of the keys that the table has, locked."""
        found: set[Key] = set()
        columns = ", ".join(quote(column.name) for column in table.key)
        for some in _slices(keys, KEYS_PER_STATEMENT):
            rows = self._session.rows(f"SELECT {columns} FROM {name} WHERE {table.where_any(some)} FOR UPDATE")
            found.update(tuple(map(_converted, table.key_converters, row)) for row in rows)
        return found

    def _update(self, table: TargetTable, name: str, rows: Sequence[Row], gap: tuple[int, ...], loading: bool) -> None:
        """Update rows by key. A row that isn't there is an error, unless its chunk will bring it."""
        statements = [
            f"UPDATE {name} SET {table.assignments(row, gap)} WHERE {table.where(table.key_of(row))}" for row in rows
        ]
        counts = self._session.run_all(statements, f"{table.schema.table}: an update")
        for row, count in zip(rows, counts, strict=True):
            if count != 1 and not loading:
                raise _missing(table, table.key_of(row))

    def _rewrite(self, table: TargetTable, groups: Groups, loading: bool) -> None:
        """Take the rows that are there aside, bring them up to date, and put them back when all of them are out."""
        aside = self._session.aside(table)
        rows = [(gap, row) for gap, some in groups.items() for row in some]
        keys = [table.key_of(row) for _, row in rows]
        self._session.run(f"DELETE FROM {aside}")
        columns = table.all_columns
        for some in _slices(keys, KEYS_PER_STATEMENT):
            where = table.where_any(some)
            self._session.run(f"INSERT INTO {aside} ({columns}) SELECT {columns} FROM {table.name} WHERE {where}")
        there = self._existing(table, aside, keys)
        for gap, some in groups.items():
            old = [row for row in some if table.key_of(row) in there]
            self._update(table, aside, old, gap, loading=False)
            if gap and not loading and len(old) != len(some):
                raise _missing(table, next(key for key in map(table.key_of, some) if key not in there))
        self._delete(table, keys)
        self._session.run(f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {aside}")
        new = [row for row in groups.get((), []) if table.key_of(row) not in there]
        for part in _slices(new, ROWS_PER_STATEMENT):
            self._session.insert(table, table.tuples(part), "")

    def _move(self, step: Move) -> None:
        """A key change, right whichever of the two rows exist."""
        table = self._session.table(step.table)
        gap = gap_of(step.row)
        new = table.key_of(step.row)
        there = self._existing(table, table.name, [step.key, new])
        if step.key in there and new in there:
            self._delete(table, [step.key])
            there.discard(step.key)
        found = step.key if step.key in there else new
        if found in there:
            assignments = table.assignments(step.row, gap, with_key=True)
            self._session.run(f"UPDATE {table.name} SET {assignments} WHERE {table.where(found)}")
        elif not step.loading:
            raise _missing(table, step.key)


def _converted(function: Converter, value: Any) -> Any:
    return value if function is None else function(value)


def _missing(table: TargetTable, key: Key) -> TargetRejected:
    shown = ", ".join(map(repr, key))
    return TargetRejected(f"{table.schema.table}: an update without all columns found no row with key ({shown})")


def _by_gap(writes: TableWrites) -> Groups:
    groups: Groups = {}
    for row in writes.rows.values():
        groups.setdefault(gap_of(row), []).append(row)
    return groups


def _slices(items: Sequence[Row], count: int) -> Iterator[list[Row]]:
    remaining = iter(items)
    while some := list(islice(remaining, count)):
        yield some


def written_tables(steps: Sequence[Step]) -> list[TableSchema]:
    """The tables that the steps write rows to."""
    return [writes.table for step in steps if isinstance(step, Writes) for writes in step.tables]
