"""Applying batches, and what people ask of pipelines.

From a Python shell with WORKER_SYNC_CONFIG set::

    from tasks import sync
    sync.resync_table.delay("shop-to-reporting", "public.orders")
"""

from __future__ import annotations

import json
import logging
import time

from tasks.app import app
from tasks.base import DisposedTask
from tasks.parcels import Parcel, deliver
from tasks.parking import Parker
from tasks.resources import Resources, resources
from tasks.retry import NEVER, REQUEST, TRANSIENT
from worker_sync.core import markers, spans
from worker_sync.core.codec import decode
from worker_sync.core.errors import Halt, Transient, UndecodableBatch
from worker_sync.core.log import event
from worker_sync.store.signals import SignalKind

log = logging.getLogger(__name__)


@app.task(name="sync.apply", base=DisposedTask, policy=TRANSIENT, about_pipeline=True, parked=False, typing=False)
def apply(pipeline: str, shard: int, after: str, upto: str, batch: bytes) -> None:
    """Apply one batch to the pipeline's target by the apply rule.

    `after` and `upto` are positions as text, for people who look at the queue; the truth is in `batch`, the bytes of
    `worker_sync.core.codec.encode`, or a claim on them (`tasks.claims`) where they are too large for the broker. A
    claim that is gone was applied, or will be sent again. Repeated, late and reordered batches change nothing. An early
    one waits for a moment, then is tried again up to 9 times within seconds, then dropped: its capture sends it again.
    """
    deliver(Parcel(pipeline, shard, after, upto, batch), apply_batch)


def apply_batch(work: Resources, pipeline: str, data: bytes) -> str:
    """Decode the batch and hand it to the sink of the pipeline's target; returns the `Outcome`."""
    settings = work.settings.pipeline(pipeline)
    target = settings.target
    batch = decode(data)
    if batch.pipeline != pipeline:
        raise UndecodableBatch(f"it is of {batch.pipeline!r}, the message says {pipeline!r}")
    spans.current().set(target=target, changes=len(batch.changes))
    with work.using(target) as sink:
        parker = Parker(sink, settings, work.settings.dead_letters, lambda: work.control().dead_letters)
        return work.turns.take(lambda: parker.apply(batch))


@app.task(name="sync.resync_table", base=DisposedTask, policy=REQUEST)
def resync_table(pipeline: str, table: str | None = None) -> int:
    """Forget where the pipeline stands for `table` (`namespace.name` of the source; None: all) and copy it anew, while
    it goes on. Returns the signal's number. An unknown pipeline is logged as an error."""
    return _signal(SignalKind.RESYNC, pipeline, table)


@app.task(name="sync.snapshot_table", base=DisposedTask, policy=REQUEST)
def snapshot_table(pipeline: str, table: str | None = None) -> int:
    """Copy the existing rows of `table` (`namespace.name` of the source; None: all) once more, while changes go on.
    Returns the signal's number. An unknown pipeline is logged as an error."""
    return _signal(SignalKind.SNAPSHOT, pipeline, table)


@app.task(name="sync.pause", base=DisposedTask, policy=REQUEST)
def pause(pipeline: str) -> int:
    """Stop a running pipeline until `sync.resume`; a halted one stays halted. Returns the signal's number."""
    resources().settings.pipeline(pipeline)
    resources().control().pipelines.pause(pipeline, "asked for")
    return _signal(SignalKind.PAUSE, pipeline, None)


@app.task(name="sync.resume", base=DisposedTask, policy=REQUEST)
def resume(pipeline: str) -> int:
    """Let a paused or halted pipeline run again. Returns the signal's number."""
    resources().settings.pipeline(pipeline)
    resources().control().pipelines.resume(pipeline)
    return _signal(SignalKind.RESUME, pipeline, None)


def _signal(kind: SignalKind, pipeline: str, table: str | None) -> int:
    work = resources()
    number = work.control().signals.send(work.settings.pipeline(pipeline).source, kind, pipeline, table)
    log.info("%s of %s asked for", kind, pipeline, extra=event("signal", pipeline=pipeline, table=table, id=number))
    return number


@app.task(name="sync.heartbeat", base=DisposedTask, policy=NEVER, parked=False)
def heartbeat() -> None:
    """Write a message into the log of every source and record its position. A source that can't be reached, or that has
    stopped for good, is logged and doesn't keep the others from theirs."""
    work = resources()
    for name in work.settings.sources:
        try:
            content = json.dumps({"sent_at": time.time()}).encode()
            with work.breakers.of(f"database:{name}").calling():
                position = work.source(name).emit(markers.HEARTBEAT, content)
            work.control().heartbeats.sent(name, position)
        except (Transient, Halt) as error:
            log.warning("no heartbeat for %s: %s", name, error, extra=event("heartbeat-failed", source=name))
