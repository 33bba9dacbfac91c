"""Which definition of each table a pipeline's target has, and what is to be done where the source's is another one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from worker_sync.capture.routing import Route, TargetOf
from worker_sync.core.alteration import Alteration, alteration, end
from worker_sync.core.errors import Halt, State
from worker_sync.core.partitions import Partitions, moved
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.store.versions import TableVersion

log = logging.getLogger(__name__)

Policy = Literal["apply", "halt", "ignore"]
Records = Mapping[TableName, TableVersion]

_RESUME: Final = "worker-sync resume PIPELINE"


@dataclass(frozen=True, slots=True)
class Definitions:
    """The source's tables, and the partitions of some, as its catalog had them; everything older is in the log up to
    commit position `horizon`."""

    tables: Mapping[TableName, TableSchema]
    horizon: str
    partitions: Mapping[TableName, Partitions] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A table that gets another definition. `alter`: the target is to be altered, else a person has done it. `copy`:
    its rows are to be copied again."""

    schema: TableSchema
    change: Alteration
    alter: bool
    copy: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pipeline can't go on by itself; `schema` None: the table is gone, or is `renamed`."""

    table: TableName
    schema: TableSchema | None
    detail: str
    recovery: str
    renamed: TableName | None = None

    def halt(self) -> Halt:
        return Halt(State.SCHEMA_CHANGED, self.detail, self.recovery)


@dataclass(frozen=True, slots=True)
class Move:
    """Rows of a table that came or went with its partitions, in words, and what is known of it with that."""

    version: TableVersion
    detail: str

    def refusal(self) -> Refusal:
        name = self.version.table
        recovery = (
            f"worker-sync resync PIPELINE {name}, which copies its rows and takes out those that are gone; or, where "
            f"the target is right as it is, {_RESUME}"
        )
        return Refusal(name, None, self.detail, recovery)


