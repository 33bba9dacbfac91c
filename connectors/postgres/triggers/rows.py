"""A row as PostgreSQL prints it whole, taken apart again: `(1,"two, three",)`."""

from __future__ import annotations

import re
from typing import Final

_FIELD: Final = re.compile(r'"([^"\\]*(?:(?:""|\\\\)[^"\\]*)*)"|([^,"]*)')


class BadRow(ValueError):
    """A text that is no row; its message holds nothing of it."""


def fields(text: str) -> list[str | None]:
    """The values' texts, None for NULL. Raises BadRow."""
    if text[:1] != "(" or text[-1:] != ")":
        raise BadRow("no parentheses around a row")
    inner = text[1:-1]
    if '"' not in inner:
        # An empty text is printed as "", so what is empty is NULL.
        return [part or None for part in inner.split(",")]
    found: list[str | None] = []
    at = 0
    while True:
        match = _FIELD.match(inner, at)
        assert match is not None
        quoted, plain = match.groups()
        found.append((plain or None) if quoted is None else quoted.replace('""', '"').replace("\\\\", "\\"))
        at = match.end()
        if at == len(inner):
            return found
        if inner[at] != ",":
            raise BadRow("no comma behind a value")
        at += 1
