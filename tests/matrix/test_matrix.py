"""Every cell of docs/reference/types.md: values of each source type, written to each target and read back."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from connectors.base import Sink
from connectors.matrix import Extreme, TargetType
from tests.contract.sink_target import read_rows
from tests.matrix.conftest import SOURCES, TARGETS
from tests.matrix.feeding import Feeder, same
from tests.matrix.samples import Sample
from tests.matrix.sources import Read
from tests.matrix.targets import TargetBed
from tests.matrix.witnesses import WITNESSES
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName, TableSchema, Type
from worker_sync.core.values import Row

#: Engines by server, where their names differ.
SERVERS = {"postgres": "postgresql", "mariadb": "mysql"}
PAIRS = [(source, target) for source in SOURCES for target in TARGETS]


@pytest.mark.parametrize("source", SOURCES)
def test_every_type_has_values_and_every_extreme_it_claims(source: str) -> None:
    _, bed = SOURCES[source]
    shown: dict[str, set[object]] = {}
    for sample in bed.samples:
        shown.setdefault(sample.source.declaration, set()).add(sample.extreme)
    assert shown == {each.declaration: {None, *each.extremes} - bed.lacks for each in bed.types}


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_gives_the_types_of_the_matrix(source: str, read_from: Callable[[str], Read]) -> None:
    read = read_from(source)
    assert read.types.keys() == read.expected_types.keys()
    for column, type_ in read.types.items():
        # How a server spells its own types depends on its version.
        native = type_.native if read.schema.engine == "mysql" else read.expected_types[column].native
        assert type_ == msgspec.structs.replace(read.expected_types[column], native=native)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_value_arrives_as_it_is_or_is_refused_as_the_matrix_says(
    source: str, target: str, read_from: Callable[[str], Read], make_target: Callable[[str], TargetBed]
) -> None:
    bed = make_target(target)
    read = bed.takes(read_from(source))
    with bed.open() as sink:
        sink.prepare()
        trial = _Trial(read, bed, sink)
        trial.write()
        failures = trial.failures()
        assert not failures, "\n".join(failures)


class _Trial:
    """The samples of one source in two tables of one target: by a snapshot, and by small transactions."""

    def __init__(self, read: Read, bed: TargetBed, sink: Sink) -> None:
        self._read = read
        self._bed = bed
        self._sink = sink
        self._refused = {sample.row for sample in read.samples if sample.extreme in self._refusals(sample)}
        self._errors: dict[int, str] = {}
        self._tables: list[TableSchema] = []

    def _refusals(self, sample: Sample) -> frozenset[Extreme]:
        return self._bed.refuses(self._read.type_of(sample), self._read.schema.engine)

    def _said(self, type_: Type) -> TargetType:
        return self._bed.describe(type_, self._read.schema.engine)

    def _table(self, name: str) -> TableSchema:
        table = self._sink.map_table(self._read.schema, str(TableName("public", name)))
        assert self._sink.create_table(table)
        self._tables.append(table)
        return table

    def write(self) -> None:
        loaded, changed = self._table("loaded"), self._table("changed")
        feeder = Feeder(self._sink, changed, "changed")
        for number, row in self._read.rows.items():
            if number in self._refused:
                self._errors |= feeder.refusals([row])
        rows = [row for number, row in self._read.rows.items() if number not in self._refused]
        self._errors |= feeder.refusals_of_small_batches(rows)
        Feeder(self._sink, loaded, "loaded").load([row for row in rows if int(row[0]) not in self._errors])

    def failures(self) -> list[str]:
        found = [*self._wrongly_taken(), *self._wrongly_refused(), *self._altered(), *self._elsewhere()]
        return found + self._witnessed()

    def _wrongly_taken(self) -> list[str]:
        taken = self._refused - self._errors.keys()
        return [f"taken: {each}" for each in self._read.samples if each.row in taken]

    def _wrongly_refused(self) -> list[str]:
        refused = self._errors.keys() - self._refused
        return [f"refused: {each}: {self._errors[each.row]}" for each in self._read.samples if each.row in refused]

    def _altered(self) -> list[str]:
        found = []
        for table in self._tables:
            there = {int(row): values for (row,), values in read_rows(self._sink, table).items()}
            assert there.keys() == self._read.rows.keys() - self._errors.keys()
            found += [line for sample in self._read.samples for line in self._compare(sample, table, there)]
        return found

    def _compare(self, sample: Sample, table: TableSchema, there: dict[int, Row]) -> list[str]:
        if sample.row in self._errors:
            return []
        before, after = self._read.rows[sample.row], there[sample.row]
        pairs = zip(table.columns, before, after, strict=True)
        differ = [
            (repr(old)[:200], repr(new)[:200])
            for column, old, new in pairs
            if not same(column.type, old, new, layout=not self._said(column.type).parsed)
        ]
        return [f"altered in {table.table}: {sample}: {differ}"] * bool(differ)

    def _elsewhere(self) -> list[str]:
        """Values whose type in the target is not the one of the matrix."""
        first = {sample.column: sample for sample in reversed(self._read.samples) if sample.row not in self._errors}
        found = []
        for column, sample in first.items():
            said = self._said(self._read.type_of(sample)).name
            actual = self._bed.type_name(self._tables[0], column, sample.row)
            if actual != self._bed.spelling(said):
                found.append(f"in another type: {sample.source.declaration} is {actual}, the matrix says {said}")
        return found

    def _witnessed(self) -> list[str]:
        """Values that the target's own driver sees as others."""
        known = WITNESSES[self._read.schema.engine]
        found = []
        for sample in self._read.samples:
            expected = known.get((sample.source.declaration, sample.literal), {})
            if self._bed.engine in expected:
                actual = self._bed.value(self._tables[0], sample.column, sample.row)
                if actual != expected[self._bed.engine]:
                    found.append(f"the driver gives {actual!r} for {sample}")
        return found


@pytest.mark.parametrize("source", SOURCES)
def test_every_witness_is_about_a_sample(source: str) -> None:
    engine, bed = SERVERS.get(source, source), SOURCES[source][1]
    named = {(sample.source.declaration, sample.literal) for sample in bed.samples}
    assert WITNESSES[engine].keys() <= named


@pytest.mark.parametrize(("source", "target"), [("mariadb", "mysql"), ("mysql", "mariadb")])
def test_a_type_of_one_server_can_not_be_created_on_the_other(
    source: str, target: str, read_from: Callable[[str], Read], make_target: Callable[[str], TargetBed]
) -> None:
    read, bed = read_from(source), make_target(target)
    foreign = {sample.column for sample in read.samples} - {sample.column for sample in bed.takes(read).samples}
    assert foreign
    with bed.open() as sink:
        sink.prepare()
        for column in foreign:
            with pytest.raises(Halt) as caught:
                sink.create_table(sink.map_table(read.only({column}).schema, None))
            assert caught.value.state == State.TABLE_UNSUPPORTED
