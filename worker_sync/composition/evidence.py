"""Gathers what an evidence pack says beside the ledger: how far trails are, what the schedule did."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors.base import Mark
from connectors.ledger.evidence import Stated
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import Transient, WorkerSyncError
from worker_sync.core.secrets import redact
from worker_sync.core.sections import LEDGER, Pipeline
from worker_sync.ledger.evidence import Period, moment
from worker_sync.store import ControlStore
from worker_sync.store.schedule import Run

#: Entries of `beat_schedule.audit`.
_ENTRIES: Final = ("audit-checkpoint", "audit-verification")
#: What `tasks.audit` calls the ledger in the health results.
_SUBJECT: Final = "ledger"


def stated(space: Workspace, period: Period, wait_s: float) -> Stated:
    """What the configured trails and the control store say. Each trail gets `wait_s` seconds to record what is
    committed in its source now. A source that can't be asked is said to be so; raises what the store raises."""
    trails = [pipeline for pipeline in space.settings.flows.values() if pipeline.target == LEDGER]
    return Stated({trail.source: _trail(space, trail, wait_s) for trail in trails}, _runs(space.store, period))


def _trail(space: Workspace, trail: Pipeline, wait_s: float) -> dict[str, Any]:
    source = _asked(space, trail, wait_s)
    marks = space.sink(LEDGER).marks(trail.name)
    shards = {str(shard): _shard(mark) for shard, mark in sorted(marks.items())}
    changes = sum(mark.changes for mark in marks.values())
    return {"pipeline": trail.name, "changes_in_all": changes, "shards": shards, "source": source}


def _asked(space: Workspace, trail: Pipeline, wait_s: float) -> dict[str, Any]:
    """Where the source stands, and whether all of that is recorded: null where the source could not be asked."""
    waiter = None
    try:
        waiter = space.waiter(trail)
        waiter.wait(wait_s)
    except WorkerSyncError as error:
        position = waiter.awaited if waiter else None
        is_known = position is not None and not isinstance(error, Transient)
        return {"position": position, "all_recorded": False if is_known else None, "why": redact(str(error))}
    return {"position": waiter.awaited, "all_recorded": True, "why": ""}


def _shard(mark: Mark) -> dict[str, Any]:
    return {
        "identity": mark.identity,
        "recorded_position": str(mark.position),
        "changes": mark.changes,
        "committed_at": _from_us(mark.committed_at),
        "recorded_at": _from_us(mark.applied_at),
    }


def _runs(store: ControlStore, period: Period) -> dict[str, Any]:
    entries = {entry: _entry(store, entry, period) for entry in _ENTRIES}
    return {"entries": entries, "health": _health(store)}


def _entry(store: ControlStore, entry: str, period: Period) -> dict[str, Any]:
    kept_from = store.schedule.kept_from(entry)
    runs = store.schedule.within(entry, period.since, period.until)
    return {"kept_from": _moment(kept_from), "runs": [_run(run) for run in runs]}


def _run(run: Run) -> Mapping[str, Any]:
    return {
        "scheduled_for": _moment(run.scheduled_for),
        "status": str(run.status),
        "by_hand": run.by_hand,
        "published_at": _moment(run.published_at),
        "finished_at": _moment(run.finished_at),
        "error": redact(run.error),
    }


def _health(store: ControlStore) -> dict[str, Any] | None:
    """The newest result of the scheduled verification; None when it never ran."""
    found = next((health for health in store.health.all() if health.subject == _SUBJECT), None)
    if found is None:
        return None
    return {"ok": found.ok, "detail": found.detail, "at": moment(store.now() - timedelta(seconds=found.age_s))}


def _moment(at: datetime | None) -> str | None:
    return None if at is None else moment(at)


def _from_us(microseconds: int | None) -> str | None:
    return (
        None if microseconds is None else moment(datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds))
    )
