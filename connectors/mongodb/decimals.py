"""Decimal128 and its text, without the driver's arithmetic where digits say it all: that takes twenty times as long.

Format: IEEE 754-2008, 3.5.2, binary encoding: a sign, 14 bits of exponent, 113 of coefficient. Two ones behind the sign
are another form: infinities, NaN and coefficients that are too large.
"""

from __future__ import annotations

from decimal import Decimal
from struct import Struct
from typing import Final

from bson.decimal128 import Decimal128

_HALVES: Final = Struct("<QQ").unpack_from
_LOW: Final = (1 << 64) - 1
#: Of the high half.
_SIGN: Final = 1 << 63
_OTHER_FORM: Final = 3 << 61
_EXPONENT_AT: Final = 49
_EXPONENT: Final = (1 << 14) - 1
_COEFFICIENT: Final = (1 << _EXPONENT_AT) - 1
_BIAS: Final = 6176
_DIGITS: Final = 34
_TOO_LARGE: Final = 10**_DIGITS
#: The text of a small number with more decimal places has an exponent.
_PLACES: Final = 6


def decimal128(number: str) -> Decimal128:
    """The Decimal128 with exactly these digits and this scale. Raises ValueError when there is none."""
    if len(number) <= _DIGITS:
        sign, digits = (_SIGN, number[1:]) if number[0] == "-" else (0, number)
        whole, _, fraction = digits.partition(".")
        digits = whole + fraction
        if digits.isdecimal():
            coefficient = int(digits)
            high = sign | _BIAS - len(fraction) << _EXPONENT_AT | coefficient >> 64
            return Decimal128((high, coefficient & _LOW))  # type: ignore[arg-type]  # documented, not annotated
    return _any_decimal128(number)


def _any_decimal128(number: str) -> Decimal128:
    try:
        exact = Decimal(number)
        value = Decimal128(exact)
    except ArithmeticError:
        raise ValueError("more digits, or a larger exponent, than Decimal128's 34 and 6144") from None
    if not exact.is_nan() and format(value.to_decimal(), "f") != format(exact, "f"):
        raise ValueError("more digits than Decimal128's 34")
    return value


def decimal_at(data: bytes, at: int) -> Decimal128:
    """The Decimal128 at an offset. Raises ValueError for one whose bytes no text stands for."""
    bid = data[at : at + 16]
    value = Decimal128.from_bid(bid)
    if not value.to_decimal().is_nan() and Decimal128(str(value)).bid != bid:
        raise ValueError("a Decimal128 in a form that no text has")
    return value


def text_at(data: bytes, at: int) -> str:
    """The text of the Decimal128 at an offset, as the driver writes it. Raises ValueError for bytes without a text."""
    return _plain_text(data, at) or str(decimal_at(data, at))


def plain_text(value: Decimal128) -> str:
    """Its digits without an exponent; NaN and infinities by their names."""
    return _plain_text(value.bid, 0) or format(value.to_decimal(), "f")


def _plain_text(data: bytes, at: int) -> str:
    """The text of a number that is written without an exponent; empty for all others."""
    low, high = _HALVES(data, at)
    if high & _OTHER_FORM == _OTHER_FORM:
        return ""
    coefficient = (high & _COEFFICIENT) << 64 | low
    places = _BIAS - (high >> _EXPONENT_AT & _EXPONENT)
    if not 0 <= places <= _PLACES or coefficient >= _TOO_LARGE:
        return ""
    digits = str(coefficient)
    if places:
        digits = digits.rjust(places + 1, "0")
        digits = f"{digits[:-places]}.{digits[-places:]}"
    return f"-{digits}" if high & _SIGN else digits
