"""Values of PostgreSQL's arrays and of its types that travel as text, as SQL."""

from __future__ import annotations

from typing import Final

from connectors.matrix import Extreme
from tests.matrix.samples import Values

_FLOATS: Final = {Extreme.NEGATIVE_ZERO: ["'{-0,0}'"]}
_NUMBERS: Final = {Extreme.NAN: ["'{1,NaN}'"], Extreme.INFINITE_NUMBER: ["'{Infinity,-Infinity,NULL}'"]}
_MOMENTS: Final = {
    Extreme.INFINITE_DATE: ["'{infinity,NULL,-infinity}'"],
    Extreme.BEFORE_YEAR_1: ["'{2024-01-01,\"0044-03-15 BC\"}'"],
    Extreme.AFTER_YEAR_9999: ["'{10000-01-01}'"],
}


def _bounded(literal: str) -> dict[Extreme, list[str]]:
    return {Extreme.LOWER_BOUND: [f"'[0:1]={{{literal},{literal}}}'", f"'[2:2][-1:-1]={{{{{literal}}}}}'"]}


ARRAYS: Final[dict[str, Values]] = {
    "boolean[]": Values(["'{}'", "'{t,NULL,f}'"], _bounded("t")),
    "integer[]": Values(["'{}'", "'{1,NULL,-2147483648}'", "'{{1,2},{3,4}}'", "'{{{1}}}'"], _bounded("7")),
    "bigint[]": Values(["'{9223372036854775807,9007199254740993}'"], _bounded("7")),
    "real[]": Values(["'{0.1,1e-45,3.4028235e38,123456,1e6}'"], _bounded("0.5") | _NUMBERS | _FLOATS),
    "double precision[]": Values(["'{0.1,5e-324,1e15,1e16,123456789012345}'"], _bounded("0.5") | _NUMBERS | _FLOATS),
    "numeric[]": Values(
        ["'{1.50,-0.00,1e20}'"], {**_bounded("1.0"), **_NUMBERS, Extreme.DIGITS: [f"'{{{'9' * 35}}}'"]}
    ),
    "text[]": Values(
        [
            "'{}'", r"""'{a,"","NULL",NULL,"null","b c","{","}",",","\"","\\"}'""", r"""E'{"\t\n","é漢🙂"}'""",
            "ARRAY[E'\\u00a0 x', E'\\u00a0a\\u00a0', E'\\u2003b', E'\\x1cc\\x1f', E'd\\u0085']", "ARRAY[E'\\u00a0']",
            "'{{a,b},{NULL,\"c d\"}}'", "ARRAY['', ' ', 'ﬀ', 'nUlL']",
        ],
        _bounded("a"),
    ),
    "public.mood[]": Values([r"""'{it''s,so\\so,"","NULL",NULL}'"""], _bounded("it''s")),
    "bytea[]": Values([r"""'{"\\x","\\x00ff",NULL}'"""], _bounded(r'"\\x00"')),
    "uuid[]": Values(
        ["'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}'"], _bounded("00000000-0000-0000-0000-000000000000")
    ),
    "date[]": Values(
        ["'{2024-02-29,0001-01-01,NULL}'"],
        _bounded("2024-01-01") | _MOMENTS,
    ),
    "timestamp without time zone[]": Values(["'{\"2024-02-29 12:34:56.000001\"}'"], _bounded("2024-01-01") | _MOMENTS),
    "timestamp with time zone[]": Values(
        ["'{\"2024-02-29 12:34:56.000001+05:30\"}'"], _bounded("2024-01-01") | _MOMENTS
    ),
    "interval[]": Values(["'{1 year -2 days,-00:00:00.000001}'"], _bounded("1 day")),
    "jsonb[]": Values(
        [r"""'{"{\"a\": [1, null]}","null",NULL,"[1, 2]","\"x\"",1.50}'"""],
        {
            **_bounded("1"),
            Extreme.DIGITS: [f"'{{{'9' * 40}}}'"],
            Extreme.HUGE_IN_JSON: ["'{1e400}'"],
            Extreme.DEPTH_31: ["ARRAY[(repeat('[', 32) || repeat(']', 32))::jsonb]"],
            Extreme.DEPTH_100: ["ARRAY[(repeat('[', 101) || repeat(']', 101))::jsonb]"],
            Extreme.DEPTH_180: ["ARRAY[(repeat('[', 180) || repeat(']', 180))::jsonb]"],
        },
    ),
    "point[]": Values(["'{\"(1,-0)\",\"(NaN,Infinity)\"}'"], _bounded('"(1,2)"')),
    "int4range[]": Values(["'{\"[1,5)\",empty,\"(,)\"}'"], _bounded("empty")),
}  # fmt: skip

NATIVE: Final[dict[str, Values]] = {
    '"char"': Values(["'a'", "''", r"'\377'"]),
    "money": Values(["'-92233720368547758.08'", "'1234567.89'", "0"]),
    "oid": Values(["0", "4294967295"]),
    "int2vector": Values(["'1 -2 3'"]),
    "pg_lsn": Values(["'0/0'", "'FFFFFFFF/FFFFFFFF'"]),
    "xid8": Values(["'18446744073709551615'"]),
    "regclass": Values(["'pg_class'"]),
    "pg_snapshot": Values(["'10:20:10,14,15'"]),
    "jsonpath": Values(["'$.a[*] ? (@ > 1)'"]),
    "inet": Values(["'::1/64'", "'192.168.0.1/24'", "'10.0.0.1'"]),
    "cidr": Values(["'192.168.0.0/24'", "'::/0'"]),
    "macaddr": Values(["'08:00:2b:01:02:03'"]),
    "macaddr8": Values(["'08:00:2b:01:02:03:04:05'"]),
    "point": Values(["'(1,-0)'", "'(0.1,1e300)'", "'(NaN,-Infinity)'"]),
    "line": Values(["'{1,2,3}'"]),
    "lseg": Values(["'[(0,0),(1,1)]'"]),
    "box": Values(["'(2,2),(0.1,0)'"]),
    "path": Values(["'[(0,0),(1,1)]'", "'((0,0),(1,1))'"]),
    "polygon": Values(["'((0,0),(1,1),(1,0))'"]),
    "circle": Values(["'<(0,0),1.5>'"]),
    "box[]": Values(["'{(2,2),(1,1);(4,4),(3,3)}'", "'{}'"]),
    "int4range": Values(["'[1,5)'", "'empty'", "'(,)'"]),
    "int8range": Values(["'[-9223372036854775808,9223372036854775807)'"]),
    "numrange": Values(["'(0.1,1.50]'", "'[NaN,NaN]'"]),
    "tsrange": Values(["'[2024-01-01 00:00:00.000001,infinity)'", "'(,0044-03-15 BC)'"]),
    "tstzrange": Values(["'[2024-01-01 00:00:00+05:30,)'"]),
    "daterange": Values(["'[2024-01-01,2024-02-01)'", "'[-infinity,infinity]'"]),
    "int4multirange": Values(["'{[1,2),[5,9)}'", "'{}'"]),
    "tstzmultirange": Values(["'{[2024-01-01,2024-02-01)}'"]),
    "tsvector": Values(["'a:1A fat:2B,4C ''it''''s'''"]),
    "tsquery": Values(["'fat & (rat | !cat:*)'"]),
    "public.hstore": Values(['\'a=>1, "b c"=>NULL, "q\\""=>"x"\'', "''"]),
    "public.pair": Values(["'(1,\"a, b\")'", "'(,)'"]),
}
