"""Batches on their way through the broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from connectors.base import Outcome
from tasks import claims
from tasks.base import Early
from tasks.resources import Resources, resources
from worker_sync.core import spans
from worker_sync.core.errors import Unreachable
from worker_sync.core.log import event

log = logging.getLogger(__name__)

#: Brings the bytes of a batch of a pipeline to its target; returns the `Outcome`.
Apply = Callable[[Resources, str, bytes], str]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A batch ready to be sent: the arguments of `task`, and `summary`, which people see instead of the data."""

    pipeline: str
    shard: int
    after: str
    upto: str
    batch: bytes
    summary: str = ""
    task: str = "sync.apply"

    def __str__(self) -> str:
        return f"{self.pipeline}/{self.shard} {self.after} .. {self.upto}"


def publish(app: Celery, parcel: Parcel) -> None:
    """Put one batch into the queue; returns once the broker has it. Raises Unreachable within seconds otherwise."""
    options: dict[str, Any] = {
        "argsrepr": parcel.summary,
        "kwargsrepr": "{}",
        "ignore_result": True,
        "headers": {"published_at": time.time()},
    }
    arguments = (parcel.pipeline, parcel.shard, parcel.after, parcel.upto, parcel.batch)
    try:
        sent = app.send_task(parcel.task, arguments, **options)
    except OperationalError as error:
        raise Unreachable(f"the broker: {error}") from error
    if log.isEnabledFor(logging.DEBUG):
        log.debug("%s sent", parcel, extra=event("sent", task=parcel.task, task_id=sent.id))


def deliver(parcel: Parcel, apply: Apply) -> None:
    """Apply a batch that has arrived, or what its claim stands for. A claim that is gone was applied, or will be sent
    again. Raises Early while the batch before it is not applied."""
    work = resources()
    pipeline, data = parcel.pipeline, parcel.batch
    if claims.is_claim(data):
        found = claims.fetch(work.control().claims, pipeline, data)
        if found is None:
            log.info("%s is not kept any more", parcel, extra=event("claim-gone", pipeline=pipeline))
            return
        data = found
    outcome = apply(work, pipeline, data)
    spans.current().set(verdict=outcome)
    if outcome == Outcome.EARLY:
        raise Early(str(parcel))
    if claims.is_claim(parcel.batch):
        claims.remove(work.control().claims, pipeline, parcel.batch)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("%s %s", parcel, outcome, extra=event(outcome, pipeline=pipeline))
