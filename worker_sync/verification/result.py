"""What a comparison is given and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row


@dataclass(frozen=True, slots=True)
class TablePair:
    """A source table and the table that it is written to.

    Both schemas hold the columns that travel, in the same order; each names its own side's table.
    """

    source: TableSchema
    target: TableSchema

    @property
    def name(self) -> TableName:
        return self.source.table

    def keys_only(self) -> TablePair:
        """The same pair, read without the columns beside the key."""
        return TablePair(_keys_of(self.source), _keys_of(self.target))


def _keys_of(schema: TableSchema) -> TableSchema:
    columns = tuple(schema.columns[index] for index in schema.key_indexes)
    return TableSchema(schema.table, columns, schema.key, schema.engine)


class DifferenceKind(StrEnum):
    """What is wrong with a key, seen from the target."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"
    #: Any of these in a key whose changes are parked in dead letters.
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that stayed different. `columns` names what differs; the rows are kept for those who ask to see them.

    In a table without key, `key` is words: the row's digest, and how often it is missing or extra."""

    kind: DifferenceKind
    key: Key
    columns: tuple[str, ...]
    source: Row | None = field(repr=False)
    target: Row | None = field(repr=False)


@dataclass(slots=True)
class TableResult:
    """The comparison of one table.

    `source_rows` and `target_rows` were walked; `rechecked` keys differed at first sight; `unsettled` keys changed
    each time they were looked at, so nothing can be said of them. `differences` holds examples, the counts are whole.
    """

    pair: TablePair
    source_rows: int = 0
    target_rows: int = 0
    rechecked: int = 0
    unsettled: int = 0
    seconds: float = 0.0
    counts: dict[DifferenceKind, int] = field(default_factory=lambda: dict.fromkeys(DifferenceKind, 0))
    differences: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not any(self.counts.values()) and not self.unsettled

    @property
    def only_parked(self) -> bool:
        """Nothing differs but keys whose changes are parked."""
        return not self.unsettled and not any(n for kind, n in self.counts.items() if kind is not DifferenceKind.PARKED)

    def as_json(self, *, show_values: bool) -> dict[str, Any]:
        return {
            "table": str(self.pair.name),
            "target_table": str(self.pair.target.table),
            "ok": self.ok,
            "source_rows": self.source_rows,
            "target_rows": self.target_rows,
            "rechecked": self.rechecked,
            "unsettled": self.unsettled,
            **{kind.value: count for kind, count in self.counts.items()},
            "seconds": round(self.seconds, 3),
            "differences": [self._difference(found, show_values=show_values) for found in self.differences],
        }

    def _difference(self, found: Difference, *, show_values: bool) -> dict[str, Any]:
        document: dict[str, Any] = {"kind": found.kind.value, "key": _printable(found.key), "columns": found.columns}
        if show_values:
            document["source"] = self._values(found.source, found.columns)
            document["target"] = self._values(found.target, found.columns)
        return document

    def _values(self, row: Row | None, columns: tuple[str, ...]) -> dict[str, Any] | None:
        if row is None:
            return None
        named = dict(zip(self.pair.source.column_names, _printable(row), strict=True))
        return {name: named[name] for name in columns} if columns else named


def _printable(values: tuple[Any, ...]) -> list[Any]:
    return [value.hex() if isinstance(value, bytes) else value for value in values]


@dataclass(slots=True)
class Result:
    """The comparison of a pipeline's tables."""

    pipeline: str
    tables: list[TableResult] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(table.ok for table in self.tables)

    def total(self, kind: DifferenceKind) -> int:
        return sum(table.counts[kind] for table in self.tables)

    def as_json(self, *, show_values: bool = False) -> dict[str, Any]:
        tables = [table.as_json(show_values=show_values) for table in self.tables]
        return {"pipeline": self.pipeline, "ok": self.ok, "tables": tables}
