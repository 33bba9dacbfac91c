"""Canonical values as BSON: each kind with its extremes, through the driver's own encoder and decoder."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.decimal128 import Decimal128
from bson.int64 import Int64

from connectors.mongodb.conn import PLAIN, RAW
from connectors.mongodb.documents import codec_of
from worker_sync.core.errors import Halt, Unrepresentable
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED

BIGINT = Type(Kind.INT, size=64)
TEXT = Type(Kind.TEXT)


def array_of(element: Type) -> Type:
    return Type(Kind.ARRAY, element=element)


def table(*columns: Column, key: tuple[str, ...] = ("id",)) -> TableSchema:
    return TableSchema(TableName("", "things"), columns, key)


def stored(type_: Type, value: Any) -> Any:
    """The value as BSON, as the driver reads it from a document's bytes."""
    schema = table(Column("id", BIGINT), Column("value", type_))
    return bson.decode(bson.encode(codec_of(schema).document((1, value))), PLAIN)["value"]


def round_trip(type_: Type, value: Any) -> Any:
    codec = codec_of(table(Column("id", BIGINT), Column("value", type_)))
    options: Any = RAW if codec.nested else PLAIN
    key, back = codec.row(bson.decode(bson.encode(codec.document((1, value))), options))
    assert key == 1
    return back


