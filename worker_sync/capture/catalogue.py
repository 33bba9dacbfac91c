"""Asks a source what its tables look like, and writes down what its pipelines' targets have, beside the main loop."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from threading import Event
from typing import Final

from connectors.base import Source
from worker_sync.capture.background import Background
from worker_sync.capture.versions import Definitions
from worker_sync.core import markers
from worker_sync.core.errors import Halt, Transient
from worker_sync.core.log import event
from worker_sync.store import ControlStore
from worker_sync.store.versions import TableVersion

log = logging.getLogger(__name__)

#: Seconds between two looks at the source's catalog.
LOOK_S: Final = 2.0
#: Seconds until something is written again that could not be.
AGAIN_S: Final = 0.5


class Catalogue(Background):
    """`found` is what the source's catalog said last, replaced as a whole; None until then.

    A table without traffic, or a new one, shows nowhere else.
    """

    def __init__(self, source: Source, store: ControlStore, token: int) -> None:
        super().__init__("catalogue")
        self._source = source
        self._store = store
        self._token = token
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._fingerprint = ""
        self._look_at = 0.0
        self.found: Definitions | None = None
        #: There are other tables than those that run.
        self.outdated = False

    def save(self, pipeline: str, version: TableVersion) -> Callable[[], bool]:
        """Write down what is known of a table; the answer tells whether that is done."""
        saved = Event()

        def job() -> None:
            self._store.versions.save(pipeline, version, self._token)
            saved.set()

        self._jobs.put(job)
        return saved.is_set

    def halt(self, pipeline: str, halt: Halt, version: TableVersion) -> None:
        def job() -> None:
            self._store.versions.save(pipeline, version, self._token)
            self._store.pipelines.halt(pipeline, halt)
            extra = event("pipeline_halted", pipeline=pipeline, state=str(halt.state))
            log.error("%s: %s", pipeline, halt.about(pipeline), extra=extra)

        self._jobs.put(job)

    def rebuild(self) -> None:
        self.outdated = True

    def wake(self) -> None:
        self._jobs.put(None)

    def work(self) -> None:
        while not self.stopping.is_set():
            try:
                job = self._jobs.get(timeout=max(0.0, self._look_at - time.monotonic()))
            except queue.Empty:
                self._look()
            else:
                self._do(job)

    def _do(self, job: Callable[[], None] | None) -> None:
        while job is not None and not self.stopping.is_set():
            try:
                job()
                return
            except Transient as error:
                log.warning("the control store does not answer: %s", error, extra={"action": "control_retry"})
                self.stopping.wait(AGAIN_S)

    def _look(self) -> None:
        self._look_at = time.monotonic() + LOOK_S
        try:
            fingerprint = self._source.fingerprint()
            if fingerprint != self._fingerprint:
                tables = {table.table: table for table in self._source.tables()}
                # After the tables were read: what they saw is in the log before.
                self.found = Definitions(tables, self._source.emit(markers.NUDGE, b""))
                self._fingerprint = fingerprint
        except Transient as error:
            log.warning("can't read the source's catalog: %s", error, extra={"action": "catalog_retry"})
