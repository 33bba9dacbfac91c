"""What the engines say of their types, as data: docs/reference/types.md is made of it, tests/matrix/ tries every word.

An engine's `matrix.py` has its source types, each with the extreme values that it can hold, and as a target a function
`describe` that gives the type it writes to and the extreme values that this type has no place for. A source type's
values are refused where the two meet; all others arrive as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from worker_sync.core.schema import Type


class Extreme(StrEnum):
    """Values that some types have no place for, in the words of the page."""

    NEGATIVE_ZERO = "-0"
    NAN = "NaN"
    INFINITE_NUMBER = "infinite numbers"
    DIGITS = "numbers of more than 34 digits"
    NUL = "text with NUL characters"
    INFINITE_DATE = "`infinity`"
    BEFORE_YEAR_1 = "years before 1"
    AFTER_YEAR_9999 = "years after 9999"
    ZERO_DATE = "zero dates"
    OUTSIDE_DAY = "times outside a day"
    LOWER_BOUND = "subscripts that don't begin at 1"
    KEY_TWICE = "a key twice in one object"
    NUL_IN_KEY = "NUL in a key"
    HALF_SURROGATE = "half a surrogate pair"
    EMPTY_LABEL = "the empty value of a failed insert"
    PRECISE_IN_JSON = "decimals that a double would round"
    HUGE_IN_JSON = "numbers beyond 1.8e308"
    DEPTH_31 = "more than 31 levels"
    DEPTH_100 = "more than 100 levels"
    DEPTH_180 = "more than 180 levels"


@dataclass(frozen=True, slots=True)
class SourceType:
    """A type as a source's tables declare it, what it is in canonical terms, and the extreme values it can hold.

    `server`: the one server of the family that has it; empty: all.
    """

    declaration: str
    type: Type
    extremes: frozenset[Extreme] = frozenset()
    server: str = ""


@dataclass(frozen=True, slots=True)
class TargetType:
    """The type that a target writes to, the extreme values that it refuses, and what else a reader should know.

    `only`: of these extremes, those that one server of the family refuses, with its name. `parsed`: JSON is kept as the
    document that it stands for, without the spaces, exponents and trailing zeros of its text.
    """

    name: str
    refuses: frozenset[Extreme] = frozenset()
    note: str = ""
    only: Mapping[Extreme, str] = field(default_factory=dict)
    parsed: bool = False
