"""What a person's replay or release is about, in terms of a pipeline's tables."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from worker_sync.capture.replay import Request
from worker_sync.capture.targets import Ready
from worker_sync.core.log import event
from worker_sync.core.parking import HeldKey, parse_key
from worker_sync.core.schema import TableName
from worker_sync.core.values import Key
from worker_sync.store.signals import Signal, SignalKind

log = logging.getLogger(__name__)


def requests_of(signal: Signal, entry: Ready) -> list[Request]:
    """The keys to let go, by table. A key whose row can't be read, because the pipeline does not carry the table any
    more or the table has another key, is not replayed: it stays parked until it is released."""
    try:
        wanted = _wanted(signal, {held for mark in entry.layout.marks.values() for held in mark.parked})
    except ValueError as error:
        text = "signal %d names what is no key: %s"
        log.error(text, signal.id, error, extra=event("signal-refused", pipeline=signal.pipeline, id=signal.id))
        return []
    lengths = {str(table.source.table): len(table.source.key) for table in entry.selected}
    requests = []
    read = signal.kind is SignalKind.REPLAY
    for table, keys in wanted.items():
        fitting = [key for key in keys if len(key) == lengths.get(table)] if read else keys
        if len(fitting) < len(keys):
            text = "signal %d: %d keys of %s can't be read from the source as it is now; discard what is parked of them"
            extra = event("signal-refused", pipeline=signal.pipeline, id=signal.id, table=table)
            log.error(text, signal.id, len(keys) - len(fitting), table, extra=extra)
        if fitting:
            requests.append(Request(signal.id, TableName.parse(table), fitting, read))
    return requests


def _wanted(signal: Signal, parked: Iterable[HeldKey]) -> dict[str, list[Key]]:
    if signal.table is not None and signal.keys is not None:
        return {signal.table: [parse_key(text) for text in dict.fromkeys(signal.keys)]}
    wanted: dict[str, list[Key]] = {}
    for table, key in sorted(parked, key=repr):
        if signal.table in (None, table):
            wanted.setdefault(table, []).append(key)
    return wanted
