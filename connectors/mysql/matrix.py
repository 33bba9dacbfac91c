"""MySQL's and MariaDB's part of the type matrix: see `connectors.matrix`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.matrix import Extreme, SourceType, TargetType
from connectors.mysql.catalog import ENGINE
from connectors.mysql.ddl import type_name
from worker_sync.core.schema import Kind, Type

_NONE: Final[frozenset[Extreme]] = frozenset()
_NUMBERS: Final = frozenset({Extreme.NAN, Extreme.INFINITE_NUMBER})
_DATES: Final = frozenset({Extreme.INFINITE_DATE, Extreme.BEFORE_YEAR_1, Extreme.AFTER_YEAR_9999})
#: What other engines' values a type has no place for, by its bare name.
_REFUSES: Final[Mapping[str, frozenset[Extreme]]] = {
    "double": _NUMBERS,
    "decimal": _NUMBERS,
    "date": _DATES,
    "datetime": _DATES,
}


def describe(type_: Type, engine: str) -> TargetType:
    """What a column of a table that `engine` is the source of becomes here, outside a key."""
    name = type_name(type_, engine)
    refuses = _NONE if engine == ENGINE else _REFUSES.get(name.partition("(")[0], _NONE)
    return TargetType(name, refuses)
