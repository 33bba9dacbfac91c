"""Removing what nobody needs any more."""

from __future__ import annotations

import logging
from typing import Final

from tasks.app import app
from tasks.base import DisposedTask
from tasks.resources import resources
from tasks.retry import NEVER
from worker_sync.core.log import event

log = logging.getLogger(__name__)

REPORTS_KEPT_S: Final = 24 * 3600.0
#: A capture whose batch waits for longer sends it again.
CLAIMS_KEPT_S: Final = 3600.0


@app.task(name="cleanup.reports", base=DisposedTask, policy=NEVER)
def reports() -> None:
    """Remove the reports of processes that have been silent for a day."""
    removed = resources().control().reports.forget(REPORTS_KEPT_S)
    log.info("%d reports removed", len(removed), extra=event("reports-removed", count=len(removed)))


@app.task(name="cleanup.claims", base=DisposedTask, policy=NEVER)
def claims() -> None:
    """Remove batches that nobody has come for: their messages were lost, and are sent again with a new claim."""
    removed = resources().control().claims.forget(CLAIMS_KEPT_S)
    log.info("%d claims removed", removed, extra=event("claims-removed", count=removed))