class Versions:
    """The tables of one pipeline. Used by the capture's main thread, but for `fits`.

    `accepted` are definitions that were refused before a person let the pipeline go on.
    """

    def __init__(
        self,
        policy: Policy,
        target_of: TargetOf,
        alters_rows: bool,
        records: Records,
        excluded: Mapping[TableName, tuple[str, ...]],
        wants: Callable[[TableName], bool],
        is_trail: bool = False,
    ) -> None:
        self._policy = policy
        self._target_of = target_of
        self._alters_rows = alters_rows
        self._excluded = excluded
        self._wants = wants
        self._is_trail = is_trail
        self.records = dict(records)
        self._known = {
            name: record.version
            for name, record in records.items()
            if record.version and not record.gone and not record.absent
        }
        self._accepted = {name: record.next for name, record in records.items() if record.next is not None}
        #: Up to where in the log a definition has been seen; what a catalog said before is old.
        self._seen_at: dict[TableName, str] = {}
        self._told: set[str] = set()
        #: The horizon of the newest look at the catalog.
        self._looked_to = ""

    # -- is it another one

    def plan(self, schema: TableSchema, commit: str) -> Plan | Refusal | None:
        """What `schema`, met at a commit position, asks for; None when the target has it."""
        known = self._known.get(schema.table)
        if known is None or known is schema or self.predates(schema.table, commit):
            return None
        refusal = self._replaced(known, schema) or self._uncovered(known, schema)
        if refusal is not None:
            return refusal
        before, after = self._target_of(known), self._target_of(schema)
        if before is None or after is None:
            return None
        return self._decide(schema, before, after)

    def predates(self, name: TableName, commit: str) -> bool:
        """Whether a commit position is older than what is recorded of the table."""
        return name in self.records and commit <= self.records[name].since

    def fits(self, schema: TableSchema) -> bool:
        """Whether rows of this definition, read from the source just now, can go to the target as it is."""
        return self.plan(schema, "~") is None

    def _decide(self, schema: TableSchema, before: Route, after: Route) -> Plan | Refusal | None:
        change = alteration(before.target, after.target)
        if change is None:
            return None
        if change.obstacle:
            recovery = f"give the target's table the source's key (or drop it), then {self._resync(schema.table)}"
            return Refusal(schema.table, schema, f"{schema.table}: {change.obstacle}", recovery)
        if self._policy == "ignore" or not (change.is_visible or self._policy == "apply"):
            return None
        # In a trail a copy would stand for changes that nobody made.
        copy = not self._is_trail and (change.changes_values or not self._alters_rows)
        if self._policy == "apply":
            return Plan(schema, change, True, copy and change.is_visible)
        accepted = self._accepted.get(schema.table)
        if accepted is not None and _same(accepted, schema):
            return Plan(schema, change, False, copy)
        recovery = f"make the same change in the target, then {_RESUME}; or set schema_changes: apply, then {_RESUME}"
        return Refusal(schema.table, schema, str(change), recovery)

    def _replaced(self, known: TableSchema, schema: TableSchema) -> Refusal | None:
        if not known.number or not schema.number or known.number == schema.number:
            return None
        detail = f"{schema.table} was dropped and created anew, and its rows went without a word in the log"
        return Refusal(schema.table, schema, detail, self._resync(schema.table))

    def _uncovered(self, known: TableSchema, schema: TableSchema) -> Refusal | None:
        """A column that must not travel, and may be there under another name."""
        for name in self._excluded.get(schema.table, ()):
            was = next((column for column in known.columns if column.name == name), None)
            if was is None or name in schema.column_names:
                continue
            numbers = [column.number for column in schema.columns]
            unknown = not was.number or 0 in numbers
            added = set(schema.column_names) - set(known.column_names)
            if was.number in numbers or (unknown and added):
                detail = f"{schema.table}: the excluded or masked column {name} is gone, or has another name now"
                recovery = f"exclude or mask it by its new name, then {_RESUME}"
                return Refusal(schema.table, schema, detail, recovery)
        return None

    # -- it is

    def on_its_way(self, plan: Plan, place: Position) -> TableVersion:
        """What is known of the table while its alteration is under way to `place`."""
        record = self.records[plan.schema.table]
        return replace(record, next=plan.schema, place=str(place), change=str(plan.change))

    def done(self, plan: Plan, commit: str) -> TableVersion:
        """The target has the definition now, which was met at that commit position."""
        name = plan.schema.table
        record = self.records[name]
        self._known[name] = plan.schema
        self._accepted.pop(name, None)
        self._seen_at[name] = commit
        self.records[name] = replace(record, version=plan.schema, next=None, place="", change=str(plan.change))
        return self.records[name]

    def refused(self, refusal: Refusal) -> TableVersion:
        """What is known of a table whose definition waits for a person."""
        record = self.records.get(refusal.table) or TableVersion(refusal.table, None)
        gone = refusal.schema is None
        return replace(record, next=refusal.schema, place="", gone=gone, change=refusal.detail)

    # -- what the catalog says

    def moved(self, found: Definitions, truncated: Mapping[str, str]) -> list[Move]:
        """The tables whose partitions are others now; `detail` says which rows came or went with them without a word in
        the log, and is empty where none did. `truncated` is the stream's."""
        moves = []
        for name in sorted(self._known.keys() & found.partitions.keys()):
            record, now = self.records[name], found.partitions[name]
            if record.partitions == now:
                continue
            self.records[name] = replace(record, partitions=now)
            emptied = truncated.get(str(name), "") > self._looked_to
            words = moved(record.partitions, now, truncated=emptied) if record.partitions else []
            moves.append(Move(self.records[name], f"{name}: {', '.join(words)}" if words else ""))
        self._looked_to = found.horizon
        return moves

    def review(self, found: Definitions) -> list[Plan | Refusal]:
        """What the source's catalog asks for, once the stream has passed its horizon."""
        asked: list[Plan | Refusal] = []
        for name in sorted(self._known):
            schema = found.tables.get(name)
            if schema is None or found.horizon < self._seen_at.get(name, ""):
                continue
            plan = self.plan(schema, found.horizon)
            if plan is not None:
                asked.append(plan)
            else:
                self._note(name, schema)
        return asked

    def _note(self, name: TableName, schema: TableSchema) -> None:
        """A definition from the log may lack what the catalog knows."""
        self._known[name] = schema if self._policy != "ignore" else self._known[name]

    def new_tables(self, found: Definitions) -> list[Refusal]:
        """Tables that the pipeline's patterns mean and that it does not carry, with why not."""
        new = sorted(name for name in found.tables if name not in self._known and self._wants(name))
        return [self._new(found.tables[name]) for name in new]

    def _new(self, schema: TableSchema) -> Refusal:
        name = schema.table
        if name in self.records and self.records[name].gone:
            return Refusal(name, schema, f"{name} was dropped and created anew", self._resync(name))
        recovery = f"{_RESUME}, which copies it; or take it out of the pipeline's tables first"
        return Refusal(name, schema, f"{name} is a new table", recovery)

    def missing(self, found: Definitions) -> list[Refusal]:
        """Tables that the source has no more, with what became of them."""
        names = {table.number: name for name, table in found.tables.items() if table.number}
        gone = [(name, table) for name, table in sorted(self._known.items()) if name not in found.tables]
        return [self._missing(name, names.get(table.number)) for name, table in gone]

    def _missing(self, name: TableName, renamed: TableName | None) -> Refusal:
        detail = f"{name} was renamed {renamed}" if renamed else f"{name} was dropped"
        recovery = f"name the tables that are there now in the configuration, then {_RESUME}"
        return Refusal(name, None, detail, recovery, renamed)

    def ending(self, refusal: Refusal) -> Alteration | None:
        """The end of a table that is gone, for a trail; None where a target is to be left alone, or had nothing."""
        known = self._target_of(self._known[refusal.table]) if self._is_trail else None
        return None if known is None else end(known.target, refusal.renamed)

    def end_on_its_way(self, refusal: Refusal, place: Position) -> TableVersion:
        """What is known of a table while its end is under way to `place`."""
        record = self.records[refusal.table]
        return replace(record, gone=True, next=None, place=str(place), change=refusal.detail)

    def forget(self, name: TableName, change: str) -> TableVersion:
        """The source has the table no more; the target's stays as it is."""
        del self._known[name]
        self.records[name] = replace(self.records[name], gone=True, next=None, place="", change=change)
        return self.records[name]

    def _resync(self, table: TableName) -> str:
        # A trail copies nothing, so it only begins anew as a whole.
        return "worker-sync resync PIPELINE" if self._is_trail else f"worker-sync resync PIPELINE {table}"

    def first_time(self, words: str) -> bool:
        """Whether this was not said before."""
        before = len(self._told)
        self._told.add(words)
        return len(self._told) > before


def _same(one: TableSchema, other: TableSchema) -> bool:
    return alteration(one, other) is None and one.number == other.number


# -- at the start of a session


def resolve(records: Records, stands: Position | None) -> dict[TableName, TableVersion]:
    """The records of a pipeline whose first shard stands at `stands`: an alteration, or an end, whose place it has
    reached is done, one that it has not comes again (a person's consent to it stays)."""
    found = {}
    for name, record in records.items():
        if record.place:
            done = stands is not None and Position.parse(record.place) <= stands
            if record.gone:
                record = replace(record, gone=done)
            elif done:
                record = replace(record, version=record.next, next=None)
            record = replace(record, place="")
        found[name] = record
    return found


def carried(
    policy: Policy, records: Records, tables: Iterable[TableName], named: Callable[[TableName], bool]
) -> set[TableName]:
    """Which of the tables that a pipeline's rules mean it takes: new ones need `apply`, a name of their own, or a
    person's consent; one that was dropped does not come back by itself."""
    open_to_new = policy == "apply" or not records
    return {
        name
        for name in tables
        if (name in records and not records[name].gone) or (name not in records and (open_to_new or named(name)))
    }
