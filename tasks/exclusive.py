"""Work that must not run twice at once, although messages come twice.

A broker delivers a message again when its worker is cut off, or merely takes longer than Redis' visibility timeout:
then two workers have the same task. Here the second finds the lease taken:

    with exclusive("cleanup") as lease:
        for part in parts:
            lease.check()
            remove(part)

A worker that was paused or cut off for longer than the lease lasts is stopped by its next `check`; the lease of one
that was killed is free when it has run out. `lease.token` grows with each holder: work that writes elsewhere sends it
along, so that the other side can refuse the smaller one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from tasks.resources import resources
from worker_sync.core.errors import Fenced, Transient
from worker_sync.core.log import event
from worker_sync.store.held import HeldLease

log = logging.getLogger(__name__)

#: Seconds that the lease of a worker which was killed keeps others out.
TTL_S: Final = 30.0


class AtWork(Fenced):
    """Another worker does it"""


class AtWorkYet(Transient):
    """Another worker does it still"""


class Otherwise(Enum):
    """What becomes of a task whose lease another holds."""

    #: It ends, acknowledged. For work that comes again by itself: if the other one dies now, this message is gone.
    END = AtWork
    #: It is tried again by the task's policy. For work that must be done: the last to try finds it done, or does it.
    RETRY = AtWorkYet


@contextmanager
def exclusive(name: str, otherwise: Otherwise = Otherwise.END, ttl_s: float = TTL_S) -> Iterator[HeldLease]:
    """Hold the lease `task:NAME` meanwhile. Raises AtWork or AtWorkYet, which the base of all tasks disposes of, while
    another worker, or another thread of this one, has it."""
    held = HeldLease.acquire(resources().control(), f"task:{name}", ttl_s)
    if held is None:
        raise otherwise.value(f"the lease task:{name} is held")
    log.debug("holding %s", held.name, extra=event("lease_held", lease=held.name, token=held.token))
    with held:
        yield held
