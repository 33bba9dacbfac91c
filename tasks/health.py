"""Whether everything that the system needs answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kombu.exceptions import OperationalError

from connectors.registry import open_sink
from tasks.app import app
from tasks.base import DisposedTask
from tasks.resources import Resources, resources
from tasks.retry import NEVER
from worker_sync.core.clock import Skew, skew
from worker_sync.core.errors import Transient, Unreachable, WorkerSyncError
from worker_sync.core.log import event

log = logging.getLogger(__name__)

#: Asks a system for an answer; gives the skew of its clock, if it tells the time.
Ping = Callable[[], Skew | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one system said: `ok` None means that it could not be asked; `latency_ms` how long it took; `skew`: of its
    clock, None where it tells no time."""

    subject: str
    ok: bool | None
    detail: str
    latency_ms: float | None
    skew: Skew | None = None


@app.task(name="health.check", base=DisposedTask, policy=NEVER, parked=False)
def check() -> None:
    """Ask every database, the control store and the broker for an answer and record the results. Raises nothing for a
    system that doesn't answer: that is a result."""
    work = resources()
    answers = [answer(subject, ping) for subject, ping in pings(work)]
    for result in answers:
        ahead_s = None if result.skew is None else result.skew.ahead_s
        work.control().health.put(result.subject, result.ok, result.detail, result.latency_ms, ahead_s)
        _compare_clocks(result, work.settings.clock_skew_s)
        if not result.ok:
            extra = event("unhealthy", subject=result.subject)
            log.warning("%s does not answer: %s", result.subject, result.detail, extra=extra)


def _compare_clocks(result: Answer, limit_s: float) -> None:
    if result.skew is not None and result.skew.exceeds(limit_s):
        extra = event("clock_skewed", subject=result.subject, ahead_s=round(result.skew.ahead_s, 3))
        log.warning("the clock of %s is %s", result.subject, result.skew, extra=extra)


def answer(subject: str, ping: Ping) -> Answer:
    """Ask one system."""
    begun = time.perf_counter()
    try:
        found = ping()
    except Transient as error:
        return Answer(subject, False, str(error), None)
    except WorkerSyncError as error:
        return Answer(subject, None, str(error), None)
    return Answer(subject, True, "", (time.perf_counter() - begun) * 1000, found)


def pings(work: Resources) -> Iterator[tuple[str, Ping]]:
    """Every system with the question that it is asked."""
    yield "control", lambda: skew(work.control().now)
    yield "broker", _ping_broker
    for name in work.settings.databases:
        is_source = name in work.settings.sources
        yield f"database:{name}", _ping_source(work, name) if is_source else _ping_sink(work, name)


def _ping_source(work: Resources, name: str) -> Ping:
    return lambda: skew(work.source(name).now)


def _ping_sink(work: Resources, name: str) -> Ping:
    """Over a new connection: one that is open already would say nothing about the next."""

    def ping() -> Skew:
        with open_sink(name, work.settings.database(name).url.reveal()) as sink:
            sink.now()
            # Again, over the open connection: how long it took to connect would be in doubt.
            return skew(sink.now)

    return ping


def _ping_broker() -> None:
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=4)
        except OperationalError as error:
            raise Unreachable(f"the broker: {error}") from error
