"""Extreme canonical values of each kind, with the PostgreSQL type that announces them."""

from __future__ import annotations

from typing import Any, Final

from connectors.base import Sink
from tests.contract.sink_target import INT, table_schema
from worker_sync.core.schema import Column, Kind, TableSchema, Type
from worker_sync.core.values import Row

_INT4 = Type(Kind.INT, "integer", size=32)

EXTREMES: Final[dict[Kind, list[tuple[Type, list[Any]]]]] = {
    Kind.BOOL: [(Type(Kind.BOOL, "boolean"), [True, False, None])],
    Kind.INT: [
        (Type(Kind.INT, "smallint", size=16), [-(2**15), 0, 2**15 - 1]),
        (_INT4, [-(2**31), 0, 2**31 - 1]),
        (INT, [-(2**63), 0, 2**63 - 1]),
    ],
    Kind.FLOAT: [
        (
            Type(Kind.FLOAT, "double precision", size=64),
            [0.0, -0.0, 5e-324, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"), 0.1],
        ),
        (Type(Kind.FLOAT, "real", size=32), [0.5, -3.4028235e38, 1e-45, float("nan")]),
    ],
    Kind.DECIMAL: [
        (Type(Kind.DECIMAL, "numeric"), ["0", "-12.50", "9" * 60 + "." + "1" * 60, "NaN", "Infinity", "-Infinity"]),
        (Type(Kind.DECIMAL, "numeric(12,2)", precision=12, scale=2), ["9999999999.99", "-0.01", "NaN"]),
    ],
    Kind.TEXT: [
        (
            Type(Kind.TEXT, "text"),
            ["", "\\N", "\\", "\\.", "a\tb\nc\rd", "\x01\x7f", "é漢🙂", "'\"$1%s", "x" * 100_000, " \n", None],
        )
    ],
    Kind.BYTES: [(Type(Kind.BYTES, "bytea"), [b"", b"\x00", bytes(range(256)), b"\\x41", b"\xff" * 5000, None])],
    Kind.UUID: [
        (Type(Kind.UUID, "uuid"), ["00000000-0000-0000-0000-000000000000", "f" * 8 + "-ffff" * 3 + "-" + "f" * 12])
    ],
    Kind.DATE: [(Type(Kind.DATE, "date"), ["4713-01-01 BC", "0001-01-01", "5874897-12-31", "infinity", "-infinity"])],
    Kind.TIME: [(Type(Kind.TIME, "time without time zone"), ["00:00:00", "23:59:59.999999", "24:00:00"])],
    Kind.TIMETZ: [
        (Type(Kind.TIMETZ, "time with time zone"), ["00:00:00+00", "23:59:59.999999-15:59", "12:00:00+05:30"])
    ],
    Kind.TIMESTAMP: [
        (
            Type(Kind.TIMESTAMP, "timestamp without time zone"),
            [
                "4713-01-01 00:00:00 BC",
                "2024-02-29 12:34:56.789",
                "294276-12-31 23:59:59.999999",
                "infinity",
                "-infinity",
            ],
        )
    ],
    Kind.TIMESTAMPTZ: [
        (
            Type(Kind.TIMESTAMPTZ, "timestamp with time zone"),
            ["4713-01-01 00:00:00+00 BC", "2024-02-29 12:34:56.789+00", "294276-12-31 23:59:59.999999+00", "infinity"],
        )
    ],
    Kind.INTERVAL: [
        (Type(Kind.INTERVAL, "interval"), ["PT0S", "P1Y2M-3DT4H5M6.7S", "P-178000000Y", "P10675199DT-0.000001S"])
    ],
    Kind.JSON: [
        (Type(Kind.JSON, "json"), ["null", '{"b": 1,  "a": [1e2, "\\u00e9\\n"]}', '"\\\\"', "1.50", None]),
        (Type(Kind.JSON, "jsonb"), ['{"a": [1, 2.50, "é"], "b": null}', "[]", '"\\\\"']),
    ],
    Kind.ARRAY: [
        (Type(Kind.ARRAY, "integer[]", element=_INT4), ["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[2:3]={7,8}", None]),
        (
            Type(Kind.ARRAY, "text[]", element=Type(Kind.TEXT, "text")),
            ['{"a,b","\\"","\\\\",NULL,"NULL",""}', '{"\t\n"}'],
        ),
    ],
    Kind.BIT: [(Type(Kind.BIT, "bit varying"), ["", "0", "1" * 70]), (Type(Kind.BIT, "bit(3)", size=3), ["101"])],
    Kind.NATIVE: [(Type(Kind.NATIVE, "int4range"), ["[1,5)", "empty", "(,)"]), (Type(Kind.NATIVE, "inet"), ["::1/64"])],
    Kind.ENUM: [(Type(Kind.ENUM, "public.mood", labels=("it's", "so\\so", "")), ["it's", "so\\so", "", None])],
}


def extremes_table(sink: Sink, kind: Kind, height: int) -> tuple[TableSchema, list[Row]]:
    """A table with a column per type of `kind`, and at least `height` rows that hold all of its values."""
    types = EXTREMES[kind]
    columns = [Column(f"c{number}", type_) for number, (type_, _) in enumerate(types)]
    schema = table_schema(f"extremes_{height}", Column("id", INT, False), *columns)
    height = max(height, *(len(values) for _, values in types))
    rows = [(number, *(values[number % len(values)] for _, values in types)) for number in range(height)]
    return sink.map_table(schema, None), rows
