"""Canonical values as the text that PostgreSQL reads: parameters and COPY buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from worker_sync.core.values import Row

_NULL: Final = "\\N"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _bool(value: bool) -> str:
    return "t" if value else "f"


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _bytes(value: bytes) -> str:
    return "\\x" + value.hex()


def _none(_: None) -> None:
    return None


# UNCHANGED is missing on purpose: writing one is a defect, and a KeyError says so.
_TEXT: Final[dict[type, Callable[[Any], str | None]]] = {
    str: str,
    int: str,
    bool: _bool,
    float: _float,
    bytes: _bytes,
    type(None): _none,
}


def parameter(value: Any) -> str | None:
    """`value` as the text of a parameter of unknown type, which the server reads as the column's type."""
    return _TEXT[type(value)](value)


def parameters(values: Iterable[Any]) -> list[str | None]:
    """Every one of `values` as a parameter."""
    return [_TEXT[type(value)](value) for value in values]


def _escaped(values: Sequence[str]) -> Sequence[str]:
    joined = "".join(values)
    if "\\" in joined or "\n" in joined or "\t" in joined or "\r" in joined:
        return [value.translate(_ESCAPES) for value in values]
    return values


def _field(value: Any) -> str:
    text = _TEXT[type(value)](value)
    return _NULL if text is None else text.translate(_ESCAPES)


def _column(values: Sequence[Any]) -> Iterable[str]:
    """A column's fields; columns of one type, which are most, take a loop of their own in C."""
    types = set(map(type, values))
    if types == {int}:
        return map(str, values)
    if types == {str}:
        return _escaped(values)
    if types == {bool}:
        return map(("f", "t").__getitem__, values)
    if types == {float} and all(map(math.isfinite, values)):
        return map(repr, values)
    return map(_field, values)


def copy_buffer(rows: Sequence[Row]) -> bytes:
    """`rows` in COPY's text format. Rows have at least one column."""
    lines = map("\t".join, zip(*map(_column, zip(*rows, strict=True)), strict=True))
    return ("\n".join(lines) + "\n").encode()
