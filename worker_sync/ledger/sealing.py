"""What recording asks of whoever seals personal values. `worker_sync.ledger.personal` does."""

from __future__ import annotations

from typing import Protocol

from worker_sync.core.change import Change
from worker_sync.core.schema import TableSchema
from worker_sync.ledger.canonical import Json
from worker_sync.ledger.envelope import Side


class TableSealer(Protocol):
    """Seals what is personal of one table's changes."""

    def row(self, change: Change, change_id: str, side: Side, row: dict[str, Json]) -> dict[str, Json]:
        """The row of one side, sealed. Raises Halt for a row whose subject the source did not record."""

    def key(self, key: dict[str, Json]) -> dict[str, Json]:
        """The key of the row, with keyed indexes in place of personal values."""


class Sealer(Protocol):
    """Seals what is personal of a batch."""

    def of(self, schema: TableSchema, origin: str) -> TableSealer | None:
        """None for a table without personal data. Raises Halt for one that lacks a declared column."""
