"""When the newest message that workers have begun was published, by queue: from their reports."""

from __future__ import annotations

from tasks.progress import KIND
from worker_sync.store import ControlStore


def begun(store: ControlStore) -> dict[str, float]:
    """Seconds since 1970 by queue, over all workers."""
    found: dict[str, float] = {}
    for report in store.reports.all(KIND):
        for queue, published_at in report.status.get("begun", {}).items():
            found[queue] = max(found.get(queue, 0.0), float(published_at))
    return found
