"""Dates and times of row events as canonical text; the server's packed forms are those of `sql-common/my_time.cc`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Final

_EPOCH: Final = date(1970, 1, 1).toordinal()
_DATETIME_OFFSET: Final = 0x8000000000
_TIME_OFFSET: Final = 0x800000
#: MySQL's zero timestamp, in UTC like every other.
ZERO_TIMESTAMP: Final = "0000-00-00 00:00:00+00"


def fraction_size(digits: int) -> int:
    """Bytes of the fractional part of a time with that many digits."""
    return (digits + 1) // 2


def fraction(micros: int) -> str:
    """`.ffffff` without trailing zeros, or nothing."""
    return f".{micros:06}".rstrip("0") if micros else ""


def _micros(value: int, size: int) -> int:
    return int(value * 10 ** (6 - 2 * size))


@lru_cache(4096)
def date_text(data: bytes) -> str:
    """DATE: 15 bits year, 4 bits month, 5 bits day, little endian."""
    value = int.from_bytes(data, "little")
    return f"{value >> 9:04}-{value >> 5 & 15:02}-{value & 31:02}"


def datetime_reader(digits: int) -> Callable[[bytes], str]:
    """DATETIME(digits): 17 bits year * 13 + month, 5 day, 5 hour, 6 minute, 6 second, then the fraction."""
    size = fraction_size(digits)

    def read(data: bytes) -> str:
        packed = int.from_bytes(data[:5], "big") - _DATETIME_OFFSET
        year, month = divmod(packed >> 22, 13)
        text = (
            f"{year:04}-{month:02}-{packed >> 17 & 31:02} {packed >> 12 & 31:02}:{packed >> 6 & 63:02}:{packed & 63:02}"
        )
        return text + fraction(_micros(int.from_bytes(data[5:], "big"), size)) if size else text

    return read


@lru_cache(1024)
def _day(number: int) -> str:
    return date.fromordinal(_EPOCH + number).isoformat()


def timestamp_reader(digits: int) -> Callable[[bytes], str]:
    """TIMESTAMP(digits): seconds since 1970 in UTC, then the fraction."""
    size = fraction_size(digits)

    def read(data: bytes) -> str:
        seconds = int.from_bytes(data[:4], "big")
        micros = _micros(int.from_bytes(data[4:], "big"), size) if size else 0
        if not seconds and not micros:
            return ZERO_TIMESTAMP
        day, rest = divmod(seconds, 86400)
        hour, rest = divmod(rest, 3600)
        minute, second = divmod(rest, 60)
        return f"{_day(day)} {hour:02}:{minute:02}:{second:02}{fraction(micros)}+00"

    return read


def time_reader(digits: int) -> Callable[[bytes], str]:
    """TIME(digits), up to 838 hours of either sign: sign, 10 bits hour, 6 minute, 6 second, then the fraction; negative
    ones are the distance to zero of all bits together."""
    size = fraction_size(digits)
    offset = _TIME_OFFSET << 8 * size

    def read(data: bytes) -> str:
        packed = int.from_bytes(data, "big") - offset
        sign = "-" if packed < 0 else ""
        whole = abs(packed) >> 8 * size
        micros = _micros(abs(packed) & (1 << 8 * size) - 1, size)
        return f"{sign}{whole >> 12 & 1023:02}:{whole >> 6 & 63:02}:{whole & 63:02}{fraction(micros)}"

    return read


def packed_text(kind: str, packed: int) -> str:
    """A date, time or datetime inside a JSON document, as the server prints it there."""
    sign = "-" if packed < 0 else ""
    whole, micros = divmod(abs(packed), 1 << 24)
    clock = f"{whole >> 6 & 63:02}:{whole & 63:02}"
    if kind == "time":
        return f"{sign}{whole >> 12 & 1023:02}:{clock}.{micros:06}"
    year, month = divmod(whole >> 22, 13)
    day = f"{year:04}-{month:02}-{whole >> 17 & 31:02}"
    return day if kind == "date" else f"{day} {whole >> 12 & 31:02}:{clock}.{micros:06}"
