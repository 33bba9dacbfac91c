"""Targets that did not answer when a session began: the other pipelines go on, and these are looked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from connectors.base import Sink
from worker_sync.capture.background import Background
from worker_sync.core.errors import Transient, WorkerSyncError
from worker_sync.core.log import event

log = logging.getLogger(__name__)

#: Seconds between two attempts to reach the targets.
LOOK_EVERY_S: Final = 2.0


class AbsentTargets(Background):
    """Tries the targets of waiting pipelines. `back` names the pipelines whose target has answered since; the next
    session opens them, whatever the answer was."""

    def __init__(self, targets: Mapping[str, Callable[[], Sink]]) -> None:
        super().__init__("absent-targets")
        self._targets = targets
        #: Replaced as a whole, never changed, so that reading it needs no lock.
        self.back: frozenset[str] = frozenset()

    @property
    def awaited(self) -> frozenset[str]:
        """The pipelines that still wait."""
        return frozenset(self._targets) - self.back

    def work(self) -> None:
        while self.awaited and not self.stopping.wait(LOOK_EVERY_S):
            for pipeline in sorted(self.awaited):
                if self._answers(pipeline):
                    log.info("the target of %s answers", pipeline, extra=event("target_back", pipeline=pipeline))
                    self.back |= {pipeline}

    def _answers(self, pipeline: str) -> bool:
        try:
            with self._targets[pipeline]() as sink:
                sink.marks(pipeline)
        except Transient:
            return False
        except WorkerSyncError:
            return True
        return True
