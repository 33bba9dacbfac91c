"""Tables that leave a pipeline's configuration and come back later.

The log is read and confirmed without them. So a table that is back is copied anew, and what is gone is taken out of the
target; else all that happened in between would be missing, and nothing would tell. A trail copies nothing: it says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from worker_sync.capture.versions import Records
from worker_sync.core.log import event
from worker_sync.core.sections import Pipeline, is_trail
from worker_sync.core.selection import Selected, carries
from worker_sync.store import ControlStore
from worker_sync.store.signals import SignalKind
from worker_sync.store.versions import TableVersion

log = logging.getLogger(__name__)


class Absences:
    """Notes, for the capture of `source` that has `token`, which recorded tables its pipelines have no rule for."""

    def __init__(self, source: str, store: ControlStore, token: int) -> None:
        self._source = source
        self._store = store
        self._token = token

    def note(
        self, pipelines: Iterable[Pipeline], chosen: Mapping[str, Sequence[Selected]], records: Mapping[str, Records]
    ) -> bool:
        """Record what left and what is back; True when something was: what is known of the tables is to be read anew,
        and what is asked for. What is back in a trail stays absent until the trail has told it (`Targets`)."""
        noted = False
        for pipeline in pipelines:
            present = {table.source.table for table in chosen[pipeline.name]}
            for name, record in records[pipeline.name].items():
                if record.absent and name in present and not is_trail(pipeline.name):
                    self._welcome(pipeline, record)
                elif not record.absent and record.version is not None and not carries(pipeline, name):
                    self._store.versions.save(pipeline.name, replace(record, absent=True), self._token)
                else:
                    continue
                noted = True
        return noted

    def _welcome(self, pipeline: Pipeline, record: TableVersion) -> None:
        name, copies = str(record.table), pipeline.snapshot == "initial"
        words = "is copied anew" if copies else f"lacks what happened: worker-sync resync {pipeline.name} {name}"
        extra = event("table_back", pipeline=pipeline.name)
        log.warning("%s is back in the configuration and %s", name, words, extra=extra)
        with self._store.transaction():
            self._store.versions.save(pipeline.name, replace(record, absent=False), self._token)
            if copies:
                self._store.signals.send(self._source, SignalKind.RESYNC, pipeline.name, name)
