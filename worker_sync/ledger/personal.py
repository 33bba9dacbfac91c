"""Which values of a change are personal and whose they are, and the sealing of them before the entry is hashed.

The ledger's database gives the master, with which `subjects` finds whose a batch is; then it gives their keys, and
`BatchSealer` seals with these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from worker_sync.core.change import Batch, Change
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import UNCHANGED, Row, Value
from worker_sync.ledger.canonical import MISSING, Json, value
from worker_sync.ledger.changes import HAS_BEFORE, unrecordable
from worker_sync.ledger.envelope import GENERATION, SUBJECT, MasterKey, Place, Side, SubjectKey, is_sealed
from worker_sync.ledger.key_slot import PersonalKey
from worker_sync.ledger.sealing import TableSealer

_ABSENT: Final = (value(UNCHANGED), value(MISSING))

#: The key of the subject with an id.
KeyOf = Callable[[str], SubjectKey]


@dataclass(frozen=True, slots=True)
class PersonalColumns:
    """As `worker_sync.core.personal.PersonalTable` says; tables with one `namespace` share subjects."""

    subject: str
    columns: tuple[str, ...]
    namespace: str


@dataclass(frozen=True)
class Personal:
    """What is personal by source and table (`namespace.name`, or `name` in any namespace), and the configured key."""

    key: PersonalKey
    tables: Mapping[tuple[str, str], PersonalColumns] = field(default_factory=dict)

    def of(self, source: str, origin: str) -> PersonalColumns | None:
        """What is personal of a table, by the source's name of it."""
        found = self.tables.get((source, origin))
        return found or self.tables.get((source, TableName.parse(origin).name))

    def touches(self, batch: Batch) -> bool:
        """Whether a batch has a table with personal data."""
        return any(self.of(batch.source, batch.origin(number)) for number in batch.tables)


class Subjects:
    """Whose data a table's changes are."""

    def __init__(self, master: MasterKey, columns: PersonalColumns, source: str, schema: TableSchema) -> None:
        names = schema.column_names
        if lost := [name for name in (columns.subject, *columns.columns) if name not in names]:
            raise _undeclared(schema, lost)
        self._name = schema.table
        self._master, self._source, self._namespace = master, source, columns.namespace
        self._at = names.index(columns.subject)
        self._in_key = schema.key.index(columns.subject) if columns.subject in schema.key else None
        self._known: dict[Value, str] = {}

    def of(self, change: Change, side: Side) -> str:
        """The id of the subject of one side of a change, which has a row there. Raises Halt."""
        row = change.before if side == "before" else change.after
        assert row is not None
        named = row[self._at]
        if named is UNCHANGED:
            named = self._elsewhere(change, change.before)
        return self._id_of(named)

    def _id_of(self, named: Value) -> str:
        # Texts and numbers alone: True would be 1.
        found = self._known.get(named) if type(named) in (str, int) else None
        if found is None:
            found = self._id(named)
            if type(named) in (str, int):
                self._known[named] = found
        return found

    def all_of(self, change: Change) -> set[str]:
        """The ids of all subjects of a change, also of the one whom only its key names. Raises Halt."""
        found = {self.of(change, side) for side in _sides(change)}
        if self._in_key is not None and change.key is not None:
            found.add(self._id_of(change.key[self._in_key]))
        return found

    def _id(self, named: Value) -> str:
        try:
            return self._master.subject_id(self._source, self._namespace, value(named))
        except (TypeError, ValueError) as error:
            raise unrecordable(f"whose data a change of {self._name} is", error) from error

    def _elsewhere(self, change: Change, before: Row | None) -> Value:
        if before is not None and before[self._at] is not UNCHANGED:
            return before[self._at]
        if self._in_key is not None and change.key is not None:
            return change.key[self._in_key]
        what = f"the source did not record whose data a change of {self._name} is"
        raise Halt(
            State.UNREPRESENTABLE_VALUE, what, "ALTER TABLE ... REPLICA IDENTITY FULL, worker-sync resync PIPELINE"
        )


def subjects(batch: Batch, personal: Personal, master: MasterKey) -> list[set[str]]:
    """The ids of the subjects of each change, in order. Raises Halt as `Subjects` does."""
    tables: dict[int, Subjects | None] = {}
    for number, schema in batch.tables.items():
        columns = personal.of(batch.source, batch.origin(number))
        tables[number] = None if columns is None else Subjects(master, columns, batch.source, schema)
    return [set() if (table := tables[change.table]) is None else table.all_of(change) for change in batch.changes]


class BatchSealer:
    """Seals a batch's personal values, given the ledger's master and the keys of the batch's subjects."""

    def __init__(self, personal: Personal, master: MasterKey, source: str, key_of: KeyOf) -> None:
        self._personal, self._master, self._source, self._key_of = personal, master, source, key_of

    def of(self, schema: TableSchema, origin: str) -> TableSealer | None:
        columns = self._personal.of(self._source, origin)
        if columns is None:
            return None
        whose = Subjects(self._master, columns, self._source, schema)
        return _Sealed(self._master, columns, self._source, origin, whose, self._key_of)


@dataclass(frozen=True)
class _Sealed:
    """The one `TableSealer`."""

    master: MasterKey
    columns: PersonalColumns
    source: str
    origin: str
    whose: Subjects
    key_of: KeyOf

    def row(self, change: Change, change_id: str, side: Side, row: dict[str, Json]) -> dict[str, Json]:
        key = self.key_of(self.whose.of(change, side))
        sealed = dict(row)
        for name in self.columns.columns:
            if row[name] not in _ABSENT:
                sealed[name] = key.seal(row[name], Place(change_id, self.origin, name, side))
        return sealed

    def key(self, key: dict[str, Json]) -> dict[str, Json]:
        personal, keyed = self.columns.columns, self.master.keyed
        return {name: keyed(self.source, self.origin, v) if name in personal else v for name, v in key.items()}


def sealed_for(entry: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """(subject, generation), as texts, of each sealed value of an entry."""
    for side in ("before", "after"):
        row = entry.get(side)
        if isinstance(row, dict):
            yield from ((v[SUBJECT], v[GENERATION]) for v in row.values() if is_sealed(v))


def _sides(change: Change) -> Iterator[Side]:
    if change.before is not None and change.op in HAS_BEFORE:
        yield "before"
    if change.after is not None:
        yield "after"


def _undeclared(schema: TableSchema, lost: list[str]) -> Halt:
    """A renamed column would be recorded in plain text."""
    what = f"personal_data names columns that {schema.table} does not have: {', '.join(lost)}"
    return Halt(State.PREFLIGHT_FAILED, what, "name them as they are called now, then worker-sync resume PIPELINE")
