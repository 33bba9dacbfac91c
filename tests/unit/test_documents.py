"""Columns made of documents: what each declared type takes, and what it refuses."""

from __future__ import annotations

import json
from decimal import Context, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_sync.core.declared_types import parse_type
from worker_sync.core.document_values import NotThisType, converter
from worker_sync.core.documents import Unfolding
from worker_sync.core.errors import Unrepresentable
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.table_rules import DocumentField
from worker_sync.core.text import parse_json
from worker_sync.core.values import UNCHANGED, Row

COLLECTION = TableSchema(
    TableName("", "orders"),
    (Column("_id", Type(Kind.TEXT, "bson"), nullable=False), Column("document", Type(Kind.JSON, "bson"))),
    ("_id",),
    "mongodb",
)
UUID = "0b5c0f58-7a3c-4a51-9d0c-2f6a5f6f7a11"
UUID_BINARY = '{"$binary": {"base64": "C1wPWHo8SlGdDC9qX296EQ==", "subType": "04"}}'


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("boolean", "true", True),
        ("smallint", "-32768", -32768),
        ("integer", '{"$numberInt": "5"}', 5),
        ("bigint", '{"$numberLong": "9223372036854775807"}', 2**63 - 1),
        ("bigint", "5.0", 5),
        ("bigint", '{"$numberDecimal": "1E+3"}', 1000),
        ("double", "1.5", 1.5),
        ("double", "3", 3.0),
        ("double", '{"$numberDouble": "-Infinity"}', float("-inf")),
        ("decimal(12, 2)", "19.9", "19.90"),
        ("decimal(12, 2)", '{"$numberDecimal": "-0.00"}', "0.00"),
        ("decimal(3)", "999", "999"),
        ("decimal(4, 4)", "0.1234", "0.1234"),
        ("text", '"five"', "five"),
        ("text", '{"$oid": "65e0a1b2c3d4e5f601234567"}', "65e0a1b2c3d4e5f601234567"),
        ("varchar(4)", '"five"', "five"),
        ("bytes", '{"$binary": {"base64": "AAE=", "subType": "00"}}', b"\x00\x01"),
        ("uuid", UUID_BINARY, UUID),
        ("uuid", json.dumps(UUID.upper()), UUID),
        ("date", '{"$date": "2024-02-29T00:00:00Z"}', "2024-02-29"),
        ("date", '"2024-02-29"', "2024-02-29"),
        ("timestamptz", '{"$date": "2024-02-29T12:00:00.123Z"}', "2024-02-29 12:00:00.123+00"),
        ("timestamptz", '{"$date": {"$numberLong": "-1"}}', "1969-12-31 23:59:59.999+00"),
        ("json", '{"a": [1, 2.50, {"$oid": "x"}]}', '{"a": [1, 2.50, {"$oid": "x"}]}'),
    ],
)
def test_a_value_is_taken_exactly(type_: str, text: str, expected: Any) -> None:
    found = converter(parse_type(type_))(parse_json(text))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("boolean", "1"),
        ("integer", "2147483648"),
        ("integer", "1.5"),
        ("integer", "true"),
        ("integer", '"5"'),
        ("bigint", '{"$numberDecimal": "1E+6000"}'),
        ("bigint", '{"$numberDouble": "NaN"}'),
        ("double", '{"$numberDecimal": "0.12345678901234567890123"}'),
        ("double", '{"$numberLong": "9007199254740993"}'),
        ("double", '"1.5"'),
        ("decimal(4, 2)", "100"),
        ("decimal(4, 2)", "0.125"),
        ("decimal(4, 2)", '{"$numberDecimal": "NaN"}'),
        ("decimal(4, 2)", '{"$numberDecimal": "1E-6000"}'),
        ("text", "5"),
        ("text", "{}"),
        ("varchar(3)", '"five"'),
        ("bytes", '"AAE="'),
        ("bytes", '{"$binary": {"base64": "?", "subType": "00"}}'),
        ("uuid", '"five"'),
        ("uuid", UUID_BINARY.replace('"04"', '"00"')),
        ("date", '{"$date": "2024-02-29T00:00:01Z"}'),
        ("date", '"2024-02-30"'),
        ("timestamptz", '"2024-02-29T12:00:00Z"'),
        ("timestamptz", '{"$date": {"$numberLong": "9223372036854775807"}}'),
    ],
)
def test_what_does_not_fit_exactly_is_refused(type_: str, text: str) -> None:
    with pytest.raises(NotThisType, match=r"^(no|a) "):
        converter(parse_type(type_))(parse_json(text))


