"""Asks a source what its tables look like, and writes down what its pipelines' targets have, beside the main loop."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping
from threading import Event
from typing import Final

from msgspec.structs import replace

from connectors.base import Source
from worker_sync.capture.background import Background
from worker_sync.capture.preparation import lacks_changes
from worker_sync.capture.versions import Definitions
from worker_sync.core import markers
from worker_sync.core.errors import Halt, Transient
from worker_sync.core.log import event
from worker_sync.core.partitions import Partitions
from worker_sync.core.schema import TableName
from worker_sync.store import ControlStore
from worker_sync.store.signals import SignalKind
from worker_sync.store.versions import TableVersion

log = logging.getLogger(__name__)

#: Seconds between two looks at the source's catalog.
LOOK_S: Final = 2.0
#: Seconds until something is written again that could not be.
AGAIN_S: Final = 0.5


class Catalogue(Background):
    """`found` is what the source's catalog said last, replaced as a whole; None until then. `partitions` is what is
    recorded of them.

    A table without traffic, or a new one, shows nowhere else.
    """

    def __init__(
        self,
        source: Source,
        source_name: str,
        store: ControlStore,
        token: int,
        partitions: Mapping[TableName, Partitions],
    ) -> None:
        super().__init__("catalogue")
        self._partitions = partitions
        self._source = source
        self._source_name = source_name
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

    def resync(self, pipeline: str, version: TableVersion) -> None:
        """Copy the table's rows anew, and take out those that are gone, as a person may ask for it."""
        table = str(version.table)

        def job() -> None:
            with self._store.transaction():
                self._store.versions.save(pipeline, version, self._token)
                self._store.signals.send(self._source_name, SignalKind.RESYNC, pipeline, table)

        self._jobs.put(job)

    def halt(self, pipeline: str, halt: Halt, version: TableVersion) -> None:
        def job() -> None:
            # One without the other would be taken for a person's consent, or be asked once more.
            with self._store.transaction():
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
            if why := self._source.curtailed():
                raise lacks_changes(why)
            ended = self._source.ended() if self._partitions else ""
            fingerprint = self._source.fingerprint()
            if fingerprint == self._fingerprint:
                self._partitions = {name: replace(one, ended=ended) for name, one in self._partitions.items()}
            else:
                self._take(fingerprint)
        except Transient as error:
            log.warning("can't read the source's catalog: %s", error, extra={"action": "catalog_retry"})

    def _take(self, fingerprint: str) -> None:
        """Take what the catalog says, if it says the same up to a place in the log: a definition that is older than
        its horizon would undo one that the log has told before."""
        tables = {table.table: table for table in self._source.tables()}
        partitions = self._source.partitions(self._partitions)
        horizon = self._source.emit(markers.NUDGE, b"")
        if self._source.fingerprint() == fingerprint:
            self._fingerprint, self._partitions = fingerprint, partitions
            self.found = Definitions(tables, horizon, partitions)
