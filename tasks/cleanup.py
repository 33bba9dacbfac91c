"""Removing what nobody needs any more. One at a time: a second one would only wait for the first one's locks."""

from __future__ import annotations

import logging
from typing import Final

from tasks.app import app
from tasks.base import DisposedTask
from tasks.exclusive import exclusive
from tasks.resources import resources
from tasks.retry import SCHEDULED
from worker_sync.core.log import event

log = logging.getLogger(__name__)

REPORTS_KEPT_S: Final = 24 * 3600.0
RUNS_KEPT_S: Final = 30 * 24 * 3600.0
#: Of one entry, however often it runs.
RUNS_KEPT: Final = 1000
#: A capture whose batch waits for longer sends it again.
CLAIMS_KEPT_S: Final = 3600.0


@app.task(name="cleanup.reports", base=DisposedTask, policy=SCHEDULED)
def reports() -> None:
    """Remove the reports of processes that have been silent for a day."""
    with exclusive("cleanup.reports"):
        removed = resources().control().reports.forget(REPORTS_KEPT_S)
    log.info("%d reports removed", len(removed), extra=event("reports-removed", count=len(removed)))


@app.task(name="cleanup.schedule", base=DisposedTask, policy=SCHEDULED)
def schedule() -> None:
    """Remove the schedule's runs that are older than 30 days or not among the newest 1,000 of their entry."""
    with exclusive("cleanup.schedule"):
        removed = resources().control().schedule.purge(RUNS_KEPT_S, RUNS_KEPT)
    log.info("%d runs removed", removed, extra=event("runs-removed", count=removed))


@app.task(name="cleanup.claims", base=DisposedTask, policy=SCHEDULED)
def claims() -> None:
    """Remove batches that nobody has come for: their messages were lost, and are sent again with a new claim."""
    with exclusive("cleanup.claims"):
        removed = resources().control().claims.forget(CLAIMS_KEPT_S)
    log.info("%d claims removed", removed, extra=event("claims-removed", count=removed))
