"""PostgreSQL's part of the type matrix: see `connectors.matrix`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.matrix import Extreme, SourceType, TargetType
from connectors.postgres.ddl import type_name
from worker_sync.core.schema import Kind, Type

_DATES: Final = frozenset({Extreme.INFINITE_DATE, Extreme.BEFORE_YEAR_1, Extreme.AFTER_YEAR_9999})
_NUMBERS: Final = frozenset({Extreme.NAN, Extreme.INFINITE_NUMBER})
_FLOATS: Final = _NUMBERS | {Extreme.NEGATIVE_ZERO}
_NO_NUMBER: Final = frozenset({Extreme.NAN})
_LONG: Final = frozenset({Extreme.DIGITS})
_NESTED: Final = frozenset({Extreme.DEPTH_31, Extreme.DEPTH_100, Extreme.DEPTH_180})
_JSONB_EXTREMES: Final = _NESTED | _LONG | {Extreme.HUGE_IN_JSON}
_JSON: Final = _JSONB_EXTREMES | {Extreme.KEY_TWICE, Extreme.NUL_IN_KEY, Extreme.HALF_SURROGATE}
_BOUNDS: Final = frozenset({Extreme.LOWER_BOUND})

#: What other engines' values this one has no place for, by kind.
_REFUSES: Final[Mapping[Kind, frozenset[Extreme]]] = {
    Kind.TEXT: frozenset({Extreme.NUL}),
    Kind.ENUM: frozenset({Extreme.NUL}),
    Kind.NATIVE: frozenset({Extreme.NUL}),
    Kind.DATE: frozenset({Extreme.ZERO_DATE}),
    Kind.TIMESTAMP: frozenset({Extreme.ZERO_DATE}),
    Kind.TIMESTAMPTZ: frozenset({Extreme.ZERO_DATE}),
    Kind.TIME: frozenset({Extreme.OUTSIDE_DAY}),
}


def describe(type_: Type, engine: str) -> TargetType:
    """What a column of a table that `engine` is the source of becomes here."""
    return TargetType(type_name(type_, engine), _REFUSES.get(type_.kind, frozenset()))


def _of(kind: Kind, native: str, extremes: frozenset[Extreme] = frozenset(), **parameters: Any) -> SourceType:
    return SourceType(native, Type(kind, native, **parameters), extremes)


def _array(element: SourceType) -> SourceType:
    native = f"{element.declaration}[]"
    return SourceType(native, Type(Kind.ARRAY, native, element=element.type), _BOUNDS | element.extremes)


_BOOLEAN: Final = _of(Kind.BOOL, "boolean")
_INTEGER: Final = _of(Kind.INT, "integer", size=32)
_BIGINT: Final = _of(Kind.INT, "bigint", size=64)
_REAL: Final = _of(Kind.FLOAT, "real", _FLOATS, size=32)
_DOUBLE: Final = _of(Kind.FLOAT, "double precision", _FLOATS, size=64)
_NUMERIC: Final = _of(Kind.DECIMAL, "numeric", _NUMBERS | _LONG)
_TEXT: Final = _of(Kind.TEXT, "text")
_BYTEA: Final = _of(Kind.BYTES, "bytea")
_UUID: Final = _of(Kind.UUID, "uuid")
_DATE: Final = _of(Kind.DATE, "date", _DATES)
_TIMESTAMP: Final = _of(Kind.TIMESTAMP, "timestamp without time zone", _DATES)
_TIMESTAMPTZ: Final = _of(Kind.TIMESTAMPTZ, "timestamp with time zone", _DATES)
_INTERVAL: Final = _of(Kind.INTERVAL, "interval")
_JSONB: Final = _of(Kind.JSON, "jsonb", _JSONB_EXTREMES)
_MOOD: Final = _of(Kind.ENUM, "public.mood", labels=("it's", "so\\so", "", "NULL"))

#: Types that travel as their text.
_NATIVE: Final = (
    '"char"', "money", "oid", "int2vector", "pg_lsn", "xid8", "regclass", "pg_snapshot", "jsonpath",
    "inet", "cidr", "macaddr", "macaddr8",
    "point", "line", "lseg", "box", "path", "polygon", "circle", "box[]",
    "int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange", "int4multirange", "tstzmultirange",
    "tsvector", "tsquery", "public.hstore", "public.pair",
)  # fmt: skip

SOURCE_TYPES: Final = (
    _BOOLEAN,
    _of(Kind.INT, "smallint", size=16),
    _INTEGER,
    _BIGINT,
    _REAL,
    _DOUBLE,
    _NUMERIC,
    _of(Kind.DECIMAL, "numeric(12,2)", _NO_NUMBER, precision=12, scale=2),
    _of(Kind.DECIMAL, "numeric(5,-2)", _NO_NUMBER, precision=5, scale=-2),
    _of(Kind.DECIMAL, "numeric(3,5)", _NO_NUMBER, precision=3, scale=5),
    _of(Kind.DECIMAL, "numeric(65,30)", _NO_NUMBER | _LONG, precision=65, scale=30),
    _of(Kind.DECIMAL, "numeric(100,50)", _NO_NUMBER | _LONG, precision=100, scale=50),
    _TEXT,
    _of(Kind.TEXT, "character varying"),
    _of(Kind.TEXT, "character varying(20)", size=20),
    _of(Kind.TEXT, "character(10)", size=10),
    _of(Kind.TEXT, "name", size=63),
    _of(Kind.TEXT, "public.citext"),
    _MOOD,
    _BYTEA,
    _UUID,
    _DATE,
    _of(Kind.TIME, "time without time zone"),
    _of(Kind.TIME, "time(3) without time zone", precision=3),
    _of(Kind.TIMETZ, "time with time zone"),
    _TIMESTAMP,
    _of(Kind.TIMESTAMP, "timestamp(3) without time zone", _DATES, precision=3),
    _TIMESTAMPTZ,
    _of(Kind.TIMESTAMPTZ, "timestamp(0) with time zone", _DATES, precision=0),
    _INTERVAL,
    _of(Kind.INTERVAL, "interval(3)", precision=3),
    _of(Kind.JSON, "json", _JSON),
    _JSONB,
    _of(Kind.BIT, "bit(3)", size=3),
    _of(Kind.BIT, "bit varying"),
    *map(
        _array,
        (
            _BOOLEAN, _INTEGER, _BIGINT, _REAL, _DOUBLE, _NUMERIC, _TEXT, _MOOD, _BYTEA, _UUID, _DATE, _TIMESTAMP,
            _TIMESTAMPTZ, _INTERVAL, _JSONB, _of(Kind.NATIVE, "point"), _of(Kind.NATIVE, "int4range"),
        ),
    ),
    *(_of(Kind.NATIVE, native) for native in _NATIVE),
)  # fmt: skip
