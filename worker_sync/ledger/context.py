"""What an application said of a transaction, as it stands in an entry."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from worker_sync.ledger.canonical import Json, canonical


class Context(NamedTuple):
    """`encoded` is the canonical JSON of an entry's `context`; `actor` who it says did it."""

    encoded: msgspec.Raw
    actor: str | None


NO_CONTEXT = Context(msgspec.Raw(b"null"), None)


@lru_cache(maxsize=64)
def read_context(text: str) -> Context:
    """The context of a section. A JSON object's numbers become texts as they are written; anything else, and an object
    that has no canonical bytes (half of a surrogate pair, too much nesting), is kept as the text that it is."""
    if not text:
        return NO_CONTEXT
    found = _parsed(text)
    if not isinstance(found, dict):
        return Context(_whole(text), None)
    actor = found.get("actor")
    if not isinstance(actor, str) or not _is_text(actor):
        actor = None
    try:
        return Context(msgspec.Raw(canonical(found)), actor)
    except ValueError:
        return Context(_whole(text), actor)


def _parsed(text: str) -> Json:
    try:
        return json.loads(text, parse_int=_as_written, parse_float=_as_written, parse_constant=_as_written)
    except (ValueError, RecursionError):
        return None


def _as_written(number: str) -> Any:
    return number


def _whole(text: str) -> msgspec.Raw:
    return msgspec.Raw(canonical({"text": text.encode(errors="backslashreplace").decode()}))


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
