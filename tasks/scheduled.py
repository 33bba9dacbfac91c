"""A scheduled run on its way through the broker: what its message says of it, and what the worker makes of that.

The message of a run names its claim. A worker runs it if the claim is still the one under which it was sent and nothing
has come of it yet, and records what comes of it. Where the control store can't be asked the task is run: tasks are
idempotent, and a run twice is better than none.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from datetime import datetime
from typing import Any, Final

from celery import Celery
from celery.signals import task_revoked

from beat_schedule import Entry
from tasks.resources import resources
from worker_sync.core import spans
from worker_sync.core.errors import ConfigError, Transient, WorkerSyncError
from worker_sync.core.log import event
from worker_sync.core.secrets import redact
from worker_sync.core.spans import Kind
from worker_sync.store.schedule import Claim, Run, RunStatus

log = logging.getLogger(__name__)

HEADER: Final = "worker_sync_run"
#: The same run has the same task id, however often it is sent.
_IDS: Final = uuid.UUID("5b6d6b3f-2f0c-4a0e-9a5e-6f8f1c6c7d11")
_OPEN: Final = frozenset({RunStatus.CLAIMED, RunStatus.PUBLISHED})


def send(app: Celery, claim: Claim, entry: Entry) -> None:
    """Publish the run. Raises the broker's error when it did not take it, or may not have."""
    at = claim.scheduled_for.isoformat()
    with spans.span(f"schedule {claim.entry}", Kind.PRODUCER) as span:
        span.set(entry=claim.entry, scheduled_for=at)
        try:
            app.send_task(
                claim.task,
                task_id=str(uuid.uuid5(_IDS, f"{claim.entry} {at}")),
                expires=entry.expires_s,
                headers={HEADER: [claim.entry, at, claim.task, claim.token]},
            )
        except Exception as error:
            span.fail(error)
            raise


def claim_of(request: Any) -> Claim | None:
    """The claim that a task's request names; None for a task that no schedule sent."""
    return named_claim(request.get("headers")) or named_claim(request)


def named_claim(headers: Any) -> Claim | None:
    """The claim that stands in a message's headers, which anyone may have written; None without a whole one."""
    match headers.get(HEADER) if hasattr(headers, "get") else None:
        case [str(entry), str(at), str(task), int(token)] if "\0" not in entry:
            with contextlib.suppress(ValueError):
                return Claim(entry, datetime.fromisoformat(at), task, token)
    return None


def may_run(claim: Claim | None) -> bool:
    """Whether this message is the one to run."""
    if claim is None:
        return True
    try:
        run = resources().control().schedule.get(claim.entry, claim.scheduled_for)
    except (Transient, ConfigError) as error:
        log.warning("%s runs unchecked: %s", claim.entry, error, extra=event("run_unchecked", entry=claim.entry))
        return True
    if run is None or _is_the_one(run, claim):
        return True
    extra = event("run_repeated", entry=claim.entry, status=str(run.status))
    log.info("%s for %s was sent twice; this one is left out", claim.entry, claim.scheduled_for, extra=extra)
    return False


def _is_the_one(run: Run, claim: Claim) -> bool:
    return run.token == claim.token and run.status in _OPEN


def record(claim: Claim | None, error: str = "") -> None:
    """What came of it: finished, or failed with `error`."""
    if claim is None:
        return
    status = RunStatus.FAILED if error else RunStatus.FINISHED
    try:
        resources().control().schedule.ended(claim, status, error)
    except (Transient, ConfigError) as unsaved:
        extra = event("run_unrecorded", entry=claim.entry)
        log.warning("%s: that it has %s is not recorded: %s", claim.entry, status, unsaved, extra=extra)


def describe(error: Exception) -> str:
    """The error without what might be a row's value or a password."""
    return redact(str(error)) if isinstance(error, WorkerSyncError) else type(error).__name__


@task_revoked.connect
def _expired(request: Any = None, expired: bool = False, **_: Any) -> None:
    """No worker began it in time."""
    claim = claim_of(request) if expired else None
    record(claim, "no worker began it before it expired")
