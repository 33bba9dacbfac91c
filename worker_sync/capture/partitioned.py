"""What is recorded of tables with partitions when a session begins, before any of their rows are copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from connectors.base import Source
from worker_sync.capture.versions import Records
from worker_sync.core.partitions import Partitions
from worker_sync.core.schema import TableName
from worker_sync.store.signals import Signal, SignalKind
from worker_sync.store.versions import TableVersions


class Partitioned:
    """`known` are the partitions by table, `records` what each pipeline has of them. A table that is met for the first
    time, or is to be copied anew, is as it is now: its copy reads all that is there from here on."""

    def __init__(
        self,
        source: Source,
        records: Mapping[str, Records],
        signals: Iterable[Signal],
        versions: TableVersions,
        token: int,
    ) -> None:
        self.known = source.partitions(_newest(records.values()))
        asked = {(s.pipeline, s.table) for s in signals if s.kind is SignalKind.RESYNC and s.started_at is None}
        self.records = {name: self._filled(name, of, asked) for name, of in records.items()}
        for pipeline, of in self.records.items():
            changed = [record for table, record in of.items() if record is not records[pipeline][table]]
            versions.save_all(pipeline, changed, token)

    def _filled(self, pipeline: str, records: Records, asked: set[tuple[str, str | None]]) -> Records:
        anew = {table for name, table in asked if name == pipeline}
        return {
            table: replace(record, partitions=self.known[table])
            if table in self.known and (record.partitions is None or not anew.isdisjoint((None, str(table))))
            else record
            for table, record in records.items()
        }


def _newest(records: Iterable[Records]) -> dict[TableName, Partitions]:
    """Of every table what was recorded last."""
    found: dict[TableName, Partitions] = {}
    for of in records:
        for table, record in of.items():
            if record.partitions and (table not in found or int(found[table].ended) < int(record.partitions.ended)):
                found[table] = record.partitions
    return found
