"""Watches the watermarks of a target database from a thread of its own: a target that hangs must not stop capture."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final

from connectors.base import Mark, Sink
from worker_sync.capture.background import Background
from worker_sync.capture.halts import PipelineHalted, halt_of
from worker_sync.core.errors import Halt, Permanent, Transient
from worker_sync.core.log import event

log = logging.getLogger(__name__)

#: Seconds between two looks while batches are pending, while nothing is, and after a failed one.
BUSY_S: Final = 0.01
IDLE_S: Final = 0.5
FAILED_S: Final = 1.0

Marks = dict[tuple[str, int], Mark]


class Watcher(Background):
    """Keeps the newest marks of pipelines that share a target; the main loop reads `marks`.

    `changed` (shared by all watchers of a capture) is set whenever a mark moved.
    """

    def __init__(self, sink: Sink, pipelines: Sequence[str], changed: threading.Event) -> None:
        super().__init__(f"watcher-{sink.engine}")
        self._sink = sink
        self._pipelines = pipelines
        self._changed = changed
        self._wake = threading.Event()
        self._busy = False
        #: Replaced as a whole, never changed, so that reading it needs no lock.
        self.marks: Marks = {}

    def expect(self, *, pending: bool) -> None:
        """Say whether batches are pending, which is when to look often."""
        if pending and not self._busy:
            self._wake.set()
        self._busy = pending

    def wake(self) -> None:
        self._wake.set()

    def work(self) -> None:
        try:
            while not self.stopping.is_set():
                self._wake.wait(self._look())
                self._wake.clear()
        finally:
            self._sink.close()

    def _look(self) -> float:
        try:
            marks = {(name, shard): mark for name in self._pipelines for shard, mark in self._marks_of(name).items()}
        except Transient as error:
            extra = event("watermark_retry", pipeline=", ".join(self._pipelines))
            log.warning("can't read watermarks: %s", error, extra=extra)
            return FAILED_S
        if missing := self.marks.keys() - marks.keys():
            raise Transient(f"the target of {min(missing)[0]} has lost its watermarks")
        before, self.marks = self.marks, marks
        if any(key not in before or before[key].position != mark.position for key, mark in marks.items()):
            self._changed.set()
        return BUSY_S if self._busy else IDLE_S

    def _marks_of(self, pipeline: str) -> dict[int, Mark]:
        try:
            return self._sink.marks(pipeline)
        except (Halt, Permanent) as error:
            raise PipelineHalted(pipeline, halt_of(error)) from error
