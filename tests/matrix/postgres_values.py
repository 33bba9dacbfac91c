"""Values of PostgreSQL's types, as SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from connectors.matrix import Extreme
from tests.matrix.postgres_native_values import ARRAYS, NATIVE
from tests.matrix.samples import Values

_DATES: Final[dict[Extreme, Sequence[str]]] = {
    Extreme.INFINITE_DATE: ["'infinity'", "'-infinity'"],
    Extreme.BEFORE_YEAR_1: ["'4713-01-01 BC'", "'0001-12-31 BC'"],
    Extreme.AFTER_YEAR_9999: ["'10000-01-01'", "'294276-12-31'"],
}
_NUMBERS: Final[dict[Extreme, Sequence[str]]] = {
    Extreme.NAN: ["'NaN'"],
    Extreme.INFINITE_NUMBER: ["'Infinity'", "'-Infinity'"],
}
_FLOATS: Final = {**_NUMBERS, Extreme.NEGATIVE_ZERO: ["'-0'"]}
_NAN: Final[dict[Extreme, Sequence[str]]] = {Extreme.NAN: ["'NaN'"]}
_TEXTS: Final = [
    "''", "' '", "' spaces at both ends  '", "'NULL'", "'null'", r"'\N'", r"'\'", r"'\.'", r"E'tab\tline\nreturn\r'",
    r"E'\x01\x1f\x7f'", "'é漢🙂'", "'é'", "'A'", "'a'", r"""'it''s "quoted" `by` $1 %s {x} '""", r"E'\u00a0 \u2028'",
]  # fmt: skip
_MOMENTS: Final = [
    "'0001-01-01 00:00:00'", "'1582-10-10 12:00:00'", "'1900-02-28 23:59:59'", "'1969-12-31 23:59:59'", "'1970-01-01'",
    "'2024-02-29 12:34:56'", "'2038-01-19 03:14:08'", "'9999-12-31 23:59:59'",
]  # fmt: skip
_MICROSECONDS: Final = [
    "'2024-02-29 12:34:56.789'", "'2024-02-29 12:34:56.000001'", "'1969-12-31 23:59:59.999999'",
    "'9999-12-31 23:59:59.999999'",
]  # fmt: skip
_ZONED: Final = [
    "'2024-03-31 02:30:00 Europe/Berlin'",
    "'2024-01-01 00:00:00+14'",
    "'1883-11-18 12:00:00 America/New_York'",
]
_INTERVALS: Final = [
    "'0'", "'1 year 2 months -3 days 04:05:06.7'", "'-178000000 years'", "'178000000 years'", "'-00:00:00.001'",
    "'1 mon -30 days'", "'2147483647 days'",
]  # fmt: skip
_JSON: Final = [
    "'null'", "'true'", "'\"text\"'", "'0'", "'-1'", "'9223372036854775808'", "'1.50'", "'0.1'", "'-0.0'", "'1e2'",
    "'123456789012345678.123456789'", "'{}'", "'[]'", "'[[], {}, null]'", "'{\"b\": 1,  \"a\": [1, null]}'",
    "'{\"@json\": 1}'", "'{\"@json\": {\"@json\": null}}'", "'{\"$oid\": \"x\", \"$ref\": \"c\", \"$id\": 1}'",
    "'{\"a.b\": {\"\": 0}, \"é漢🙂\": \"é漢🙂\"}'", r"""'"\u00e9\n\t\"\\\/"'""", "'\"\\u0001\\u007f\"'",
    "('{\"deep\": ' || repeat('[', 30) || repeat(']', 30) || '}')::json",
]  # fmt: skip
_JSONB: Final[dict[Extreme, Sequence[str]]] = {
    Extreme.DIGITS: ["'1234567890123456789012345678901234.5'", "'[1e-7000]'", "repeat('9', 300)::json"],
    Extreme.HUGE_IN_JSON: ["'1e400'"],
    Extreme.DEPTH_31: ["(repeat('[', 32) || repeat(']', 32))::json"],
    Extreme.DEPTH_100: ["(repeat('[', 101) || repeat(']', 101))::json"],
    Extreme.DEPTH_180: ["(repeat('[', 181) || repeat(']', 181))::json", "(repeat('[', 900) || repeat(']', 900))::json"],
}

VALUES: Final[dict[str, Values]] = {
    "boolean": Values(["true", "false"]),
    "smallint": Values(["-32768", "0", "32767"]),
    "integer": Values(["-2147483648", "0", "2147483647"]),
    "bigint": Values(["-9223372036854775808", "-1", "9007199254740993", "9223372036854775807"]),
    "real": Values(
        ["0", "0.1", "16777217", "3.4028235e38", "-3.4028235e38", "1e-45", "1.17549435e-38", "0.3"], _FLOATS
    ),
    "double precision": Values(
        ["0", "0.1", "1e15", "1e16", "9007199254740993", "1.7976931348623157e308", "5e-324", "2.5e-310"], _FLOATS
    ),
    "numeric": Values(
        ["0", "0.00", "-12.50", "1e20", "repeat('9', 34)::numeric", "1e-30", "'1e100'", "1e300"],
        _NUMBERS | {Extreme.DIGITS: ["repeat('9', 35)::numeric", "('0.' || repeat('1', 60))::numeric", "'1e7000'"]},
    ),
    "numeric(12,2)": Values(["9999999999.99", "-9999999999.99", "0", "-0.01"], _NAN),
    "numeric(5,-2)": Values(["9999900", "-100", "0"], _NAN),
    "numeric(3,5)": Values(["0.00999", "-0.00001", "0"], _NAN),
    "numeric(65,30)": Values(
        ["0", "-0.000000000000000000000000000001", "9999.5"],
        _NAN | {Extreme.DIGITS: ["(repeat('9', 35) || '.' || repeat('9', 30))::numeric"]},
    ),
    "numeric(100,50)": Values(
        ["0", "-1e-49"], _NAN | {Extreme.DIGITS: ["-1", "(repeat('9', 50) || '.' || repeat('9', 50))::numeric"]}
    ),
    "text": Values([*_TEXTS, "repeat('é漢🙂x', 50000)"]),
    "character varying": Values(_TEXTS),
    "character varying(20)": Values(["''", "' x  '", "repeat('🙂', 20)", "repeat(' ', 20)"]),
    "character(10)": Values(["''", "'a'", "' a  '", "repeat('🙂', 10)", "'0123456789'"]),
    "name": Values(["''", "'Name'", "repeat('x', 63)"]),
    "public.citext": Values(["'MiXeD'", "'mixed '"]),
    "public.mood": Values(["'it''s'", r"'so\so'", "''", "'NULL'"]),
    "bytea": Values([r"'\x'", r"'\x00'", r"'\x5c783431'", r"'\x27220a0d1a'", "decode(repeat('00ff80', 30000), 'hex')"]),
    "uuid": Values(
        [
            "'00000000-0000-0000-0000-000000000000'",
            "'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        ]
    ),
    "date": Values(["'0001-01-01'", "'1582-10-10'", "'1969-12-31'", "'2024-02-29'", "'9999-12-31'"], _DATES),
    "time without time zone": Values(["'00:00:00'", "'23:59:59.999999'", "'12:00:00.5'", "'24:00:00'"]),
    "time(3) without time zone": Values(["'00:00:00'", "'23:59:59.999'", "'24:00:00'"]),
    "time with time zone": Values(
        ["'00:00:00+00'", "'23:59:59.999999-15:59'", "'12:00:00+05:30'", "'24:00:00-15:59:59'"]
    ),
    "timestamp without time zone": Values(_MOMENTS + _MICROSECONDS, _DATES),
    "timestamp(3) without time zone": Values([*_MOMENTS, "'2024-02-29 12:34:56.789'"], _DATES),
    "timestamp with time zone": Values(_MOMENTS + _MICROSECONDS + _ZONED, _DATES),
    "timestamp(0) with time zone": Values(_MOMENTS + _ZONED, _DATES),
    "interval": Values([*_INTERVALS, "'-00:00:00.000001'"]),
    "interval(3)": Values(_INTERVALS),
    "json": Values(
        [*_JSON, "'-0'", "' [1 ,2]\n'", "'1E+2'", r"""'"\u0000"'"""],
        {
            **_JSONB,
            Extreme.KEY_TWICE: ['\'{"a": 1, "a": 2}\'', '\'[{"x": {"a": 1, "b": 0, "a": 1}}]\''],
            Extreme.NUL_IN_KEY: [r"""'{"a\u0000b": 1}'"""],
            Extreme.HALF_SURROGATE: [r"""'"\ud800"'""", r"""'{"\udc00": 1}'"""],
        },
    ),
    "jsonb": Values(_JSON, _JSONB),
    "bit(3)": Values(["B'000'", "B'101'"]),
    "bit varying": Values(["B''", "B'0'", "repeat('10', 100)::varbit"]),
}
VALUES.update(ARRAYS | NATIVE)
