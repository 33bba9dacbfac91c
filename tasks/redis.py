"""Redis as the broker: how we talk to it."""

from __future__ import annotations

from typing import Any, Final

from kombu import Queue

from tasks.queues import NAMES

SCHEMES: Final = frozenset({"redis", "rediss"})
#: Seconds after which Redis gives a message that was not acknowledged to another worker. It must exceed the longest
#: time limit with a retry's delay, or a task that merely takes long runs twice.
VISIBILITY_S: Final = 3600
#: Longer than the broker's blocking reads (1 s), short enough to notice a host that vanished.
SOCKET_TIMEOUT_S: Final = 15


def celery_settings() -> dict[str, Any]:
    """What Celery needs to know."""
    return {
        "task_queues": [Queue(name, routing_key=name) for name in NAMES],
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_S,
            # A look for messages of vanished workers every ten seconds instead of every hundred.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 4,
            "socket_keepalive": True,
            # A connection that is silent for twice as long is given up.
            "health_check_interval": 10,
            # Every step is one more list per queue to wait on.
            "priority_steps": [0],
        },
    }
