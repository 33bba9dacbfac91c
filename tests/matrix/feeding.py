"""Writes rows to a sink as a snapshot and as changes, and compares what is there afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from itertools import islice
from typing import Any, Final

from connectors.base import Outcome, Sink
from tests.contract.sink_target import IDENTITY, PIPELINE, SHARD, at, chunk_batch, committed_at
from worker_sync.core import text
from worker_sync.core.change import Batch, Change, Op, Section, TransactionInfo
from worker_sync.core.errors import Permanent
from worker_sync.core.position import BEGINNING
from worker_sync.core.schema import Kind, TableSchema, Type
from worker_sync.core.values import Row

#: Rows of a batch that goes out as single statements.
FEW: Final = 10
_EXACT: Final = Context(prec=10_000, Emin=MIN_EMIN, Emax=MAX_EMAX)


class Feeder:
    """One shard of one pipeline that ends at a table; where it stands moves with what was applied."""

    def __init__(self, sink: Sink, table: TableSchema, pipeline: str = PIPELINE) -> None:
        self._sink = sink
        self._table = table
        self._pipeline = pipeline
        self._number = 0
        sink.fence(pipeline, SHARD, 1, IDENTITY, BEGINNING)

    def load(self, rows: Sequence[Row]) -> None:
        """All rows as one chunk of a snapshot. May be called once, and first."""
        batch = chunk_batch(self._table, rows, BEGINNING, 1, done=True)
        batch.pipeline = self._pipeline
        batch.upto = at(self._next())
        assert self._sink.apply(batch) == Outcome.APPLIED

    def insert(self, rows: Sequence[Row]) -> None:
        """All rows as one transaction. What refuses it leaves the feeder where it was."""
        number = self._number + 1
        info = TransactionInfo(at(number).commit, committed_at(number), str(number))
        changes = [Change(ordinal, Op.INSERT, 1, None, None, row) for ordinal, row in enumerate(rows, 1)]
        batch = Batch(
            "s", self._pipeline, SHARD, 1, at(self._number), at(number), [Section(info, len(rows))],
            {1: self._table}, changes,
        )  # fmt: skip
        assert self._sink.apply(batch) == Outcome.APPLIED
        self._number = number

    def _next(self) -> int:
        self._number += 1
        return self._number

    def refusals_of_small_batches(self, rows: Iterable[Row]) -> dict[int, str]:
        """As `refusals`, a few rows at a time."""
        left, errors = iter(rows), dict[int, str]()
        while some := list(islice(left, FEW)):
            errors |= self.refusals(some)
        return errors

    def refusals(self, rows: Sequence[Row]) -> dict[int, str]:
        """Insert what can be, halving what is refused until it is one row: the errors of those, by id."""
        try:
            if rows:
                self.insert(rows)
        except Permanent as error:
            if len(rows) == 1:
                return {int(rows[0][0]): str(error)}
            middle = len(rows) // 2
            return self.refusals(rows[:middle]) | self.refusals(rows[middle:])
        return {}


def same(type_: Type, before: Any, after: Any, *, layout: bool = True) -> bool:
    """Whether two canonical values are one, bit for bit; without `layout` of JSON, the same document."""
    if repr(before) == repr(after):
        return True
    if layout or before is None or after is None:
        return False
    if type_.kind is Kind.ARRAY and type_.element is not None and type_.element.kind is Kind.JSON:
        return _elements(before) == _elements(after)
    return type_.kind is Kind.JSON and _document(before) == _document(after)


def _elements(value: str) -> list[Any]:
    return [item if item is None else _document(item) for item in text.parse_array(value)]


def _document(value: str) -> Any:
    return _ordered(text.json_reader(_number, _number)(value))


def _number(number: str) -> tuple[str, bool]:
    """A number and its sign, which a zero has too."""
    decimal = Decimal(number)
    return str(decimal.normalize(_EXACT)), decimal.is_signed()


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, _ordered(item)) for key, item in value.items()]
    return list(map(_ordered, value)) if isinstance(value, list) else value
