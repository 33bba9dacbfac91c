"""Row filters, compiled for one version of a table.

A condition is true, false or unknown, as in SQL: a comparison with NULL is unknown, and a row is carried when the
condition is true. A column that the source did not send makes what depends on it undecided.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from worker_sync.core import filter_syntax as syntax
from worker_sync.core.filter_values import READERS, Reader, literal_of
from worker_sync.core.schema import Column, Kind, TableSchema
from worker_sync.core.settings_file import suggestion
from worker_sync.core.values import UNCHANGED, Row

#: True, False, None (unknown), or UNCHANGED (undecided).
Verdict = Any
Evaluator = Callable[[Row], Verdict]

_ORDER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: Kinds that can be told apart but have no order that engines agree on.
_UNORDERED: Final = frozenset({Kind.BOOL, Kind.ENUM})


class Predicate:
    """Whether a row of one version of a table belongs to the pipeline."""

    def __init__(self, condition: syntax.Condition, table: TableSchema) -> None:
        """Raises ValueError, without a value, for a column or comparison that the table doesn't allow."""
        self._evaluate = _compile(condition, table)

    def __call__(self, row: Row) -> bool | None:
        """True or False; None when it depends on a column that the row does not hold."""
        verdict = self._evaluate(row)
        return None if verdict is UNCHANGED else verdict is True


def _compile(condition: syntax.Condition, table: TableSchema) -> Evaluator:
    match condition:
        case syntax.Check():
            return _test(condition, table)
        case syntax.Negation():
            return _not(_compile(condition.part, table))
        case syntax.Conjunction():
            return _combined([_compile(part, table) for part in condition.parts], decisive=False)
        case syntax.Disjunction():
            return _combined([_compile(part, table) for part in condition.parts], decisive=True)


def _not(part: Evaluator) -> Evaluator:
    def evaluate(row: Row) -> Verdict:
        verdict = part(row)
        return verdict if verdict is None or verdict is UNCHANGED else not verdict

    return evaluate


def _combined(parts: list[Evaluator], *, decisive: bool) -> Evaluator:
    """AND, which one False decides, or OR, which one True decides."""

    def evaluate(row: Row) -> Verdict:
        result: Verdict = not decisive
        for part in parts:
            verdict = part(row)
            if verdict is decisive:
                return decisive
            if verdict is UNCHANGED or (verdict is None and result is not UNCHANGED):
                result = verdict
        return result

    return evaluate


def _test(test: syntax.Check, table: TableSchema) -> Evaluator:
    if test.column not in table.column_names:
        raise ValueError(f"no column {test.column!r}{suggestion(test.column, table.column_names)}")
    index = table.column_names.index(test.column)
    if test.op == "null":
        return lambda row: UNCHANGED if row[index] is UNCHANGED else row[index] is None
    read, decide = _decision(test, table.columns[index])

    def evaluate(row: Row) -> Verdict:
        value = row[index]
        if value is None or value is UNCHANGED:
            return value
        return decide(value if read is None else read(value))

    return evaluate


def _decision(test: syntax.Check, column: Column) -> tuple[Reader | None, Callable[[Any], Verdict]]:
    """What the test says of a value that is there, read first when it can't be compared as it is."""
    kind = column.type.kind
    if kind not in READERS:
        known = ", ".join(READERS)
        raise ValueError(f"column {column.name!r} is {kind}, for which there is only IS NULL; known: {known}")
    if test.op == "like":
        if kind is not Kind.TEXT:
            raise ValueError(f"column {column.name!r} is {kind}; LIKE is for text")
        matches = re.compile(_expression(column.name, str(test.values[0])), re.DOTALL).fullmatch
        return None, lambda value: matches(value) is not None
    try:
        literals = [literal_of(kind, value) for value in test.values]
    except ValueError as error:
        raise ValueError(f"column {column.name!r} is {kind}, but {error}") from None
    if test.op == "in":
        return READERS[kind], frozenset(literals).__contains__
    if kind in _UNORDERED and test.op not in ("=", "!="):
        raise ValueError(f"column {column.name!r} is {kind}, which has no order; use =, != or IN")
    compare, literal = _ORDER[test.op], literals[0]
    return READERS[kind], lambda value: compare(value, literal)


def _expression(column: str, pattern: str) -> str:
    """The regular expression of a LIKE pattern; a backslash takes a wildcard's meaning away."""
    if re.search(r"(?<!\\)(?:\\\\)*\\$", pattern):
        raise ValueError(f"column {column!r}: a LIKE pattern can't end with a backslash")
    pieces = re.findall(r"\\?.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    return "".join(wild.get(piece) or re.escape(piece[-1]) for piece in pieces)
