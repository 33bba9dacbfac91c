"""Which positions are of the history that the source's log tells now.

A standby that is promoted lacks what had not reached it, and goes on with other transactions at the same positions.
Where a target has that already, or the log was confirmed beyond it, to continue would lose them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from connectors.base import ENDLESS, Source
from worker_sync.core.errors import Halt, State
from worker_sync.core.log import event
from worker_sync.store.checkpoints import OF_LOG, Checkpoint

log = logging.getLogger(__name__)


class Lineage:
    """The source's history now, against those that its checkpoint knows. Raises Transient on a standby."""

    def __init__(self, source: Source, known: Mapping[str, str]) -> None:
        self._source = source
        self._now = source.history()
        self._known = known

    def taken_up(self, checkpoint: Checkpoint, pipelines: Iterable[str]) -> Checkpoint:
        """The checkpoint with what is confirmed in the source's history of now. Nothing is lost by that: what a target
        has applied beyond is found by `shared`. Raises Halt when the histories have nothing in common."""
        shared = self.shared(OF_LOG)
        if not shared:
            detail = (
                f"the source's history was {self._known[OF_LOG]} and is {self._now} now, which does not come from it"
            )
            raise Halt(State.IDENTITY_CHANGED, detail, "worker-sync resync PIPELINE")
        if shared != ENDLESS:
            extra = event("source_promoted", source=checkpoint.source, position=shared)
            log.warning(
                "%s was promoted, or recovered to a point in time: its log is another one after %s",
                checkpoint.source,
                shared,
                extra=extra,
            )
        histories = {OF_LOG: self._now, **{name: self._known.get(name, self._now) for name in pipelines}}
        return replace(checkpoint, confirmed=min(checkpoint.confirmed, shared), histories=histories)

    def shared(self, pipeline: str) -> str:
        """The last position of a pipeline, as the checkpoint has it, that means the same now."""
        return self._source.shared(self._known.get(pipeline, self._now), self._now)

    def begun(self, checkpoint: Checkpoint, pipelines: Iterable[str]) -> Checkpoint:
        """The checkpoint with these pipelines in the history of now."""
        return replace(checkpoint, histories={**checkpoint.histories, **dict.fromkeys(pipelines, self._now)})
