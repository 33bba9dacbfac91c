"""Whether a column of an existing table takes a source's values as they are.

PostgreSQL refuses what is too long or out of range, but rounds fractions of numbers and seconds, drops the time of a
timestamp that comes into a date, pads and cuts text of fixed length, and rewrites words that it takes for a boolean,
all without an error.
"""

from __future__ import annotations

import re
from typing import Final

from worker_sync.core.schema import Kind, Type

_FORM: Final = re.compile(
    r"(?P<base>[a-z ]+?)(?:\((?P<first>\d+)(?:,(?P<second>-?\d+))?\))?(?P<rest> with.* time zone)?"
)
#: Fractional digits of a second that PostgreSQL keeps.
_DIGITS: Final = 6
_MANTISSA: Final = {"real": 24, "double precision": 53}
#: Types that only these kinds come into unaltered; any other type takes what it can read exactly, or refuses it.
_ONLY: Final = {
    "boolean": {Kind.BOOL},
    "date": {Kind.DATE},
    "time": {Kind.TIME},
    "time with time zone": {Kind.TIMETZ},
    "money": {Kind.NATIVE},
    "name": {Kind.NATIVE},
    "character": {Kind.NATIVE},
}


def holds(source: Type, target: str, *, same_engine: bool) -> bool:
    """Whether a column of SQL type `target` (as `format_type` writes it) keeps every value of the source's type that it
    does not refuse. `same_engine`: the source's type names are PostgreSQL's too."""
    if same_engine and source.native == target:
        return True
    form = _FORM.fullmatch(target)
    if form is None:
        return True
    base, first = form["base"], form["first"]
    if base == "time" and (form["rest"] or "").startswith(" with time zone"):
        base = "time with time zone"
    if base in _ONLY and source.kind not in _ONLY[base]:
        return False
    if base in _MANTISSA:
        return _fits_float(source, _MANTISSA[base])
    if base == "numeric" and first is not None:
        return source.kind is Kind.INT or (source.scale is not None and source.scale <= int(form["second"] or 0))
    if first is not None and base.startswith(("time", "interval")):
        return (_DIGITS if source.precision is None else source.precision) <= int(first)
    return True


def _fits_float(source: Type, mantissa: int) -> bool:
    if source.kind is Kind.INT:
        return (source.size or 64) < mantissa
    return source.kind is Kind.FLOAT and (source.size == 32 or mantissa > 24)
