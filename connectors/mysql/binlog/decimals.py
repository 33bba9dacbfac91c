"""DECIMAL columns: nine digits in each four bytes, big endian, the first bit the sign, negative ones inverted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Bytes for that many digits, fewer than nine.
_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def decimal_size(precision: int, scale: int) -> int:
    """Bytes of a DECIMAL(precision, scale)."""
    whole = precision - scale
    return whole // 9 * 4 + _BYTES[whole % 9] + scale // 9 * 4 + _BYTES[scale % 9]


def _groups(digits: int, *, leading: bool) -> list[tuple[int, int]]:
    """Digits and bytes of each group; the short one comes first before the point and last behind it."""
    full = [(9, 4)] * (digits // 9)
    rest = [(digits % 9, _BYTES[digits % 9])] if digits % 9 else []
    return rest + full if leading else full + rest


def decimal_reader(precision: int, scale: int) -> Callable[[bytes], str]:
    """A function from the packed bytes to plain notation with all digits of the scale."""
    whole_groups = _groups(precision - scale, leading=True)
    groups = whole_groups + _groups(scale, leading=False)
    size = decimal_size(precision, scale)
    mask = (1 << 8 * size) - 1
    top = 1 << 8 * size - 1

    def read(data: bytes) -> str:
        value = int.from_bytes(data, "big")
        negative = not value & top
        value = (value ^ top) if not negative else (value ^ top ^ mask)
        left = size
        texts = []
        for digits, width in groups:
            left -= width
            texts.append(f"{value >> 8 * left & (1 << 8 * width) - 1:0{digits}}")
        text = "".join(texts[: len(whole_groups)]).lstrip("0") or "0"
        if scale:
            text += "." + "".join(texts[len(whole_groups) :])
        return "-" + text if negative else text

    return read
