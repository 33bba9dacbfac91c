"""The base of all tasks: what becomes of an error.

====================  ====================================================================================
error                 consequence
====================  ====================================================================================
Shutdown              the message goes back to its queue
Fenced                acknowledged: a newer process does this work
Transient             tried again by the task's policy; given up, it is final
everything else       final: it would fail again
====================  ====================================================================================

What is final of a task that is about a pipeline: given up, it is dropped with a warning, because its capture sends the
batch again; everything else halts the pipeline in a named state in the control store. What is final of any other task
is parked as a dead letter, or only logged where the task says `parked=False`. All of that happens before the
acknowledgement. While the control store can't take it, the message goes round and nothing is dropped. A task whose
process is ended at its hard time limit gets here no more: see `tasks.requests`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NoReturn

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from celery.signals import task_postrun
from kombu.exceptions import OperationalError

from tasks.breakers import NotNow
from tasks.letters import Failed, queue_of, task_letter
from tasks.observed import observed
from tasks.outcomes import DEFERRED, FAILED, RETRIED, SUCCEEDED, outcomes
from tasks.resources import resources
from tasks.retry import EARLY, NEVER, PARKING, Policy
from tasks.scheduled import HEADER, claim_of, describe, may_run, record
from worker_sync.core import spans
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
from worker_sync.core.spans import LINK, PARENT
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


#: Headers of ours that travel with a message from try to try, because a retry is a new message.
FIRST_TRIED_AT: Final = "first_tried_at"
FAILED_TRIES: Final = "failed_tries"
PUBLISHED_AT: Final = "published_at"


class DisposedTask(AnyTask):
    """A task whose errors are sorted by disposition. Every task says its `policy`."""

    abstract = True
    #: By name: only a worker needs it.
    Request = "tasks.requests:Request"
    #: The policy counts. Celery's own limit (3) would win over `retry(max_retries=None)`, which means "the task's".
    max_retries = None
    #: How often, and for how long, a transient failure is tried again.
    policy: Policy = NEVER
    #: Whether the first argument is a pipeline's name.
    about_pipeline = False
    #: Whether a final failure becomes a dead letter. Not for what is sent again anyway, every few seconds.
    parked = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with observed(self, args, kwargs):
            return self._disposed(args, kwargs)

    def _disposed(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        run = claim_of(self.request)
        if not may_run(run):
            return None
        try:
            result = self.run(*args, **kwargs)
        except (Retry, Ignore, Reject):
            raise  # Celery's own control flow
        except Exception as error:  # noqa: BLE001 - the one place where nothing may slip through
            self._dispose(error, self._pipeline(args, kwargs), args, kwargs)
            # Neither tried again nor handed back. Who was fenced is not the one who says what came of it.
            if not isinstance(error, Fenced):
                record(run, describe(error))
            return None
        self._count(SUCCEEDED, self._pipeline(args, kwargs))
        record(run)
        return result

    def _dispose(self, error: Exception, pipeline: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        action = disposition(error)
        if not isinstance(error, Early | NotNow | Shutdown | Fenced):
            spans.current().fail(error)
        if action is Disposition.REQUEUE:
            raise Reject(str(error), requeue=True)
        if action is Disposition.DROP:
            log.info("%s: %s", self.name, error, extra=event("fenced", task=self.name, pipeline=pipeline))
            return
        if action is Disposition.RETRY:
            self._retry(error, pipeline)  # raises, unless it is given up
        try:
            self._finally(error, action, pipeline, args, kwargs)
        except (Transient, NotInitialized) as unsaved:
            # Dropping it now would lose it.
            self._again(unsaved, PARKING.delay_s(self.request.retries) or PARKING.cap_s, pipeline)
        self._count(FAILED, pipeline)

    def _count(self, outcome: str, pipeline: str | None) -> None:
        outcomes.count(str(self.name), pipeline, outcome)
        spans.current().set(outcome=outcome)

    def _finally(
        self,
        error: Exception,
        action: Disposition,
        pipeline: str | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        if action is Disposition.RETRY:
            fields = {"task": self.name, "pipeline": pipeline, "retries": self._failed_tries()}
            log.warning("%s given up: %s", self.name, error, extra=event("given-up", **fields))
        elif pipeline is not None and pipeline in resources().settings.flows:
            self._halt(error, pipeline)
            return
        else:
            log.error("%s: %s", self.name, error, exc_info=error, extra=event("task-failed", task=self.name))
        if self.parked:
            self._park(error, args, kwargs)

    def _halt(self, error: Exception, pipeline: str) -> None:
        halt = halt_of(error, pipeline)
        resources().control().pipelines.halt(pipeline, halt)
        trace = error if halt.state == State.UNEXPECTED_ERROR else None
        extra = event("halted", pipeline=pipeline, state=str(halt.state), recovery=halt.recovery)
        log.error("%s halted: %s", pipeline, halt, exc_info=trace, extra=extra)

    def _park(self, error: Exception, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        request = self.request
        letter = task_letter(
            Failed(str(self.name), request.id or "", queue_of(self.name), args, kwargs),
            error,
            attempts=self._failed_tries() + 1,
            trace=spans.traceparent() or request.root_id or request.id or "",
            secrets=resources().settings.secrets(),
        )
        letters = resources().control().dead_letters
        if claim_of(request) is None:
            letters.park([letter])
        else:
            letters.park_repeated(letter)
        log.error("%s is parked: %s", self.name, letter.error, extra=event("parked", task=self.name, id=request.id))

    def _retry(self, error: Exception, pipeline: str | None) -> None:
        """Come back later, which raises; returns when the policy allows no further try."""
        if isinstance(error, NotNow):
            # Nothing was tried, so only the time counts.
            delay = self.policy.within(error.retry_after_s or 0.0, self._elapsed_s())
            if delay is not None:
                self._again(error, delay, pipeline)
            return
        policy = EARLY if isinstance(error, Early) else self.policy
        delay = policy.delay_s(self._failed_tries(), elapsed_s=self._elapsed_s())
        hint = error.retry_after_s if isinstance(error, Transient) else None
        if delay is not None:
            self._again(error, delay if hint is None else min(delay, hint), pipeline, failed=1)

    def _again(self, error: Exception, delay: float, pipeline: str | None, failed: int = 0) -> NoReturn:
        # Being early, or behind an open breaker, is everyday life.
        untried = isinstance(error, Early | NotNow)
        self._count(DEFERRED if untried else RETRIED, pipeline)
        level = logging.DEBUG if untried else logging.WARNING
        fields = {"task": self.name, "pipeline": pipeline, "retries": self.request.retries}
        log.log(level, "%s in %.2f s again: %s", self.name, delay, error, extra=event("retry", **fields))
        now = time.time()
        headers: dict[str, Any] = {
            PUBLISHED_AT: self.request.get(PUBLISHED_AT) or now,
            FIRST_TRIED_AT: self._first_tried_at(now),
            FAILED_TRIES: self._failed_tries() + failed,
        }
        # Its trace, and the scheduled run that it is.
        headers |= {name: kept for name in (PARENT, LINK, HEADER) if (kept := self.request.get(name))}
        # Without these Celery would make its own from the arguments, payload included.
        shown: dict[str, Any] = {name: self.request.get(name) or "" for name in ("argsrepr", "kwargsrepr")}
        try:
            raise self.retry(countdown=delay, throw=False, headers=headers, **shown)
        except Reject as unsent:
            # Celery gives a message up whose retry it can't publish.
            raise Reject("its retry could not be published", requeue=True) from unsent

    def _failed_tries(self) -> int:
        """Tries before this one that failed."""
        return int(self.request.get(FAILED_TRIES) or 0)

    def _first_tried_at(self, now: float) -> float:
        return float(self.request.get(FIRST_TRIED_AT) or now)

    def _elapsed_s(self) -> float:
        """Seconds since the first try; clocks that disagree don't make it negative."""
        now = time.time()
        return max(0.0, now - self._first_tried_at(now))

    def _pipeline(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        if not self.about_pipeline:
            return None
        name = kwargs.get("pipeline", args[0] if args else None)
        return name if isinstance(name, str) else None


@task_postrun.connect
def forget(retval: Any = None, **_: Any) -> None:
    """Break the circles of an error that Celery has dealt with. Its traceback holds the tracer's frame, which holds
    the error, and those of all callers, with the message in every form on its way; a retry is an argument of its own.
    Only the collector would free them, and it counts objects, not bytes: hundreds of early batches are few to it."""
    if isinstance(retval, BaseException):
        retval.__traceback__ = retval.__context__ = retval.__cause__ = None
    if isinstance(retval, Retry):
        retval.args = (str(retval),)
