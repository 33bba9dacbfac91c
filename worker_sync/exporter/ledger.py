"""How large the ledger is, how fast it grows, and how far it is signed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from connectors.ledger.reader import Figures, LedgerReader
from worker_sync.core.errors import WorkerSyncError


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    """What one scrape found. `write_tps`: entries per second since the one before; None at the first."""

    figures: Figures
    write_tps: float | None


class LedgerWatch:
    """Asks over one connection, which is opened again after an error. Used by one scrape at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._reader: LedgerReader | None = None
        self._before: tuple[float, int] | None = None

    def __call__(self) -> LedgerFigures | None:
        """The ledger now; None for one without a head. Raises WorkerSyncError."""
        try:
            self._reader = self._reader or LedgerReader(self._url)
            figures = self._reader.figures()
        except WorkerSyncError:
            self.close()
            raise
        return None if figures is None else LedgerFigures(figures, self._rate(figures.entries))

    def _rate(self, entries: int) -> float | None:
        now, before = time.monotonic(), self._before
        self._before = now, entries
        return None if before is None else max(0, entries - before[1]) / (now - before[0])

    def close(self) -> None:
        """The next question opens another connection."""
        if self._reader is not None:
            self._reader.close()
        self._reader = None
