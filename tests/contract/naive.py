"""The oracle: changes applied one by one to a dictionary, and random scripts that a real source could have written."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.contract.sink_target import delete, insert, truncate, update
from worker_sync.core.change import Change, Op
from worker_sync.core.values import UNCHANGED, Key, Row, merge


def apply_naively(rows: dict[Key, Row], changes: Sequence[Change]) -> None:
    """Apply changes to rows whose key is their first column. A partial update of a missing row is a KeyError."""
    for change in changes:
        if change.op == Op.TRUNCATE:
            rows.clear()
        elif change.op == Op.DELETE:
            assert change.key is not None
            rows.pop(change.key, None)
        else:
            assert change.after is not None
            key = change.key or change.after[:1]
            before = rows.pop(key, None)
            row = change.after if before is None else merge(before, change.after)
            if UNCHANGED in row:
                raise KeyError(key)
            rows[row[:1]] = row


_keys = st.integers(1, 5)
_texts = st.sampled_from(["a", "b", "\\", "\t\n\r", "é", ""])


@st.composite
def transactions(draw: st.DrawFn) -> list[list[Change]]:
    """Transactions on one table (id, title, body), each change possible at its point in time."""
    alive: set[int] = set()
    script = []
    for _ in range(draw(st.integers(1, 8))):
        changes = [_change(draw, alive) for _ in range(draw(st.integers(0, 5)))]
        script.append([change for change in changes if change is not None])
    return script


def _change(draw: st.DrawFn, alive: set[int]) -> Change | None:
    key = draw(_keys)
    kind = draw(st.sampled_from(["insert", "update", "partial", "move", "partial move", "delete", "truncate"]))
    if kind == "truncate":
        if draw(st.integers(0, 3)):
            return None
        alive.clear()
        return truncate()
    if key not in alive:
        alive.add(key)
        return insert((key, draw(_texts), draw(st.none() | _texts)))
    if kind in ("delete", "insert"):
        alive.discard(key)
        return delete((key,))
    body = UNCHANGED if kind.startswith("partial") else draw(st.none() | _texts)
    free = sorted(set(range(1, 6)) - alive)
    if kind.endswith("move") and free:
        new = draw(st.sampled_from(free))
        alive.discard(key)
        alive.add(new)
        return update((new, draw(_texts), body), (key,))
    return update((key, draw(_texts), body))
