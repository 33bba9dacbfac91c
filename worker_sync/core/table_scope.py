"""How much of a source's tables a pipeline carries."""

from __future__ import annotations

import msgspec

from worker_sync.core.selection import Selected


class TableScope(msgspec.Struct, frozen=True):
    """All of a table's columns but those `left_out`, and of those `masked` no clear values; both in name order."""

    table: str
    left_out: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()


def scope_of(selected: Selected) -> TableScope:
    """What the configuration carries of a table. Raises Halt when its rule does not fit the table."""
    shaper = selected.shape.compile(selected.source)
    if shaper is None:
        return TableScope(str(selected.source.table))
    left_out = set(shaper.whole.column_names) - set(shaper.origins)
    masked = set(selected.shape.masks) & set(shaper.origins)
    return TableScope(str(selected.source.table), tuple(sorted(left_out)), tuple(sorted(masked)))
