"""Values of every type of the matrix, written as a source's own literals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.matrix import Extreme, SourceType


@dataclass(frozen=True, slots=True)
class Values:
    """Literals of one type: those that arrive everywhere, and those that are one of the type's extremes."""

    plain: Sequence[str]
    extreme: Mapping[Extreme, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of a source's table: one value in the column of its type, NULL in all others."""

    row: int
    column: str
    source: SourceType
    literal: str
    extreme: Extreme | None

    def __str__(self) -> str:
        return f"{self.source.declaration} {self.literal[:80]}"


def column_of(number: int) -> str:
    return f"c{number}"


def samples(types: Sequence[SourceType], values: Mapping[str, Values], lacks: frozenset[Extreme]) -> list[Sample]:
    """One for every value without the extremes that are lacking; rows are numbered from 1 in the order of the types."""
    found = [
        (number, source, *each)
        for number, source in enumerate(types)
        for each in _of(values[source.declaration], lacks)
    ]
    return [
        Sample(row, column_of(number), source, literal, extreme)
        for row, (number, source, literal, extreme) in enumerate(found, 1)
    ]


def _of(values: Values, lacks: frozenset[Extreme]) -> Iterator[tuple[str, Extreme | None]]:
    for literal in values.plain:
        yield literal, None
    for extreme, literals in values.extreme.items():
        for literal in () if extreme in lacks else literals:
            yield literal, extreme
