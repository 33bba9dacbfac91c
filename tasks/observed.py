"""What is said of a task while it runs, in the log and in its span."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tasks.application import PUBLISHED_AT
from tasks.queues import BY_TASK
from worker_sync.core import spans
from worker_sync.core.log import about
from worker_sync.core.spans import LINK, PARENT, Kind, Span

#: The arguments of the tasks that bring a batch, but for the batch.
_SUBJECT: Final = ("pipeline", "shard", "after", "upto")


@contextmanager
def observed(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Around one try. It belongs to the span that sent the message, whichever try it is; what replays a dead letter
    refers to the try that failed."""
    request, subject = task.request, subject_of(task, args, kwargs)
    parent, link = request.get(PARENT) or "", request.get(LINK) or ""
    with (
        spans.span(str(task.name), Kind.CONSUMER, parent=parent, link=link) as span,
        about(task=task.name, task_id=request.id, **subject),
    ):
        if span.recording:
            _describe(span, task, subject)
        yield


def subject_of(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The batch that a task about a pipeline brings: whose it is, and from where to where it reaches."""
    if not task.about_pipeline:
        return {}
    return {**dict(zip(_SUBJECT, args, strict=False)), **{name: kwargs[name] for name in _SUBJECT if name in kwargs}}


def _describe(span: Span, task: Any, subject: Mapping[str, Any]) -> None:
    request, row = task.request, BY_TASK.get(str(task.name))
    span.set(task_id=request.id or "", queue=row.name if row else "", **{"try": (request.retries or 0) + 1}, **subject)
    published_at = request.get(PUBLISHED_AT)
    if not request.retries and isinstance(published_at, float):
        span.set(queue_wait_ms=round(max(0.0, time.time() - published_at) * 1000, 3))
