"""Text forms: what is written reads back, what can't be read is refused."""

from __future__ import annotations

import json
import math
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_sync.core import text

elements = st.none() | st.text()
#: The dimensions of an array are as long everywhere; a list of lists of any length is read and written as well.
arrays = st.recursive(st.lists(elements), lambda inner: st.lists(inner, min_size=1), max_leaves=12)
moments = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59, 999999))  # noqa: DTZ001
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(arrays)
def test_an_array_reads_back(array: list[Any]) -> None:
    assert text.parse_array(text.format_array(array)) == array


@pytest.mark.parametrize(
    ("literal", "array"),
    [
        ("{}", []),
        ("{NULL,null}", [None, None]),
        ('{"NULL",""}', ["NULL", ""]),
        ("{{1,2},{3,NULL}}", [["1", "2"], ["3", None]]),
        (r'{"a\"b","c\\d","{e}","f,g"," h "}', ['a"b', r"c\d", "{e}", "f,g", " h "]),
        ('{ "a" , b c }', ["a", "b c"]),
        ('{"b c",\u00a0a\u2003}', ["b c", "\u00a0a\u2003"]),
        ('{"2024-01-01 10:00:00+00"}', ["2024-01-01 10:00:00+00"]),
    ],
)
def test_an_array_literal_is_read_as_postgresql_writes_it(literal: str, array: list[Any]) -> None:
    assert text.parse_array(literal) == array


def test_quotes_are_put_where_postgresql_puts_them() -> None:
    array = ["a", "NULL", "", "b c", 'd"e', None, ["x,y"]]
    assert text.format_array(array) == r'{a,"NULL","","b c","d\"e",NULL,{"x,y"}}'


@pytest.mark.parametrize(
    "literal",
    ["", "1", "{", "}", "{1", "1}", "{1}}", "{1}{2}", "{,}", "{1,}", '{"a}', "{1 {2}}", "{{1},", "[0:1]={1,2}"],
)
def test_what_is_no_array_literal_is_refused(literal: str) -> None:
    with pytest.raises(ValueError, match="array"):
        text.parse_array(literal)


@given(moments)
def test_a_timestamp_reads_back(moment: datetime) -> None:
    assert text.parse_timestamp(text.format_timestamp(moment)) == moment
    assert text.parse_timestamptz(text.format_timestamptz(moment)) == moment


@given(moments)
def test_microseconds_read_back(moment: datetime) -> None:
    assert text.from_microseconds(text.to_microseconds(moment)) == moment


@given(st.dates())
def test_a_date_reads_back(date: Any) -> None:
    assert text.format_date(text.parse_date(date.isoformat())) == date.isoformat()


def test_the_fraction_has_no_trailing_zeros() -> None:
    assert text.format_timestamp(text.parse_timestamp("2024-02-29 23:59:59.5")) == "2024-02-29 23:59:59.5"
    assert text.format_timestamp(text.parse_timestamp("2024-02-29 00:00:00")) == "2024-02-29 00:00:00"


@pytest.mark.parametrize(
    "value", ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC", "2024-02-30", "", "2024-1-1"]
)
def test_a_date_without_a_datetime_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="date"):
        text.parse_date(value)


@pytest.mark.parametrize(
    "value", ["infinity", "-infinity", "10000-01-01 00:00:00", "0044-03-15 12:00:00 BC", "2024-01-01T10:00:00"]
)
def test_a_timestamp_without_a_datetime_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="timestamp"):
        text.parse_timestamp(value)
    with pytest.raises(ValueError, match="timestamp"):
        text.parse_timestamptz(value + "+00")


def test_a_timestamp_of_another_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="UTC"):
        text.parse_timestamptz("2024-01-01 10:00:00+02")


def test_microseconds_outside_the_years_1_to_9999_are_refused() -> None:
    with pytest.raises(ValueError, match="years"):
        text.from_microseconds(1 << 62)


@given(st.floats())
def test_a_float_reads_back(value: float) -> None:
    back = float(text.format_float(value).replace("Infinity", "inf"))
    assert back == value or (math.isnan(back) and math.isnan(value))


@pytest.mark.parametrize(
    ("value", "size", "shown"),
    [
        (1.0, 64, "1"),
        (-0.0, 64, "-0"),
        (0.1, 64, "0.1"),
        (1e14, 64, "100000000000000"),
        (1e15, 64, "1e+15"),
        (1.5e300, 64, "1.5e+300"),
        (0.0001, 64, "0.0001"),
        (0.00001, 64, "1e-05"),
        (1e6, 32, "1e+06"),
        (123456.0, 32, "123456"),
        (float("-inf"), 64, "-Infinity"),
    ],
)
def test_a_float_is_written_as_postgresql_does(value: float, size: int, shown: str) -> None:
    assert text.format_float(value, size) == shown


@given(json_values)
def test_json_reads_back(value: Any) -> None:
    written = text.format_json(value)
    assert json.loads(written) == value
    assert text.parse_json(written) == value or isinstance(text.parse_json(written), Decimal)


@pytest.mark.parametrize(
    "written",
    [
        "null",
        "1.50",
        "12345678901234567890123456789012345678901234567890",
        "0.1000000000000000000000000000000000000000001",
        '{"b": [1, 2.5, 1.0], "a": {"é": "\\"\\u0000"}}',
    ],
)
def test_json_keeps_every_digit_and_the_order_of_keys(written: str) -> None:
    assert text.format_json(text.parse_json(written)) == written


@pytest.mark.parametrize("written", ["", "{", "NaN", "[Infinity]", '{"a": 1, "a": 2}', "[" * 100_000])
def test_json_that_would_be_changed_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        text.parse_json(written)
