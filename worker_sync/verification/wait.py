"""Waiting until a pipeline has applied all that was committed at a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from connectors.base import Mark, Sink, Source
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.markers import WAIT

#: Seconds between two looks at the target, growing from the first to the last.
FIRST_LOOK_S: Final = 0.002
LAST_LOOK_S: Final = 0.1
#: Seconds between two questions whether the pipeline has stopped.
CHECK_S: Final = 0.5


class NotAppliedInTime(WorkerSyncError):
    """Not applied in time"""


class Waiter:
    """Waits for one pipeline, over a source and a sink that its user keeps open. Used by one thread at a time.

    `tables` are the source tables whose snapshots belong to "everything"; empty when the pipeline copies none.
    `check` raises when waiting has become useless: a Halt when the pipeline stands in a named state.
    """

    def __init__(
        self,
        pipeline: str,
        source: Source,
        sink: Sink,
        shards: int,
        *,
        tables: Collection[str] = (),
        check: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ) -> None:
        self.pipeline = pipeline
        self._source = source
        self._sink = sink
        self._shards = range(shards)
        self._tables = tables
        self._check = check
        self._stop = stop or threading.Event()
        self._timeout = 60.0
        #: What the last `wait` waited for, also where it failed; None where the source could not be asked.
        self.awaited: str | None = None

    def wait(self, timeout: float) -> str:
        """Return, once it is applied, the position by which everything stood that was committed at the call.

        Raises NotAppliedInTime after `timeout` seconds, what `check` raises, and Unreachable.
        """
        self._timeout = timeout
        self.awaited = None
        position = self.awaited = self._source.emit(WAIT, self.pipeline.encode())
        # Asked after the position: another server's positions would mean nothing to these watermarks.
        identity = self._source.identity()
        self._until(lambda marks: self._passed(marks, identity, position), timeout)
        return position

    def catch_up(self) -> None:
        """`wait` for as long as the last wait was allowed to take."""
        self.wait(self._timeout)

    def _passed(self, marks: Mapping[int, Mark], identity: str, position: str) -> bool:
        mine = [mark for shard in self._shards if (mark := marks.get(shard)) is not None]
        return len(mine) == len(self._shards) and all(
            mark.identity == identity and mark.position.commit >= position and self._copied(mark) for mark in mine
        )

    def _copied(self, mark: Mark) -> bool:
        return all((state := mark.snapshots.get(table)) is not None and state.done for table in self._tables)

    def _until(self, condition: Callable[[Mapping[int, Mark]], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        check_at = 0.0
        pause = FIRST_LOOK_S
        while not condition(self._sink.marks(self.pipeline)):
            now = time.monotonic()
            if now >= check_at:
                self._check()
                check_at = now + CHECK_S
            if now >= deadline:
                raise NotAppliedInTime(f"{self.pipeline} is still behind after {timeout:g} s; see `worker-sync status`")
            if self._stop.wait(min(pause, deadline - now)):
                raise NotAppliedInTime(f"{self.pipeline}: interrupted")
            pause = min(pause * 1.5, LAST_LOOK_S)
