"""A lease that is kept for as long as something takes, by a thread of its own."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import Final, Self

from worker_sync.core.errors import Fenced, WorkerSyncError
from worker_sync.core.log import event
from worker_sync.store.leases import Lease
from worker_sync.store.store import ControlStore

log = logging.getLogger(__name__)

#: A lease is renewed so many times while it lasts.
RENEWALS: Final = 5
#: Seconds that `release` waits for a renewal which is under way.
STOP_WAIT_S: Final = 1.0
#: Goes on while the machine sleeps, where there is such a clock.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock_s() -> float:
    """Seconds by a clock that nobody sets and that a pause of the process does not stop."""
    return time.clock_gettime(_CLOCK)


class HeldLease:
    """A lease that was acquired, renewed until it is released.

    Who works under it calls `check` before every step with an effect; `token` goes with what is written, where the
    other side can compare it. `check` needs no server: it knows how long the last renewal lasts, counted from before it
    was asked for, so it never believes in the lease for longer than the store does.
    """

    def __init__(self, lease: Lease, acquired_at: float, store: ControlStore) -> None:
        self._lease = lease
        self._until = acquired_at + lease.ttl_s
        #: Of its own: a statement that takes long on a shared connection would hold up the renewals.
        self._store = store
        self._taken = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {lease.name}", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, store: ControlStore, name: str, ttl_s: float, at_least: int = 0) -> Self | None:
        """Take the lease, None while another has it; `at_least` as in `Leases.acquire`."""
        # Whoever asks is another holder, also in the same process.
        holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        begun = clock_s()
        lease = store.leases.acquire(name, holder, ttl_s, at_least)
        return None if lease is None else cls(lease, begun, store.another())

    @property
    def name(self) -> str:
        return self._lease.name

    @property
    def token(self) -> int:
        """Greater than that of every earlier holder."""
        return self._lease.token

    @property
    def left_s(self) -> float:
        """Seconds for which nobody else can have it, as far as is known here."""
        return 0.0 if self._taken else max(self._until - clock_s(), 0.0)

    def check(self) -> None:
        """Raises Fenced when another holds the lease, or may."""
        if self._taken:
            raise Fenced(f"the lease {self.name} was taken over")
        if self.left_s <= 0:
            raise Fenced(f"the lease {self.name} ran out: it could not be renewed for {self._lease.ttl_s:g} s")

    def release(self) -> None:
        """Let go at once; if the store does not answer, the lease ends by itself."""
        self._stopping.set()
        self._thread.join(STOP_WAIT_S)
        if self._thread.is_alive():
            log.info("the lease %s ends by itself", self.name, extra=event("lease_kept", lease=self.name))

    def _keep(self) -> None:
        with self._store:
            while not self._taken and not self._stopping.wait(self._lease.ttl_s / RENEWALS):
                self._renew()
            self._give_back()

    def _give_back(self) -> None:
        try:
            self._store.leases.release(self._lease)
        except WorkerSyncError as error:
            log.info("the lease %s ends by itself: %s", self.name, error, extra=event("lease_kept", lease=self.name))

    def _renew(self) -> None:
        begun = clock_s()
        try:
            self._taken = not self._store.leases.renew(self._lease)
        except WorkerSyncError as error:
            log.warning("the lease %s: %s", self.name, error, extra=event("lease_retry", lease=self.name))
            return
        if not self._taken:
            self._until = begun + self._lease.ttl_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()
