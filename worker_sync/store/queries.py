"""The named statements of `queries.sql`: blocks that begin with `-- name: description`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

_HEAD: Final = re.compile(r"^-- ([a-z_]+): .+$", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """Statements by name. Raises ValueError for a name that stands twice."""
    parts = _HEAD.split(text)
    names = parts[1::2]
    if len(names) != len(set(names)):
        raise ValueError("a query's name stands twice")
    return {name: body.strip() for name, body in zip(names, parts[2::2], strict=True)}


@cache
def queries() -> dict[str, str]:
    """All statements of the store."""
    return parse((files("worker_sync.store") / "queries.sql").read_text(encoding="utf-8"))