@given(st.integers(1, 40), st.integers(0, 40), st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_keeps_its_value_or_is_refused(precision: int, scale: int, number: Decimal) -> None:
    scale = min(scale, precision)
    convert = converter(parse_type(f"decimal({precision}, {scale})"))
    try:
        text = convert({"$numberDecimal": str(number)})
    except NotThisType:
        # The usual context would round.
        _, digits, exponent = number.normalize(Context(prec=10_000)).as_tuple()
        assert isinstance(exponent, int)
        assert -exponent > scale or len(digits) + exponent > precision - scale
    else:
        assert Decimal(text) == number
        assert len(text.partition(".")[2]) == scale


@given(st.integers())
def test_an_integer_keeps_its_value_or_is_refused(number: int) -> None:
    convert = converter(parse_type("bigint"))
    if -(2**63) <= number < 2**63:
        assert convert(number) == convert({"$numberLong": str(number)}) == number
    else:
        with pytest.raises(NotThisType):
            convert(number)


def unfolding(rest: str | None = None, **fields: dict[str, Any]) -> Unfolding:
    return Unfolding(COLLECTION, {name: DocumentField.model_validate(f) for name, f in fields.items()}, rest)


def unfolded(document: Any, rest: str | None = None, /, **fields: dict[str, Any]) -> Row:
    return unfolding(rest, **fields)(("7", document if document is UNCHANGED else json.dumps(document)))


def test_fields_are_found_by_path_and_the_rest_is_kept() -> None:
    document = {"_id": 7, "a": {"b": 1, "c": 2}, "d": "x", "e": [1]}
    fields = {"b": {"path": "a.b", "type": "integer"}, "d": {"type": "text"}}
    assert unfolded(document, "more", **fields) == ("7", 1, "x", '{"a": {"c": 2}, "e": [1]}')
    assert unfolded(document, **fields) == ("7", 1, "x")


def test_one_field_may_lie_inside_another() -> None:
    document = {"a": {"b": 1}}
    fields = {"whole": {"path": "a", "type": "json"}, "part": {"path": "a.b", "type": "integer"}}
    assert unfolded(document, "more", **fields) == ("7", '{"b": 1}', 1, "{}")


def test_null_is_null_and_missing_is_not() -> None:
    assert unfolded({"a": None}, a={"type": "text"}) == ("7", None)
    with pytest.raises(Unrepresentable, match="collection orders, _id 7: a is missing"):
        unfolded({}, a={"type": "text"})
    with pytest.raises(Unrepresentable, match=r"a\.b is missing"):
        unfolded({"a": [{"b": 1}]}, a={"path": "a.b", "type": "text"})


def test_missing_is_null_where_that_is_declared() -> None:
    assert unfolded({}, a={"type": "text", "missing": None}) == ("7", None)
    assert unfolded({"a": 5}, a={"path": "a.b", "type": "text", "missing": "null"}) == ("7", None)


def test_a_document_that_was_not_sent_leaves_every_column_unchanged() -> None:
    assert unfolded(UNCHANGED, "more", a={"type": "text"}) == ("7", UNCHANGED, UNCHANGED)


def test_a_wrapped_document_is_unwrapped() -> None:
    assert unfolded({"@json": {"$oid": "x"}}, id={"path": "$oid", "type": "text"}) == ("7", "x")


@pytest.mark.parametrize("document", ["[1]", '"x"', "not json", '{"a": 1, "a": 2}'])
def test_what_is_no_document_is_refused(document: str) -> None:
    with pytest.raises(Unrepresentable, match="the document is"):
        unfolding(a={"type": "text", "missing": None})(("7", document))


def test_the_declared_columns_are_the_table() -> None:
    table = unfolding("more", a={"type": "decimal(5, 1)"}).table
    assert [(c.name, c.type.kind, c.nullable) for c in table.columns] == [
        ("_id", Kind.TEXT, False),
        ("a", Kind.DECIMAL, True),
        ("more", Kind.JSON, False),
    ]
    assert (table.key, table.engine) == (("_id",), "mongodb")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dezimal(5, 1)", "no type 'dezimal'; did you mean 'decimal'"),
        ("decimal", "write decimal"),
        ("decimal(5, 6)", "1 to 65 digits"),
        ("varchar", "varchar needs its length"),
        ("text(5)", "text takes no length"),
        ("int[]", "not a type"),
    ],
)
def test_a_type_that_is_none_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_type(text)
