"""BSON as Extended JSON and back, and `_id`s as keys."""

from __future__ import annotations

import json
import math
from struct import pack
from typing import Any

import bson
import pytest
from bson import json_util
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mongodb.extjson import RESERVED, document_text
from connectors.mongodb.extjson_read import document_bytes
from connectors.mongodb.identifiers import identifier, key_of_value

OID = ObjectId("507f1f77bcf86cd799439011")

#: A value and its text (None: only the way back is tried).
FORMS: list[tuple[Any, str | None]] = [
    ('ü"\\\n\0🐘', '"ü\\"\\\\\\n\\u0000🐘"'),
    (5, "5"),
    (-(1 << 31), "-2147483648"),
    (Int64(5), '{"$numberLong": "5"}'),
    (Int64(-(1 << 63)), '{"$numberLong": "-9223372036854775808"}'),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (0.1, "0.1"),
    (1e300, "1e+300"),
    (math.inf, '{"$numberDouble": "Infinity"}'),
    (-math.inf, '{"$numberDouble": "-Infinity"}'),
    (math.nan, '{"$numberDouble": "NaN"}'),
    (Decimal128("1.50"), '{"$numberDecimal": "1.50"}'),
    (Decimal128("-9.999999999999999999999999999999999E+6144"), None),
    (Decimal128("NaN"), '{"$numberDecimal": "NaN"}'),
    (True, "true"),
    (None, "null"),
    (OID, '{"$oid": "507f1f77bcf86cd799439011"}'),
    (DatetimeMS(0), '{"$date": "1970-01-01T00:00:00Z"}'),
    (DatetimeMS(1769860800123), '{"$date": "2026-01-31T12:00:00.123Z"}'),
    (DatetimeMS(-1), '{"$date": {"$numberLong": "-1"}}'),
    (DatetimeMS(253402300800000), '{"$date": {"$numberLong": "253402300800000"}}'),
    (Binary(b"\x00\xff", 0), '{"$binary": {"base64": "AP8=", "subType": "00"}}'),
    (Binary(b"\x00\xff", 2), '{"$binary": {"base64": "AP8=", "subType": "02"}}'),
    (Binary(bytes(16), 4), '{"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}'),
    (Timestamp(4294967295, 1), '{"$timestamp": {"t": 4294967295, "i": 1}}'),
    (Regex("^a/", "im"), '{"$regularExpression": {"pattern": "^a/", "options": "im"}}'),
    (Code("f()"), '{"$code": "f()"}'),
    (Code("f()", {"a": 1}), '{"$code": "f()", "$scope": {"a": 1}}'),
    (MinKey(), '{"$minKey": 1}'),
    (MaxKey(), '{"$maxKey": 1}'),
    ([1, [], {"b": None}], '[1, [], {"b": null}]'),
    ({"z": 1, "a": {}}, '{"z": 1, "a": {}}'),
    ({"$ref": "people", "$id": OID}, '{"$ref": "people", "$id": {"$oid": "507f1f77bcf86cd799439011"}}'),
    ({"$oid": "not an ObjectId"}, '{"@json": {"$oid": "not an ObjectId"}}'),
    ({"$date": 1, "more": 2}, '{"@json": {"$date": 1, "more": 2}}'),
    ({"@json": 1}, '{"@json": {"@json": 1}}'),
    ({"@json": 1, "more": 2}, '{"@json": 1, "more": 2}'),
]


@pytest.mark.parametrize(("value", "text"), FORMS, ids=lambda value: repr(value)[:30])
def test_a_value_has_its_form_and_comes_back_as_the_same_bytes(value: Any, text: str | None) -> None:
    data = bson.encode({"v": value})
    written = document_text(data)
    assert text is None or written == f'{{"v": {text}}}'
    json.loads(written)
    assert document_bytes(written) == data


#: What drivers no longer write, and what they can't: undefined, DBPointer, symbol, a field that comes twice.
OLD = {
    "undefined": (b"\x06v\0", '{"v": {"$undefined": true}}'),
    "pointer": (
        b"\x0cv\0" + pack("<i", 2) + b"c\0" + OID.binary,
        '{"v": {"$dbPointer": {"$ref": "c", "$id": {"$oid": "507f1f77bcf86cd799439011"}}}}',
    ),
    "symbol": (b"\x0ev\0" + pack("<i", 2) + b"s\0", '{"v": {"$symbol": "s"}}'),
    "twice": (b"\x10v\0" + pack("<i", 1) + b"\x10v\0" + pack("<i", 2), '{"v": 1, "v": 2}'),
}


