"""Recording changes in the ledger.

From a Python shell with WORKER_SYNC_CONFIG set::

    from tasks import audit
    audit.checkpoint.delay()
"""

from __future__ import annotations

import logging
import time
from typing import Final

from connectors.ledger.checkpoints import make_checkpoint
from connectors.ledger.pending import SIGNED_WITHIN, excused
from connectors.ledger.places import opened_anchors
from connectors.ledger.reader import LedgerReader
from connectors.ledger.verification import verify_tables
from tasks.app import app
from tasks.base import DisposedTask
from tasks.configuration import with_control
from tasks.exclusive import exclusive
from tasks.ledger import ledger_url, signing_key, trust
from tasks.parcels import Parcel, deliver
from tasks.resources import resources
from tasks.retry import SCHEDULED, TRANSIENT
from tasks.sync import apply_batch
from worker_sync.core.log import event
from worker_sync.ledger.findings import EXIT_CODES, Report

log = logging.getLogger(__name__)

#: What the health results call the ledger.
SUBJECT: Final = "ledger"


@app.task(name="audit.append", base=DisposedTask, policy=TRANSIENT, about_pipeline=True, parked=False, typing=False)
def append(pipeline: str, shard: int, after: str, upto: str, batch: bytes) -> None:
    """Append the changes of one batch to the ledger, by the same rule as `sync.apply` and with the same arguments;
    `pipeline` is an audit trail. In one transaction with the trail's watermark, so that repeated, late and reordered
    batches add nothing."""
    deliver(Parcel(pipeline, shard, after, upto, batch), apply_batch)


@app.task(name="audit.checkpoint", base=DisposedTask, policy=SCHEDULED)
def checkpoint() -> None:
    """Sign the ledger's tree as it is now, unless nothing was appended since it was signed last, and write the note
    into each of `ledger.anchors`. A tree that contradicts what was signed before is not signed: the task is parked."""
    settings = with_control(resources().settings)
    ledger = settings.ledger
    with exclusive("audit.checkpoint"), opened_anchors(ledger) as places:
        made = make_checkpoint(ledger_url(settings), ledger.origin, [signing_key(settings)], places)
    if made.is_new:
        size = made.checkpoint.size
        log.info("%d entries of the ledger are signed", size, extra=event("checkpoint-signed", entries=size))


@app.task(name="audit.verify", base=DisposedTask, policy=SCHEDULED)
def verify() -> None:
    """Verify the whole ledger as `worker-sync audit verify` does, and record the result as the health of `ledger`."""
    settings = with_control(resources().settings)
    begun = time.monotonic()
    with exclusive("audit.verify"), LedgerReader(ledger_url(settings)) as reader:
        report = excused(verify_tables(reader, trust(settings)), reader, SIGNED_WITHIN)
    wrong = _wrong(report)
    resources().control().health.put(SUBJECT, not wrong, wrong, (time.monotonic() - begun) * 1000)
    extra = event("ledger-verified", entries=report.end, wrong=wrong)
    if wrong:
        log.error("the ledger is not what was signed: %s; next: worker-sync audit verify", wrong, extra=extra)
    else:
        log.info("%d entries of the ledger are verified", report.end, extra=extra)


def _wrong(report: Report) -> str:
    """What is found, in words; empty for nothing."""
    return ", ".join(f"{kind} {count}" for kind, count in report.counts.items() if EXIT_CODES[kind])
