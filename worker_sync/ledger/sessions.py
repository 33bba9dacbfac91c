"""The source's session that made a change, as it stands in an entry."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from worker_sync.core.change import Session
from worker_sync.ledger.canonical import canonical


@lru_cache(maxsize=64)
def session_field(session: Session | None) -> Mapping[str, msgspec.Raw]:
    """The field `session` of entries, left out where the source does not know it."""
    return {} if session is None else {"session": msgspec.Raw(canonical(msgspec.structs.asdict(session)))}
