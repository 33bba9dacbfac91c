"""The long-running process that reads one source's log; see `docs/explanation/architecture.md`."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import Final

from tasks import claims
from tasks.app import app
from tasks.configuration import configure, control_url
from tasks.parcels import Parcel, publish
from worker_sync.capture.lane import Cut
from worker_sync.capture.runner import Capture
from worker_sync.core.sections import is_trail
from worker_sync.core.settings import Settings
from worker_sync.store import ControlStore
from worker_sync.store.claims import Claims

#: Seconds after which the thread that decodes lets another one run. With Python's 5 ms a publisher, which needs its
#: turn several times a message, took 12 ms for one while the decoder was busy; with this it takes 5.
SWITCH_INTERVAL_S: Final = 0.0005


def run(settings: Settings, source: str, stop: threading.Event, *, stay: bool = False) -> int:
    """Capture the configured database `source` until `stop` is set; returns the exit code.

    1 means that the source halted in a named state. With `stay` the process then waits until a person has asked for
    something instead of ending.
    """
    configure(settings)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Large batches have a connection of their own: the lease is renewed on the other.
    with ControlStore(control_url(settings)) as store, ControlStore(control_url(settings)) as large:
        send = partial(_publish, large.claims, settings.broker_payload_limit_bytes)
        return Capture(settings, source, store, send, stop, stay=stay).run()


def _publish(kept: Claims, limit: int, cut: Cut) -> None:
    lane = cut.lane
    batch = cut.data if len(cut.data) <= limit else claims.store(kept, lane.pipeline, cut.data)
    task = "audit.append" if is_trail(lane.pipeline) else "sync.apply"
    publish(app, Parcel(lane.pipeline, lane.shard, str(cut.after), str(cut.upto), batch, cut.summary, task))
