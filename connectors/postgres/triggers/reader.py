"""Current rows of a database whose changes are captured by triggers."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.base import Chunk
from connectors.postgres.errors import translated
from connectors.postgres.reader import PostgresReader
from connectors.postgres.triggers import windows
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key


class TriggerReader(PostgresReader):
    """Horizons are positions among what the triggers recorded. Scans are not placed there: trails copy no rows."""

    def chunk(self, table: TableSchema, after: Key | None, limit: int) -> Chunk:
        return self._placed(super().chunk(table, after, limit))

    def rows(self, table: TableSchema, keys: Sequence[Key]) -> Chunk:
        return self._placed(super().rows(table, keys))

    def _placed(self, chunk: Chunk) -> Chunk:
        """What the chunk's snapshot saw has committed: it is in a window once one is cut."""
        with translated(self._where), self._connection().transaction():
            self._connection().execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            chunk.horizon = windows.cut(self._connection()) or ""
        return chunk
