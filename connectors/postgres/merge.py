"""Turns the steps of a batch into loads of staging tables and a list of statements.

All loads come first, because COPY can't run in pipeline mode; all statements then go out in one pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from typing import Any, Final, Protocol

from connectors.postgres.render import parameters
from connectors.postgres.statements import TableSql, gap_of
from worker_sync.core.apply import Move, Step, TableWrites, Truncate, Writes
from worker_sync.core.bags import BagWrites
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row

#: From this many rows on, COPY and one statement are faster than a statement per row (measured: see benchmarks).
STAGE_FROM: Final = 24


class Manner(IntEnum):
    """How rows are written, from the fastest to the one that stops at nothing."""

    #: Rows of tables that saw inserts only are copied into the target; one that is there already is a collision.
    INSERT = 0
    #: Rows are inserted or updated in place; two that swap unique values collide.
    UPSERT = 1
    #: Rows are deleted and inserted anew: the state after the batch has no collision, those on the way may have.
    REWRITE = 2


class Workspace(Protocol):
    """What the compiler needs of the session."""

    #: Foreign keys and triggers of the target don't fire for our writes.
    silent: bool
    #: The server knows MERGE (15 and newer), which costs three quarters of ON CONFLICT and does the same for us.
    merges: bool

    def copies(self, table: TableName) -> bool:
        """Whether rows of inserts may be expected to be new to this table."""

    def table(self, schema: TableSchema) -> TableSql: ...

    def staging(self, table: TableSql, names: Sequence[str]) -> str:
        """An empty staging table with these columns that this transaction has not used yet."""


@dataclass(slots=True)
class Load:
    """Rows to copy into a staging table."""

    statement: str
    rows: Sequence[Row]


@dataclass(slots=True)
class Statement:
    """A statement; `expected` is the row count that it must report."""

    sql: str
    parameters: list[str | None] | None
    table: TableSql
    expected: int | None = None
    key: Key | None = None


@dataclass(slots=True)
class Work:
    """Everything that one batch writes, except its watermark."""

    loads: list[Load] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    #: Tables whose rows are copied straight into them.
    copied: list[TableName] = field(default_factory=list)


def compile_steps(steps: Sequence[Step], inserted: set[TableName], workspace: Workspace, manner: Manner) -> Work:
    """The work that `steps` come to. `inserted` names the tables of the batch that saw nothing but inserts."""
    # A copy into the target goes out before all statements.
    first = steps[0] if len(steps) == 1 else None
    alone = isinstance(first, Writes) and (workspace.silent or len(first.tables) + len(first.bags) == 1)
    fresh = inserted if alone and manner is Manner.INSERT else set()
    compiler = _Compiler(workspace, fresh, manner is Manner.REWRITE)
    for kind, group in groupby(steps, key=type):
        if kind is Truncate:
            compiler.truncate([step.table for step in group if isinstance(step, Truncate)])
            continue
        for step in group:
            if isinstance(step, Move):
                compiler.move(step)
            elif isinstance(step, Writes):
                compiler.write(step)
    return compiler.work


def _children_first(tables: Iterable[TableSql]) -> list[TableSql]:
    """Referencing tables before those that they reference. Within a cycle only deferred constraints help."""
    by_oid = {table.target.oid: table for table in tables}
    graph = {oid: table.target.children & by_oid.keys() for oid, table in by_oid.items()}
    try:
        return [by_oid[oid] for oid in TopologicalSorter(graph).static_order()]
    except CycleError:
        return list(by_oid.values())


class _Compiler:
    def __init__(self, workspace: Workspace, fresh: set[TableName], rewrite: bool) -> None:
        self._space = workspace
        self._fresh = fresh
        self._rewrite = rewrite
        self.work = Work()

    def _add(self, table: TableSql, sql: str, values: Row | None = None, **check: Any) -> None:
        bound = None if values is None else parameters(values)
        self.work.statements.append(Statement(sql, bound, table, **check))

    def _load(self, table: TableSql, names: Sequence[str], rows: Sequence[Row], all_columns: bool) -> str:
        staging = self._space.staging(table, table.names() if all_columns else names)
        self.work.loads.append(Load(table.copy_into(staging, names), rows))
        return staging

    def truncate(self, schemas: Sequence[TableSchema]) -> None:
        """TRUNCATE is refused for a table that another one references, unless both are emptied together."""
        tables = _children_first({table.target.oid: table for table in map(self._space.table, schemas)}.values())
        oids = {table.target.oid for table in tables}
        if all(table.target.truncatable and table.target.children <= oids for table in tables):
            self._add(tables[0], f"TRUNCATE {', '.join(table.table for table in tables)}")
            return
        for table in tables:
            self._add(table, f"DELETE FROM {table.table}")

    def move(self, step: Move) -> None:
        table = self._space.table(step.table)
        gap = gap_of(step.row)
        old, new = table.key_values(step.key), table.key_of(step.row)
        self._add(table, table.vacate, (*old, *new))
        values = table.values(step.row, gap)
        if table.fixed_key or self._replaces(table):
            staging = self._space.staging(table, table.names())
            self._add(table, table.copy_aside(staging), old)
            self._add(table, table.set_aside(staging, gap), values)
            self._add(table, table.delete, old)
            self._add(table, table.insert_staged(staging))
        else:
            self._add(table, table.move(gap), (*values, *old))
        # Whichever way the row came to its new key, it is there now; a second update of it changes nothing.
        expected = None if step.loading else 1
        self._add(table, table.update(gap), table.update_values(step.row, gap), expected=expected, key=step.key)

    def _replaces(self, table: TableSql) -> bool:
        harmless = self._space.silent or table.target.deletable
        return table.replaces or (self._rewrite and harmless)

    def write(self, step: Writes) -> None:
        every: list[TableWrites | BagWrites] = [*step.bags, *step.tables]
        ordered = [(self._space.table(writes.table), writes) for writes in every]
        if not self._space.silent and len(ordered) > 1:
            ordered = self._by_foreign_keys(ordered)
        inserts: list[Callable[[], None]] = []
        for table, writes in ordered:
            if isinstance(writes, BagWrites):
                self._take_from_bag(table, writes.deletes)
                inserts.append(lambda table=table, writes=writes: self._put_into_bag(table, writes))  # type: ignore[misc]
                continue
            rows = _by_gap(writes)
            if rows and self._replaces(table):
                inserts.extend(self._take_out(table, rows, writes.loading))
            else:
                inserts.extend(self._put_later(table, rows, writes.loading))
            self._deletes(table, writes)
        for insert in reversed(inserts):
            insert()

    def _take_from_bag(self, table: TableSql, rows: list[Row]) -> None:
        if not rows:
            return
        staging = self._load(table, table.names(), _values(table, (), rows), all_columns=True)
        # The text of a row has no index to look it up in.
        self._add(table, "SET LOCAL enable_hashjoin = on")
        self._add(table, table.delete_bag(staging), expected=len(rows))
        self._add(table, "SET LOCAL enable_hashjoin = off")

    def _put_into_bag(self, table: TableSql, writes: BagWrites) -> None:
        rows = _values(table, (), writes.inserts)
        if len(rows) < STAGE_FROM:
            for row in rows:
                self._add(table, table.insert, row)
        elif table.schema.table in self._fresh:
            self.work.loads.append(Load(table.copy_into(table.table, table.names()), rows))
        else:
            self._add(table, table.insert_staged(self._load(table, table.names(), rows, all_columns=True)))

    def _by_foreign_keys(
        self, ordered: list[tuple[TableSql, TableWrites | BagWrites]]
    ) -> list[tuple[TableSql, TableWrites | BagWrites]]:
        rank = {id(table): place for place, table in enumerate(_children_first(table for table, _ in ordered))}
        return sorted(ordered, key=lambda pair: rank.get(id(pair[0]), len(rank)))

    def _is_set(self, table: TableSql, count: int) -> bool:
        # Row by row, a row of a self-referencing table may come before the one it points to.
        return count >= STAGE_FROM or (count > 1 and table.target.self_reference and not self._space.silent)

    def _deletes(self, table: TableSql, writes: TableWrites) -> None:
        keys = [table.key_values(key) for key in writes.deletes]
        if self._is_set(table, len(keys)):
            staging = self._load(table, table.schema.key, keys, all_columns=False)
            self._add(table, table.delete_staged(staging))
            return
        for key in keys:
            self._add(table, table.delete, key)

    def _put_later(
        self, table: TableSql, groups: dict[tuple[int, ...], list[Row]], loading: bool
    ) -> Iterable[Callable[[], None]]:
        for gap, rows in groups.items():
            yield lambda gap=gap, rows=rows: self._put(table, gap, rows, loading)  # type: ignore[misc]

    def _put(self, table: TableSql, gap: tuple[int, ...], rows: list[Row], loading: bool) -> None:
        if self._is_set(table, len(rows)):
            self._put_set(table, gap, rows, loading)
        elif gap:
            for row in rows:
                expected = None if loading else 1
                values = table.update_values(row, gap)
                self._add(table, table.update(gap), values, expected=expected, key=table.key_of(row))
        else:
            for row in rows:
                self._add(table, table.upsert, table.values(row))

    def _stage(self, table: TableSql, gap: tuple[int, ...], rows: list[Row]) -> str:
        return self._load(table, table.names(gap), _values(table, gap, rows), all_columns=True)

    def _put_set(self, table: TableSql, gap: tuple[int, ...], rows: list[Row], loading: bool) -> None:
        if not gap and table.schema.table in self._fresh and self._space.copies(table.schema.table):
            self.work.copied.append(table.schema.table)
            self.work.loads.append(Load(table.copy_into(table.table, table.names()), _values(table, gap, rows)))
            return
        staging = self._stage(table, gap, rows)
        if gap:
            self._add(table, table.update_staged(staging, gap), expected=None if loading else len(rows))
        else:
            self._add(table, table.merge_staged(staging) if self._space.merges else table.upsert_staged(staging))

    def _take_out(
        self, table: TableSql, groups: dict[tuple[int, ...], list[Row]], loading: bool
    ) -> list[Callable[[], None]]:
        """Complete the rows from the target and delete them there; the returned calls insert them anew."""
        stagings = []
        for gap, rows in groups.items():
            staging = self._stage(table, gap, rows)
            stagings.append(staging)
            if gap:
                self._add(table, table.complete_staged(staging, gap), expected=None if loading else len(rows))
            if gap and loading:
                self._add(table, table.drop_unmatched(staging))
        for staging in stagings:
            self._add(table, table.delete_staged(staging))
        return [lambda s=staging: self._add(table, table.insert_staged(s)) for staging in stagings]  # type: ignore[misc]


def _values(table: TableSql, gap: tuple[int, ...], rows: list[Row]) -> list[Row]:
    return rows if table.is_plain and not gap else [table.values(row, gap) for row in rows]


def _by_gap(writes: TableWrites) -> dict[tuple[int, ...], list[Row]]:
    groups: dict[tuple[int, ...], list[Row]] = {}
    for row in writes.rows.values():
        groups.setdefault(gap_of(row), []).append(row)
    return groups
