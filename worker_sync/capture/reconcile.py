"""Which parked changes are of no more concern, by what the targets say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from connectors.base import Mark
from worker_sync.core.parking import key_text
from worker_sync.core.position import Position
from worker_sync.store.dead_letters import Place


def settled(marks: Mapping[int, Mark], places: Iterable[Place]) -> Iterator[Place]:
    """Those of the letters whose change is behind the watermark while its key is not held: the key was replayed or
    released, its table emptied or copied anew, or the change was applied after all.

    A letter in front of the watermark may have been written a moment ago, by a worker that is about to hold its key.
    """
    held = {(table, key_text(key)) for mark in marks.values() for table, key in mark.parked}
    for place in places:
        if (place.table, place.key) in held:
            continue
        mark = marks.get(-1 if place.shard is None else place.shard)
        stands = [mark] if mark is not None else list(marks.values())
        if all(Position.parse(place.position) <= stand.position for stand in stands):
            yield place
