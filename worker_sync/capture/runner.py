"""The capture process of one source: wait for the lease, run sessions, wait out trouble, stop in a named state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from connectors.base import Source
from connectors.registry import open_source
from worker_sync.capture.assembly import Assembler
from worker_sync.capture.fence import Outnumbered
from worker_sync.capture.halts import PipelineHalted, halt_of
from worker_sync.capture.housekeeping import DESCRIBE_S
from worker_sync.capture.lane import Cut
from worker_sync.capture.retention import LogGuard
from worker_sync.capture.session import Ending, Session
from worker_sync.capture.wiring import Surroundings
from worker_sync.core.errors import Fenced, Halt, Permanent, State, Transient
from worker_sync.core.log import about, event
from worker_sync.core.settings import Settings
from worker_sync.store import ControlStore
from worker_sync.store.held import HeldLease
from worker_sync.store.pipelines import Status

log = logging.getLogger(__name__)

#: Seconds between two attempts to get the lease, and to begin a session after trouble (doubling up to the last).
STANDBY_S: Final = 0.5
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
        self._guard = LogGuard(source_name, settings.database(source_name).retained_log)
        #: The highest epoch that was met in a target.
        self._at_least = 0

    def run(self) -> int:
        """The exit code: 0 after a stop, 1 when the source halted."""
        with about(source=self._name):
            return self._run()

    def _run(self) -> int:
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
            extra = event("pipeline_halted", pipeline=error.pipeline, state=str(error.halt.state))
            log.error("%s", error, extra=extra)
            return True
        except Permanent as error:
            return self._halted(halt_of(error))
        except Halt as halt:
            stays = self._halted(halt)
            if halt.state is State.LOG_LIMIT:
                self._detach(lease)
            return stays
        finally:
            lease.release()

    def _wait_for_lease(self) -> HeldLease | None:
        announced = False
        while not self._stop.is_set():
            lease = HeldLease.acquire(self._store, self._lease_name, self._settings.capture.lease_s, self._at_least)
            if lease is not None:
                return lease
            if not announced:
                log.info("another capture of %s runs; standing by", self._name, extra={"action": "standby"})
                announced = True
            self._stop.wait(STANDBY_S)
        return None

    def _session(self, lease: HeldLease) -> bool:
        with ExitStack() as stack:
            source = stack.enter_context(self._open_source())
            assembler = Assembler(
                Surroundings(self._settings, source, self._name, self._store, lease, self._publish, self._guard, stack)
            )
            built_for = assembler.wanted()
            session = self._assembled(assembler)
            if session is None:
                return self._wait_for_work(assembler, lease, built_for)
            log.info("capturing %s", self._name, extra={"action": "capture_started"})
            self._pause = FIRST_PAUSE_S
            ending = session.run()
            log.info("capture of %s ended: %s", self._name, ending.value, extra={"action": "capture_ended"})
            return ending in (Ending.STOPPED, Ending.CHANGED)

    def _assembled(self, assembler: Assembler) -> Session | None:
        try:
            return assembler.session(self._stop)
        except Transient:
            # Meanwhile the source keeps its log for us, and no session's housekeeper watches it.
            self._look_at_log(assembler)
            raise

    def _open_source(self) -> Source:
        database = self._settings.source(self._name)
        source = open_source(database.name, database.url.reveal())
        if audit := self._settings.audit.get(self._name):
            source.context_field = audit.context_field
        return source

    def _wait_for_work(self, assembler: Assembler, lease: HeldLease, built_for: object) -> bool:
        """Nothing is to run: keep the lease until something is, and an eye on the log that the source keeps."""
        self._look_at_log(assembler)
        if not self._stay and not self._someone_paused():
            return False
        looked = time.monotonic()
        while assembler.wanted() == built_for and not self._stop.wait(IDLE_S):
            lease.check()
            if time.monotonic() - looked >= DESCRIBE_S:
                looked = time.monotonic()
                self._look_at_log(assembler)
        return True

    def _look_at_log(self, assembler: Assembler) -> None:
        """Raises Halt(log-limit) when the source is to keep no more log for us."""
        checkpoint = self._store.checkpoints.load(self._name)
        if checkpoint is not None:
            assembler.look_at_log(checkpoint.confirmed)

    def _detach(self, lease: HeldLease) -> None:
        """Let the source free its log. The pipelines stand in their named state already: a crash in between leaves a
        stream that the next capture drops."""
        lease.check()
        with self._open_source() as source:
            source.cut_off()
            source.drop_stream()
        log.error("the stream of %s is dropped", self._name, extra={"action": "stream_detached"})

    def _someone_paused(self) -> bool:
        names = [pipeline.name for pipeline in self._settings.pipelines_from(self._name)]
        return any(self._store.pipelines.get(name).status is Status.PAUSED for name in names)

    def _halted(self, halt: Halt) -> bool:
        for pipeline in self._settings.pipelines_from(self._name):
            self._store.pipelines.halt(pipeline.name, halt)
        log.error("%s halted: %s", self._name, halt, extra={"action": "source_halted", "state": halt.state})
        return self._stay
