"""Masks: what they hide, what they keep, and what becomes of the column's type."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker_sync.core.masks import masked_column, masking, obstacle
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.shape import Shape
from worker_sync.core.table_rules import Mask
from worker_sync.core.values import UNCHANGED, Value

SECRET = "0123456789abcdef"
OTHER = "fedcba9876543210"

texts = st.text(max_size=40)
values = st.one_of(texts, st.binary(max_size=40), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats())


def mask(**given: Any) -> Mask:
    return Mask.model_validate(given)


@given(values)
def test_a_hash_is_deterministic_and_depends_on_the_secret(value: Value) -> None:
    one = masking(mask(method="hash", secret=SECRET))
    again = masking(mask(method="hash", secret=SECRET))
    other = masking(mask(method="hash", secret=OTHER))
    assert one(value) == again(value) != other(value)
    assert len(one(value)) == 64


@given(texts)
def test_a_hash_is_the_standard_one(value: str) -> None:
    expected = hmac.new(SECRET.encode(), value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    assert masking(mask(method="hash", secret=SECRET))(value) == expected


@given(texts, texts)
def test_different_texts_have_different_hashes(one: str, other: str) -> None:
    hashed = masking(mask(method="hash", secret=SECRET))
    assert (hashed(one) == hashed(other)) == (one == other)


def test_equal_values_of_different_types_have_equal_hashes() -> None:
    hashed = masking(mask(method="hash", secret=SECRET))
    assert hashed(5) == hashed("5") == hashed(b"5") == hashed(5.0)


@given(texts, st.integers(0, 5), st.integers(1, 5))
def test_partial_keeps_length_and_ends_and_never_a_whole_value(value: str, first: int, last: int) -> None:
    masked = masking(mask(method="partial", first=first, last=last))(value)
    assert len(masked) == len(value)
    if len(value) <= first + last:
        assert set(masked) <= {"*"}
    else:
        hidden = len(value) - first - last
        assert masked == value[:first] + "*" * hidden + value[first + hidden :]


@given(values)
def test_redact_and_null_know_nothing_of_the_value(value: Value) -> None:
    assert masking(mask(method="redact", text="gone"))(value) == "gone"
    assert masking(mask(method="null"))(value) is None


TABLE = TableSchema(
    TableName("public", "people"),
    (
        Column("id", Type(Kind.INT, "bigint", size=64), nullable=False, ),
        Column("name", Type(Kind.TEXT, "character varying(10)", size=10), nullable=False),
        Column("born", Type(Kind.DATE, "date")),
        Column("card", Type(Kind.TEXT, "text")),
    ),
    ("id",),
    "postgresql",
)  # fmt: skip


@given(st.lists(st.sampled_from([None, UNCHANGED, "4111222233334444"]), min_size=3, max_size=3))
def test_null_stays_null_and_unchanged_stays_unchanged(row: list[Value]) -> None:
    masks = {name: mask(method="hash", secret=SECRET) for name in ("name", "born", "card")}
    shaper = Shape(masks=masks).compile(TABLE)
    assert shaper is not None
    assert shaper.pick is not None
    for before, after in zip(row, shaper.pick((1, *row))[1:], strict=True):
        assert after is before if before is None or before is UNCHANGED else len(after) == 64


@pytest.mark.parametrize(
    ("given", "column", "expected"),
    [
        ({"method": "hash", "secret": SECRET}, "born", Type(Kind.TEXT, size=64)),
        ({"method": "redact", "text": "short"}, "name", TABLE.columns[1].type),
        ({"method": "redact", "text": "longer than ten"}, "name", Type(Kind.TEXT)),
        ({"method": "redact", "text": "x"}, "born", Type(Kind.TEXT)),
        ({"method": "partial", "last": 4}, "card", TABLE.columns[3].type),
        ({"method": "null"}, "born", TABLE.columns[2].type),
    ],
)
def test_the_type_that_travels_holds_what_the_mask_makes(given: dict[str, Any], column: str, expected: Type) -> None:
    (found,) = [one for one in TABLE.columns if one.name == column]
    masked = masked_column(mask(**given), found)
    assert masked.type == expected
    assert (masked.name, masked.nullable) == (found.name, found.nullable)
    shaper = Shape(masks={column: mask(**given)}).compile(TABLE)
    assert shaper is not None
    assert masked in shaper.table.columns


def test_a_mask_that_a_column_does_not_allow_has_an_obstacle() -> None:
    assert "NOT NULL" in (obstacle(mask(method="null"), TABLE.columns[1]) or "")
    assert "partial is for text" in (obstacle(mask(method="partial", first=1), TABLE.columns[2]) or "")
    assert obstacle(mask(method="redact", text="x"), TABLE.columns[2]) is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"method": "hash"}, "hash needs a secret"),
        ({"method": "hash", "secret": "short"}, "the secret is too short; use at least 16 bytes"),
        ({"method": "hash", "secret": SECRET, "last": 4}, "last can't be given with method: hash"),
        ({"method": "partial"}, "partial needs first or last"),
        ({"method": "partial", "first": 0}, "partial needs first or last"),
        ({"method": "redact"}, "redact needs text"),
        ({"method": None, "text": "x"}, "text can't be given with method: null"),
    ],
)
def test_a_mask_is_whole_or_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as caught:
        mask(**given)
    assert "short" not in str(caught.value).replace("too short", "")


def test_a_secret_shows_nowhere() -> None:
    made = mask(method="hash", secret=SECRET)
    shape = Shape(masks={"card": made})
    assert SECRET not in repr(made) + str(made) + made.model_dump_json() + repr(shape) + repr(shape.compile(TABLE))
