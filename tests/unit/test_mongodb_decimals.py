"""Decimal128 against the driver's own arithmetic."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from bson.decimal128 import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from connectors.mongodb.decimals import decimal128, decimal_at, plain_text, text_at

BIAS = 6176


def bits(sign: int, exponent: int, coefficient: int) -> bytes:
    high = sign << 63 | exponent + BIAS << 49 | coefficient >> 64
    return (high << 64 | coefficient & (1 << 64) - 1).to_bytes(16, "little")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4))
def test_a_number_has_the_bytes_that_the_driver_gives_it(value: Decimal) -> None:
    number = format(value, "f")
    if len(value.as_tuple().digits) <= 34:
        assert decimal128(number) == Decimal128(number)


@given(st.integers(0, 1), st.integers(-9, 3), st.integers(0, 10**34 - 1) | st.integers(0, 10**7))
def test_a_number_has_the_text_that_the_driver_gives_it(sign: int, exponent: int, coefficient: int) -> None:
    data = b"?" + bits(sign, exponent, coefficient)
    value = Decimal128.from_bid(data[1:])
    assert text_at(data, 1) == str(value)
    assert plain_text(value) == format(value.to_decimal(), "f")


def test_any_sixteen_bytes_have_the_drivers_text_or_none() -> None:
    rand = random.Random(7)
    refused = 0
    for _ in range(20_000):
        data = rand.randbytes(16)
        try:
            text = text_at(data, 0)
        except ValueError:
            refused += 1
            continue
        assert text == str(Decimal128.from_bid(data))
        assert Decimal128(text).bid == data or "NaN" in text
    assert 0 < refused < 20_000


@pytest.mark.parametrize("exponent", [-6, 0])
def test_a_coefficient_of_more_digits_than_the_format_has_is_refused(exponent: int) -> None:
    assert text_at(bits(0, exponent, 10**34 - 1), 0)
    with pytest.raises(ValueError, match="no text"):
        decimal_at(bits(0, exponent, 10**34), 0)
    with pytest.raises(ValueError, match="no text"):
        text_at(bits(0, exponent, 10**34), 0)


@pytest.mark.parametrize("number", ["1" * 35, "1E+6145", "0." + "1" * 35])
def test_a_number_that_does_not_fit_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        decimal128(number)
