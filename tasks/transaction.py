"""A target's transaction, with its span."""

from __future__ import annotations

from connectors.base import Sink
from worker_sync.core import spans
from worker_sync.core.change import Batch
from worker_sync.core.parking import Plan
from worker_sync.core.spans import Kind


def apply(sink: Sink, batch: Batch, plan: Plan | None = None) -> str:
    """`sink.apply`."""
    with spans.span("target transaction", Kind.CLIENT) as span:
        if span.recording:
            span.set(pipeline=batch.pipeline, shard=batch.shard)
            span.set(changes=len(batch.changes if plan is None else plan.changes))
            span.set(rehearsal=plan is not None and plan.rehearsal)
        try:
            verdict = sink.apply(batch, plan)
        except Exception as error:
            span.fail(error)
            raise
        span.set(verdict=verdict)
        return verdict
