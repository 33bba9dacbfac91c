"""Types as a person writes them in the configuration: ``decimal(12, 2)``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from worker_sync.core.schema import Kind, Type
from worker_sync.core.settings_file import suggestion

_TYPE: Final = re.compile(r"\s*([a-z]+)\s*(?:\(\s*(\d{1,5})\s*(?:,\s*(\d{1,5})\s*)?\))?\s*", re.IGNORECASE)

#: The types that may be declared, by name.
NAMES: Final[Mapping[str, Type]] = {
    "boolean": Type(Kind.BOOL),
    "smallint": Type(Kind.INT, size=16),
    "integer": Type(Kind.INT, size=32),
    "bigint": Type(Kind.INT, size=64),
    "double": Type(Kind.FLOAT, size=64),
    "decimal": Type(Kind.DECIMAL),
    "text": Type(Kind.TEXT),
    "varchar": Type(Kind.TEXT),
    "bytes": Type(Kind.BYTES),
    "uuid": Type(Kind.UUID),
    "date": Type(Kind.DATE),
    "timestamptz": Type(Kind.TIMESTAMPTZ),
    "json": Type(Kind.JSON),
}
#: A moment of MongoDB has so many fractional digits.
_MILLISECONDS: Final = 3


def parse_type(text: str) -> Type:
    """The type that `text` declares. Raises ValueError with what is wrong."""
    match = _TYPE.fullmatch(text)
    if match is None:
        raise ValueError("not a type; write one like text or decimal(12, 2)")
    name, first, second = match[1].lower(), match[2], match[3]
    if name not in NAMES:
        raise ValueError(f"no type {name!r}{suggestion(name, NAMES)}")
    arguments = [int(argument) for argument in (first, second) if argument is not None]
    if name == "decimal":
        return _decimal(arguments)
    if name == "varchar":
        return _varchar(arguments)
    if arguments:
        raise ValueError(f"{name} takes no length; leave the parentheses out")
    return Type(Kind.TIMESTAMPTZ, precision=_MILLISECONDS) if name == "timestamptz" else NAMES[name]


def _decimal(arguments: list[int]) -> Type:
    if not arguments:
        raise ValueError("decimal needs its digits; write decimal(precision, scale)")
    precision, scale = arguments[0], arguments[1] if len(arguments) == 2 else 0
    if not 1 <= precision <= 65 or scale > precision:
        raise ValueError("a decimal has 1 to 65 digits, of which at most all are behind the point")
    return Type(Kind.DECIMAL, precision=precision, scale=scale)


def _varchar(arguments: list[int]) -> Type:
    if len(arguments) != 1 or not arguments[0]:
        raise ValueError("varchar needs its length; write varchar(n), or text")
    return Type(Kind.TEXT, size=arguments[0])
