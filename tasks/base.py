"""The base of all tasks: what becomes of an error.

====================  ====================================================================================
error                 consequence
====================  ====================================================================================
Shutdown              the message goes back to its queue
Fenced                acknowledged: a newer process does this work
Transient             tried again by the task's policy, then dropped with a warning
everything else       the pipeline is halted in a named state in the control store, then acknowledged;
                      a task that is about no pipeline logs the error
====================  ====================================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from kombu.exceptions import OperationalError

from tasks.resources import resources
from tasks.retry import EARLY, NEVER, Policy
from tasks.scheduled import claim_of, describe, may_run, record
from worker_sync.core.errors import (
    ConfigError,
    Fenced,
    Halt,
    Shutdown,
    State,
    TargetRejected,
    Transient,
    UndecodableBatch,
    Unrepresentable,
)
from worker_sync.core.log import event
from worker_sync.store import NotInitialized

if TYPE_CHECKING:
    AnyTask = Task[..., Any]
else:
    AnyTask = Task

log = logging.getLogger(__name__)


class Early(Transient):
    """The batch before it is not applied yet"""


class Disposition(Enum):
    REQUEUE = "requeue"
    DROP = "drop"
    RETRY = "retry"
    HALT = "halt"


def disposition(error: Exception) -> Disposition:
    """What the runtime does with an error."""
    if isinstance(error, Shutdown):
        return Disposition.REQUEUE
    if isinstance(error, Fenced):
        return Disposition.DROP
    if isinstance(error, Transient | NotInitialized | SoftTimeLimitExceeded | OperationalError):
        return Disposition.RETRY
    return Disposition.HALT


def halt_of(error: Exception, pipeline: str) -> Halt:
    """The named state in which `error` leaves the pipeline, with what to run once its cause is gone."""
    if isinstance(error, Halt):
        return error.about(pipeline)
    recovery = f"worker-sync resume {pipeline}"
    if isinstance(error, Unrepresentable):
        # What is in the log stays there: correcting the value alone would not keep it from coming again.
        recovery = (
            f"leave the column out of the pipeline, then worker-sync resume {pipeline}; or correct the value in the "
            f"source, then worker-sync resync {pipeline}"
        )
    for kind, state in _STATES.items():
        if isinstance(error, kind):
            return Halt(state, str(error), recovery)
    return Halt(State.UNEXPECTED_ERROR, f"{type(error).__name__}: {error}", recovery)


_STATES = {
    UndecodableBatch: State.UNDECODABLE_BATCH,
    Unrepresentable: State.UNREPRESENTABLE_VALUE,
    TargetRejected: State.TARGET_REJECTED,
    ConfigError: State.PREFLIGHT_FAILED,
}


class DisposedTask(AnyTask):
    """A task whose errors are sorted by disposition."""

    abstract = True
    #: The policy counts. Celery's own limit (3) would win over `retry(max_retries=None)`, which means "the task's".
    max_retries = None
    #: How often a transient failure is tried again.
    policy: Policy = NEVER
    #: Whether the first argument is a pipeline's name.
    about_pipeline = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run = claim_of(self.request)
        if not may_run(run):
            return None
        try:
            result = self.run(*args, **kwargs)
        except (Retry, Ignore, Reject):
            raise  # Celery's own control flow
        except Exception as error:  # noqa: BLE001 - the one place where nothing may slip through
            self._dispose(error, self._pipeline(args, kwargs))
            # Neither tried again nor handed back. Who was fenced is not the one who says what came of it.
            if not isinstance(error, Fenced):
                record(run, describe(error))
            return None
        record(run)
        return result

    def _dispose(self, error: Exception, pipeline: str | None) -> None:
        action = disposition(error)
        if action is Disposition.HALT:
            unsaved = self._halt(error, pipeline)
            if unsaved is None:
                return
            error, action = unsaved, Disposition.RETRY
        if action is Disposition.REQUEUE:
            raise Reject(str(error), requeue=True)
        if action is Disposition.DROP:
            log.info("%s: %s", self.name, error, extra=event("fenced", task=self.name, pipeline=pipeline))
            return
        self._retry(error, pipeline)

    def _halt(self, error: Exception, pipeline: str | None) -> Exception | None:
        """Record the halt; returns the error that kept it from being recorded."""
        if pipeline is None or pipeline not in resources().settings.pipelines:
            log.error("%s: %s", self.name, error, exc_info=error, extra=event("task-failed", task=self.name))
            return None
        halt = halt_of(error, pipeline)
        try:
            resources().control().pipelines.halt(pipeline, halt)
        except (Transient, NotInitialized) as unsaved:
            return unsaved
        trace = error if halt.state == State.UNEXPECTED_ERROR else None
        extra = event("halted", pipeline=pipeline, state=str(halt.state), recovery=halt.recovery)
        log.error("%s halted: %s", pipeline, halt, exc_info=trace, extra=extra)
        return None

    def _retry(self, error: Exception, pipeline: str | None) -> None:
        retries = self.request.retries
        delay = (EARLY if isinstance(error, Early) else self.policy).delay_s(retries)
        fields = {"task": self.name, "pipeline": pipeline, "retries": retries}
        if delay is None:
            log.warning("%s given up: %s", self.name, error, extra=event("given-up", **fields))
            return
        # Being early is everyday life with several workers.
        level = logging.DEBUG if isinstance(error, Early) else logging.WARNING
        log.log(level, "%s in %.2f s again: %s", self.name, delay, error, extra=event("retry", **fields))
        self._again(delay)

    def _again(self, delay: float) -> NoReturn:
        # Without these Celery would make its own from the arguments, payload included.
        shown: dict[str, Any] = {name: self.request.get(name) or "" for name in ("argsrepr", "kwargsrepr")}
        raise self.retry(countdown=delay, throw=False, **shown)

    def _pipeline(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        if not self.about_pipeline:
            return None
        name = kwargs.get("pipeline", args[0] if args else None)
        return name if isinstance(name, str) else None
