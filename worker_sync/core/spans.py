"""Spans of traces, for code that needn't know whether any are recorded.

Off is the default: `span` then gives an object that does nothing, and OpenTelemetry is not imported.
`worker_sync.tracing` installs what records. Spans say where time went and whose it was (`ATTRIBUTES`); never a value of
a row, and of an error its type alone, because its text may quote one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Final, Protocol

#: The header of a message that says to which span its work belongs, in W3C's form.
PARENT: Final = "traceparent"
#: The header that names a span of another trace, in the same form: what is tried again is what failed there.
LINK: Final = "worker_sync_link"

Value = str | int | float | bool

ATTRIBUTES: Final[Mapping[str, str]] = {
    "source": "The database whose log it comes from",
    "pipeline": "The pipeline, or `audit.SOURCE` for a trail",
    "shard": "The shard of the pipeline",
    "after": "The position just before the batch's first change",
    "upto": "The position of the batch's last change",
    "changes": "Changes in the batch; of a target's transaction, changes that it was given",
    "bytes": "Size of the encoded batch",
    "resent": "The batch was sent before: its watermark stood still, or it came back from the capture's disk",
    "commit_age_ms": "Milliseconds from the oldest commit in the batch (the source's clock) to its being sent",
    "queue": "The queue of the task",
    "task_id": "The task's id, as in Flower and in the log",
    "try": "Which try of the task it is, from 1",
    "queue_wait_ms": "Milliseconds from the sending of the message to its first try",
    "outcome": "What came of the try, as in `tasks_total`: succeeded, retried, deferred, failed",
    "verdict": "What the target did with the batch: applied, duplicate, early, stale, held",
    "target": "The database that is written to",
    "rehearsal": "The transaction was rolled back: it only looked for what the target refuses",
    "entry": "The entry of the schedule",
    "scheduled_for": "The time of the run",
}
"""Every attribute of our spans by its name behind `worker_sync.`; beside them there is only `error.type`."""


class Kind(Enum):
    INTERNAL = "internal"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    CLIENT = "client"


class Span(Protocol):
    """One span, open."""

    @property
    def recording(self) -> bool:
        """Whether what is said of it is kept; what costs something to find out needn't be otherwise."""

    def set(self, **attributes: Value) -> None:
        """Say something of it; names are those of `ATTRIBUTES`."""

    def fail(self, error: BaseException) -> None:
        """What it is about has failed."""


class Tracing(Protocol):
    """What records spans."""

    def span(self, name: str, kind: Kind, parent: str, link: str) -> AbstractContextManager[Span]: ...

    def current(self) -> Span: ...

    def traceparent(self) -> str: ...

    def ids(self) -> tuple[str, str] | None: ...

    def counts(self) -> Mapping[str, int]: ...

    def end(self) -> None: ...


class _Nothing:
    """A span that nobody records, and the context manager that gives it."""

    recording = False

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, **attributes: Value) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass


_NOTHING: Final = _Nothing()
_tracing: Tracing | None = None


def install(tracing: Tracing | None) -> None:
    """Record spans by `tracing` from now on; None: no more."""
    global _tracing
    _tracing = tracing


def is_on() -> bool:
    """Whether spans are recorded in this process."""
    return _tracing is not None


def span(name: str, kind: Kind = Kind.INTERNAL, *, parent: str = "", link: str = "") -> AbstractContextManager[Span]:
    """A span around a block. It belongs to `parent` (a traceparent), else to the span that is open, else it begins a
    trace. `link` is the traceparent of a span that it refers to."""
    return _NOTHING if _tracing is None else _tracing.span(name, kind, parent, link)


def current() -> Span:
    """The span that is open in this thread."""
    return _NOTHING if _tracing is None else _tracing.current()


def traceparent() -> str:
    """What names the open span in a message's header; empty when there is none."""
    return "" if _tracing is None else _tracing.traceparent()


def ids() -> tuple[str, str] | None:
    """The ids of the open span's trace and of the span itself."""
    return None if _tracing is None else _tracing.ids()


def counts() -> Mapping[str, int]:
    """How many spans of this process were `sent` and `dropped`; empty when none are recorded."""
    return {} if _tracing is None else _tracing.counts()


def end() -> None:
    """Send what waits, within seconds, and record no more."""
    global _tracing
    ended, _tracing = _tracing, None
    if ended is not None:
        ended.end()
