"""The types of MySQL's and MariaDB's tables as a part of the type matrix: see `connectors.matrix`."""

from __future__ import annotations

from typing import Any, Final

from connectors.matrix import Extreme, SourceType
from worker_sync.core.schema import Kind, Type

_NONE: Final[frozenset[Extreme]] = frozenset()
_NUL: Final = frozenset({Extreme.NUL})
_FLOATS: Final = frozenset({Extreme.NEGATIVE_ZERO})
_LONG: Final = frozenset({Extreme.DIGITS})
_DATES: Final = frozenset({Extreme.ZERO_DATE})
_TIMES: Final = frozenset({Extreme.OUTSIDE_DAY})
_JSON: Final = frozenset(
    {
        Extreme.KEY_TWICE,
        Extreme.NUL_IN_KEY,
        Extreme.DIGITS,
        Extreme.PRECISE_IN_JSON,
        Extreme.HUGE_IN_JSON,
        Extreme.DEPTH_31,
    }
)
_INTEGERS: Final = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}


def _of(
    kind: Kind, native: str, extremes: frozenset[Extreme] = _NONE, server: str = "", **parameters: Any
) -> SourceType:
    return SourceType(native, Type(kind, native, **parameters), extremes, server)


SOURCE_TYPES: Final = (
    *(_of(Kind.INT, name, size=size) for name, size in _INTEGERS.items()),
    *(_of(Kind.INT, f"{name} unsigned", size=size, unsigned=True) for name, size in _INTEGERS.items()),
    _of(Kind.INT, "tinyint(1)", size=8),
    _of(Kind.INT, "year", size=16),
    _of(Kind.FLOAT, "float", _FLOATS, size=32),
    _of(Kind.FLOAT, "double", _FLOATS, size=64),
    _of(Kind.DECIMAL, "decimal(12,2)", precision=12, scale=2),
    _of(Kind.DECIMAL, "decimal(10,0) unsigned", precision=10, scale=0, unsigned=True),
    _of(Kind.DECIMAL, "decimal(65,30)", _LONG, precision=65, scale=30),
    _of(Kind.BIT, "bit(1)", size=1),
    _of(Kind.BIT, "bit(64)", size=64),
    _of(Kind.TEXT, "char(10)", _NUL, size=10),
    _of(Kind.TEXT, "varchar(30)", _NUL, size=30),
    *(_of(Kind.TEXT, name, _NUL) for name in ("tinytext", "text", "mediumtext", "longtext")),
    _of(Kind.TEXT, "varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci", size=20),
    _of(Kind.ENUM, "enum('one','it''s','é')", frozenset({Extreme.EMPTY_LABEL}), labels=("one", "it's", "é")),
    _of(Kind.NATIVE, "set('a','b','c')", labels=("a", "b", "c")),
    _of(Kind.BYTES, "binary(5)", size=5),
    _of(Kind.BYTES, "varbinary(300)", size=300),
    *(_of(Kind.BYTES, name) for name in ("tinyblob", "blob", "mediumblob", "longblob", "geometry", "point", "polygon")),
    _of(Kind.BYTES, "vector(3)", server="MySQL"),
    _of(Kind.DATE, "date", _DATES),
    _of(Kind.TIME, "time", _TIMES, precision=0),
    _of(Kind.TIME, "time(6)", _TIMES, precision=6),
    _of(Kind.TIMESTAMP, "datetime", _DATES, precision=0),
    _of(Kind.TIMESTAMP, "datetime(3)", _DATES, precision=3),
    _of(Kind.TIMESTAMP, "datetime(6)", _DATES, precision=6),
    _of(Kind.TIMESTAMPTZ, "timestamp", _DATES, precision=0),
    _of(Kind.TIMESTAMPTZ, "timestamp(6)", _DATES, precision=6),
    _of(Kind.JSON, "json", _JSON),
    _of(Kind.UUID, "uuid", server="MariaDB"),
    _of(Kind.NATIVE, "inet4", server="MariaDB"),
    _of(Kind.NATIVE, "inet6", server="MariaDB"),
)
