"""Prefixes of the messages in a source's log. Those that Worker-Sync writes are transactions of their own."""

from __future__ import annotations

from typing import Final

#: Written by the schedule, so that a source without traffic still shows that everything behind it works.
HEARTBEAT: Final = "worker_sync.heartbeat"
#: Written by whoever waits until all that was committed before is applied.
WAIT: Final = "worker_sync.marker"
#: Written by applications: who makes the changes behind it, and why, as a JSON object.
CONTEXT: Final = "worker_sync.context"
#: Only moves the log on; a snapshot chunk waits for the stream to pass it.
NUDGE: Final = "worker_sync.nudge"

#: Messages that every shard carries to its target though they hold no change.
CARRIED: Final = frozenset({HEARTBEAT, WAIT})