@pytest.mark.parametrize("name", OLD)
def test_what_no_driver_writes_comes_back_as_the_same_bytes(name: str) -> None:
    body, text = OLD[name]
    data = pack("<i", len(body) + 5) + body + b"\0"
    assert document_text(data) == text
    assert document_bytes(text) == data


DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20)
SCALARS = st.one_of(
    st.text(),
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.integers(-(1 << 63), (1 << 63) - 1).map(Int64),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.integers(-(1 << 62), 1 << 62).map(DatetimeMS),
    st.binary().map(lambda data: Binary(data, 5)),
    st.builds(Timestamp, st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)),
    DECIMALS.map(Decimal128),
)
NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.sampled_from(["@json", *sorted(RESERVED)]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_any_document_comes_back_as_the_same_bytes(document: dict[str, Any]) -> None:
    data = bson.encode(document)
    assert document_bytes(document_text(data)) == data


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), SCALARS, max_size=6))
def test_the_driver_reads_the_same_document_from_the_text(document: dict[str, Any]) -> None:
    data = bson.encode(document)
    options = json_util.JSONOptions(
        json_mode=json_util.JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS
    )
    assert bson.encode(json_util.loads(document_text(data), json_options=options)) == data


@pytest.mark.parametrize(
    "text",
    ["", "5", "[]", '{"v": NaN}', '{"v": {"$oid": 5}}', '{"v": {"$date": "yesterday"}}', '{"v": {"$binary": {}}}',
     '{"v": {"@json": 5}}', '{"v": {"$numberLong": "x"}}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        document_bytes(text)


def test_text_that_is_not_utf8_is_refused_without_quoting_it() -> None:
    body = b"\x02v\0" + pack("<i", 3) + b"\xff\xfe\0"
    with pytest.raises(ValueError, match=r"^text that is not UTF-8$"):
        document_text(pack("<i", len(body) + 5) + body + b"\0")


# -- keys

SAME_KEYS = [
    [1, Int64(1), 1.0, Decimal128("1"), Decimal128("1.00"), Decimal128("0.1E+1")],
    [0, -0.0, 0.0, Decimal128("-0.00")],
    [0.5, Decimal128("0.50")],
    [{"a": 1, "b": [2]}, {"a": 1.0, "b": [Int64(2)]}],
    [math.nan, Decimal128("NaN")],
    [math.inf, Decimal128("Infinity")],
    [Int64(1 << 62), float(1 << 62), Decimal128(str(1 << 62))],
]


@pytest.mark.parametrize("values", SAME_KEYS, ids=repr)
def test_numbers_that_are_the_same_key_to_mongodb_have_one_text(values: list[Any]) -> None:
    assert len({key_of_value(value) for value in values}) == 1


def test_values_that_mongodb_tells_apart_have_texts_of_their_own() -> None:
    values = [
        1, "1", 0.1, Decimal128("0.1"), True, "true", None, "null", "", {}, OID, str(OID), {"$oid": str(OID)},
        {"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, Binary(b"a", 0), Binary(b"a", 128), DatetimeMS(0),
        Timestamp(0, 0), MinKey(), MaxKey(), math.inf, 1e300, Decimal128("1E+300"), math.nextafter(1.0, 2.0),
        Decimal128("1E+6000"), {"a": []},
    ]  # fmt: skip
    assert len({key_of_value(value) for value in values}) == len(values)


@settings(deadline=None)
@given(SCALARS)
def test_a_key_stands_for_a_value_with_the_same_text(value: Any) -> None:
    text = key_of_value(value)
    assert key_of_value(identifier(text)) == text


def test_an_object_id_and_a_string_look_as_in_extended_json() -> None:
    assert key_of_value(OID) == '{"$oid": "507f1f77bcf86cd799439011"}'
    assert key_of_value("a b") == '"a b"'
