"""The capture process of one source: wait for the lease, run sessions, wait out trouble, stop in a named state."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from connectors.base import Source
from connectors.registry import open_source
from worker_sync.capture.assembly import Assembler
from worker_sync.capture.fence import Outnumbered
from worker_sync.capture.halts import PipelineHalted, halt_of
from worker_sync.capture.lane import Cut
from worker_sync.capture.session import Ending
from worker_sync.core.errors import Fenced, Halt, Permanent, Transient
from worker_sync.core.settings import Settings
from worker_sync.store import ControlStore
from worker_sync.store.leases import Lease
from worker_sync.store.pipelines import Status

log = logging.getLogger(__name__)

#: Seconds between two attempts to get the lease, and to begin a session after trouble (doubling up to the last).
STANDBY_S: Final = 1.0
FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 15.0
#: Seconds between two looks for something to run while everything is paused or halted.
IDLE_S: Final = 0.5


class Capture:
    """Captures one source until asked to stop.

    `publish` hands a batch to the broker. With `stay` the process outlives a halted source and waits for a person's
    request; without it `run` returns 1.
    """

    def __init__(
        self,
        settings: Settings,
        source_name: str,
        store: ControlStore,
        publish: Callable[[Cut], None],
        stop: threading.Event,
        *,
        stay: bool,
    ) -> None:
        self._settings = settings
        self._name = source_name
        self._store = store
        self._publish = publish
        self._stop = stop
        self._stay = stay
        self._pause = FIRST_PAUSE_S
        self._lease_name = f"capture:{source_name}"
        #: The highest epoch that was met in a target.
        self._at_least = 0

    def run(self) -> int:
        """The exit code: 0 after a stop, 1 when the source halted."""
        while not self._stop.is_set():
            try:
                if not self._run_once():
                    return 1
                self._pause = FIRST_PAUSE_S
            except (Transient, Fenced) as error:
                log.warning("%s; trying again in %.1f s", error, self._pause, extra={"action": "session_retry"})
                self._stop.wait(self._pause)
                self._pause = min(self._pause * 2, LAST_PAUSE_S)
        return 0

    def _run_once(self) -> bool:
        """One session under one lease; False when the source halted and this process is not to stay."""
        lease = self._wait_for_lease()
        if lease is None:
            return True
        try:
            return self._session(lease)
        except Outnumbered as error:
            self._at_least = error.epoch
            raise
        except PipelineHalted as error:
            self._store.pipelines.halt(error.pipeline, error.halt)
            log.error("%s", error, extra={"action": "pipeline_halted"})
            return True
        except Permanent as error:
            return self._halted(halt_of(error))
        except Halt as halt:
            return self._halted(halt)
        finally:
            self._release(lease)

    def _wait_for_lease(self) -> Lease | None:
        holder = f"{socket.gethostname()}:{os.getpid()}"
        announced = False
        while not self._stop.is_set():
            lease = self._store.leases.acquire(self._lease_name, holder, self._settings.capture.lease_s, self._at_least)
            if lease is not None:
                return lease
            if not announced:
                log.info("another capture of %s runs; standing by", self._name, extra={"action": "standby"})
                announced = True
            self._stop.wait(STANDBY_S)
        return None

    def _session(self, lease: Lease) -> bool:
        with ExitStack() as stack:
            source = stack.enter_context(self._open_source())
            assembler = Assembler(self._settings, source, self._name, self._store, lease, self._publish, stack)
            built_for = assembler.wanted()
            session = assembler.session(self._stop)
            if session is None:
                return self._wait_for_work(assembler, lease, built_for)
            log.info("capturing %s", self._name, extra={"action": "capture_started"})
            self._pause = FIRST_PAUSE_S
            ending = session.run()
            log.info("capture of %s ended: %s", self._name, ending.value, extra={"action": "capture_ended"})
            return ending in (Ending.STOPPED, Ending.CHANGED)

    def _open_source(self) -> Source:
        database = self._settings.database(self._name)
        return open_source(database.name, database.url.reveal())

    def _wait_for_work(self, assembler: Assembler, lease: Lease, built_for: object) -> bool:
        """Nothing is to run: keep the lease until something is."""
        if not self._stay and not self._someone_paused():
            return False
        while assembler.wanted() == built_for and not self._stop.wait(IDLE_S):
            if not self._store.leases.renew(lease):
                raise Fenced(f"the lease {lease.name} was taken over")
        return True

    def _someone_paused(self) -> bool:
        names = [pipeline.name for pipeline in self._settings.pipelines_from(self._name)]
        return any(self._store.pipelines.get(name).status is Status.PAUSED for name in names)

    def _halted(self, halt: Halt) -> bool:
        for pipeline in self._settings.pipelines_from(self._name):
            self._store.pipelines.halt(pipeline.name, halt)
        log.error("%s halted: %s", self._name, halt, extra={"action": "source_halted", "state": halt.state})
        return self._stay

    def _release(self, lease: Lease) -> None:
        try:
            self._store.leases.release(lease)
        except Transient as error:
            log.warning("the lease %s expires by itself: %s", lease.name, error, extra={"action": "lease_kept"})
