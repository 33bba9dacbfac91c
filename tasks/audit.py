"""Recording changes in the ledger.

From a Python shell with WORKER_SYNC_CONFIG set::

    from tasks import audit
    audit.checkpoint.delay()
"""

from __future__ import annotations

from tasks.app import app
from tasks.base import DisposedTask
from tasks.parcels import Parcel, deliver
from tasks.retry import TRANSIENT
from tasks.sync import apply_batch


@app.task(name="audit.append", base=DisposedTask, policy=TRANSIENT, about_pipeline=True, parked=False, typing=False)
def append(pipeline: str, shard: int, after: str, upto: str, batch: bytes) -> None:
    """Append the changes of one batch to the ledger, by the same rule as `sync.apply` and with the same arguments;
    `pipeline` is an audit trail. In one transaction with the trail's watermark, so that repeated, late and reordered
    batches add nothing."""
    deliver(Parcel(pipeline, shard, after, upto, batch), apply_batch)
