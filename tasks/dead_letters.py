"""Work that failed for good, as tasks.

From a Python shell with WORKER_SYNC_CONFIG set::

    from tasks import dead_letters
    dead_letters.replay.delay([17, 18])
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tasks import deciding
from tasks.app import app
from tasks.base import DisposedTask
from tasks.resources import resources
from tasks.retry import REQUEST, SCHEDULED
from worker_sync.core.log import event
from worker_sync.store.dead_letters import Wanted

log = logging.getLogger(__name__)


@app.task(name="dead_letters.replay", base=DisposedTask, policy=REQUEST)
def replay(ids: Sequence[int], by: str = "task") -> None:
    """Try the work of the parked letters with these numbers again. `by` is recorded as who decided it. A letter that
    is not parked, or can't be replayed, is an error; the others are replayed."""
    work = resources()
    letters = list(deciding.found(work.control(), Wanted(ids=list(ids))))
    decided = deciding.replay(app, work.settings, work.control(), letters, by)
    log.info("%d letters replayed", len(decided), extra=event("letters-replayed", ids=list(ids), by=by))
    _complain(ids, decided)


@app.task(name="dead_letters.discard", base=DisposedTask, policy=REQUEST)
def discard(ids: Sequence[int], by: str = "task", note: str = "") -> None:
    """Give the work of the parked letters with these numbers up. `by` and `note` are recorded. A letter that is not
    parked is an error; the others are discarded."""
    work = resources()
    letters = list(deciding.found(work.control(), Wanted(ids=list(ids))))
    decided = deciding.discard(work.settings, work.control(), letters, by, note)
    log.info("%d letters discarded", len(decided), extra=event("letters-discarded", ids=list(ids), by=by))
    _complain(ids, decided)


@app.task(name="dead_letters.purge", base=DisposedTask, policy=SCHEDULED)
def purge(older_than_days: float = deciding.KEPT_DAYS) -> None:
    """Remove the letters that were replayed or discarded more than so many days ago. Parked ones stay."""
    removed = deciding.purge(resources().control(), older_than_days * deciding.DAY_S)
    log.info("%d letters removed", removed, extra=event("letters-purged", count=removed))


def _complain(ids: Sequence[int], decided: Sequence[deciding.Decided]) -> None:
    """A retried task finds what it did the first time resolved, so that alone is no error."""
    if deciding.failed(decided):
        raise deciding.not_replayed(decided)
    if not decided:
        log.warning("no parked letter among %s", list(ids), extra=event("no-letters", ids=list(ids)))