CASES: list[tuple[Type, list[Any]]] = [
    (Type(Kind.BOOL), [True, False]),
    (Type(Kind.INT, size=16), [-32768, 32767]),
    (Type(Kind.INT, size=32), [-(1 << 31), (1 << 31) - 1]),
    (BIGINT, [-(1 << 63), (1 << 63) - 1, 0]),
    (Type(Kind.INT, size=64, unsigned=True), [0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]),
    (Type(Kind.FLOAT, size=64), [0.1, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf")]),
    (
        Type(Kind.DECIMAL),
        ["0", "0.00", "-12.50", "9" * 34, "-0." + "0" * 30 + "1", "1" + "0" * 60, "NaN", "Infinity", "-Infinity"],
    ),
    (TEXT, ["", "é\u0000\U0001f600", "x" * 100_000]),
    (Type(Kind.ENUM, labels=("sad", "ok")), ["sad"]),
    (Type(Kind.BYTES), [b"", bytes(range(256))]),
    (Type(Kind.UUID), ["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    (Type(Kind.DATE), ["0001-01-01", "1969-12-31", "2024-02-29", "9999-12-31"]),
    (Type(Kind.TIME), ["00:00:00", "23:59:59.999999", "24:00:00"]),
    (Type(Kind.TIMETZ), ["23:59:59.999999-15:59:59"]),
    (
        Type(Kind.TIMESTAMP),
        [
            "0001-01-01 00:00:00",
            "2024-01-01 10:00:00.123456",
            "infinity",
            "294276-12-31 23:59:59",
            "4713-01-01 00:00:00 BC",
        ],
    ),
    (Type(Kind.TIMESTAMP, precision=3), ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999", "1969-12-31 23:59:59.5"]),
    (Type(Kind.TIMESTAMPTZ), ["2024-01-01 10:00:00.123456+00", "-infinity"]),
    (Type(Kind.TIMESTAMPTZ, precision=0), ["2024-01-01 10:00:00+00"]),
    (Type(Kind.INTERVAL), ["P1Y2M-3DT4H5M6.7S"]),
    (Type(Kind.BIT), ["", "0101"]),
    (Type(Kind.NATIVE, "point"), ["(1,2)"]),
    (
        Type(Kind.JSON),
        [
            "null",
            "true",
            '"text"',
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "1.50",
            "0.1",
            "[]",
            "{}",
            '{"@json": null}',
            '{"@json": {"@json": 1}}',
            '{"$ref": "#/a", "$id": 1, "": [null, {"a.b": [1.0, 100000000000000000000]}]}',
        ],
    ),
    (array_of(BIGINT), ["{}", "{1,NULL,-9223372036854775808}", "{{1,2},{3,4}}"]),
    (array_of(Type(Kind.BOOL)), ["{t,f,NULL}"]),
    (array_of(Type(Kind.FLOAT, size=64)), ["{1,0.1,1e+20,NaN,-Infinity,NULL}"]),
    (array_of(Type(Kind.DECIMAL)), ["{1.50,NaN}"]),
    (array_of(TEXT), [r'{a,"","NULL",NULL,"b c","{\"}"}']),
    (array_of(Type(Kind.BYTES)), [r'{"\\x","\\x00ff"}']),
    (array_of(Type(Kind.UUID)), ["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"]),
    (array_of(Type(Kind.DATE)), ["{2024-02-29}"]),
    (array_of(Type(Kind.TIMESTAMPTZ)), ['{"2024-01-01 10:00:00.123456+00",infinity}']),
    (array_of(Type(Kind.JSON)), [r'{"{\"a\": [1, null]}","null",NULL,"[1, 2]"}']),
]


@pytest.mark.parametrize(
    ("type_", "value"), [pytest.param(t, v, id=f"{t.kind}-{str(v)[:24]!r}") for t, values in CASES for v in values]
)
def test_a_value_reads_back(type_: Type, value: Any) -> None:
    back = round_trip(type_, value)
    assert back == value
    assert type(back) is type(value)
    assert math.copysign(1, back) == math.copysign(1, value) if isinstance(value, float) else True


def test_nan_reads_back() -> None:
    assert math.isnan(round_trip(Type(Kind.FLOAT), float("nan")))


@pytest.mark.parametrize("type_", [t for t, _ in CASES], ids=lambda t: f"{t.kind}")
def test_null_is_a_field_of_its_own(type_: Type) -> None:
    schema = table(Column("id", BIGINT), Column("value", type_))
    assert codec_of(schema).document((1, None)) == {"_id": 1, "value": None}
    assert round_trip(type_, None) is None


@pytest.mark.parametrize(
    ("type_", "value", "bson_value"),
    [
        (Type(Kind.INT, size=64, unsigned=True), 1 << 63, Decimal128(str(1 << 63))),
        (Type(Kind.DECIMAL), "-12.50", Decimal128("-12.50")),
        (
            Type(Kind.UUID),
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            Binary(bytes.fromhex("a0eebc999c0b4ef8bb6d6bb9bd380a11"), 4),
        ),
        (Type(Kind.JSON), "[1, 1.5, 1.50]", [1, 1.5, Decimal128("1.50")]),
        (Type(Kind.JSON), "null", {"@json": None}),
        (array_of(BIGINT), "{1,NULL}", [1, None]),
    ],
    ids=str,
)
def test_a_value_has_the_published_bson_type(type_: Type, value: Any, bson_value: Any) -> None:
    assert stored(type_, value) == bson_value


def test_whole_numbers_have_the_width_of_their_column() -> None:
    assert type(stored(BIGINT, 1)) is Int64
    assert type(stored(Type(Kind.INT, size=32), 1)) is int
    assert type(stored(Type(Kind.INT, size=32, unsigned=True), 1)) is Int64
    assert type(stored(Type(Kind.JSON), "1")) is Int64
    assert type(stored(array_of(BIGINT), "{1}")[0]) is Int64


def test_dates_and_timestamps_of_milliseconds_are_bson_dates() -> None:
    assert stored(Type(Kind.DATE), "2024-02-29").as_datetime() == bson_date(2024, 2, 29)
    assert stored(Type(Kind.TIMESTAMPTZ, precision=3), "2024-02-29 12:00:00.25+00").as_datetime() == bson_date(
        2024, 2, 29, 12, 0, 0, 250_000
    )


def bson_date(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Type(Kind.DECIMAL), "1" * 35),
        (Type(Kind.DECIMAL), "0." + "1" * 35),
        (Type(Kind.DECIMAL), "1." + "0" * 40),
        (Type(Kind.DATE), "infinity"),
        (Type(Kind.DATE), "0044-03-15 BC"),
        (Type(Kind.DATE), "10000-01-01"),
        (Type(Kind.TIMESTAMP, precision=3), "infinity"),
        (Type(Kind.TIMESTAMP, precision=3), "0044-03-15 00:00:00 BC"),
        (Type(Kind.TIMESTAMP, precision=3), "2024-01-01 00:00:00.123456"),
        (Type(Kind.JSON), "1" * 40),
        (Type(Kind.JSON), '{"a": 1, "a": 2}'),
        (Type(Kind.JSON), r'"\ud800"'),
        (Type(Kind.JSON), r'{"a\u0000b": 1}'),
        (array_of(BIGINT), "[0:1]={1,2}"),
        (array_of(Type(Kind.DATE)), "{2024-01-01,infinity}"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_value_without_a_form_is_refused_by_the_name_of_its_column(type_: Type, value: str) -> None:
    codec = codec_of(table(Column("id", BIGINT), Column("value", type_)))
    for row in ((1, value), (UNCHANGED, value)):
        with pytest.raises(Unrepresentable, match="things, column value") as refusal:
            codec.document(row)
        assert value not in str(refusal.value) or value == "infinity"


def test_a_key_of_one_column_is_the_id_and_not_repeated() -> None:
    codec = codec_of(table(Column("name", TEXT), Column("id", BIGINT)))
    assert codec.document(("a", 1)) == {"name": "a", "_id": 1}
    assert codec.identifier((1,)) == 1
    assert codec.row({"_id": Int64(1), "name": "a"}) == ("a", 1)


def test_a_key_of_several_columns_is_a_document_in_key_order() -> None:
    codec = codec_of(table(Column("a", TEXT), Column("b", BIGINT), Column("c", TEXT), key=("c", "b")))
    document = codec.document(("x", 1, "y"))
    assert list(document["_id"].items()) == [("c", "y"), ("b", 1)]
    assert {name: value for name, value in document.items() if name != "_id"} == {"a": "x"}
    assert codec.identifier(("y", 1)) == document["_id"]
    assert codec.row(document) == ("x", 1, "y")


def test_an_unchanged_column_has_no_field() -> None:
    codec = codec_of(table(Column("id", BIGINT), Column("a", TEXT), Column("b", Type(Kind.JSON))))
    assert codec.document((1, UNCHANGED, None)) == {"_id": 1, "b": None}


def test_a_value_that_no_apply_wrote_reads_as_a_difference_not_as_an_error() -> None:
    codec = codec_of(table(Column("id", BIGINT), Column("a", TEXT), Column("b", Type(Kind.DATE)), Column("c", BIGINT)))
    row = codec.row({"_id": Int64(1), "a": Int64(5), "b": "2024-01-01"})
    assert row == (1, "Int64(5)", "str(2024-01-01)", None)


@pytest.mark.parametrize(
    "schema",
    [
        table(Column("id", BIGINT), Column("a.b", TEXT)),
        table(Column("id", BIGINT), Column("$a", TEXT)),
        table(Column("id", BIGINT), Column("_id", TEXT)),
        table(Column("id", array_of(BIGINT))),
        table(Column("id", Type(Kind.JSON))),
        table(Column("_id", BIGINT), key=()),
    ],
    ids=lambda schema: " ".join(column.name for column in schema.columns) + f" {schema.columns[0].type.kind}",
)
def test_a_table_that_documents_cannot_hold_is_refused(schema: TableSchema) -> None:
    with pytest.raises(Halt):
        codec_of(schema)
