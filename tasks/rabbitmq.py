"""RabbitMQ: what must exist in it, and how we talk to it.

Every queue is a quorum queue: it survives a restart, counts deliveries, and hands what exceeds `DELIVERY_LIMIT` to
the dead-letter exchange. Celery's native delayed delivery waits whole seconds; shorter waits have queues of our own,
whose messages expire into the tasks' exchange. Changing an argument of a queue needs another name: RabbitMQ refuses to
declare a queue that exists with other arguments.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final

from amqp.exceptions import NotFound
from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
)

from tasks.queues import BY_TASK, NAMES

SCHEMES: Final = frozenset({"amqp", "amqps"})
#: Publishing and consuming by queue needs no more than the name; a topic, because the delayed delivery needs one.
TASKS: Final = Exchange("worker-sync", type="topic")
#: Everything that comes here lands in one queue, whatever its routing key has become on the way.
DEAD: Final = Exchange("worker-sync-dead", type="fanout")
#: Redeliveries after which a message is taken for one that crashes its workers. Hand-backs by stopped workers count.
DELIVERY_LIMIT: Final = 10
#: The dead-letter queue has none: a control store that is away must not use it up.
UNLIMITED: Final = 1_000_000
#: Milliseconds of the queues for waits that are shorter than the native minimum of a second.
WAITS_MS: Final = (50, 100, 200, 400, 800)
#: Milliseconds that a worker may hold a message (RabbitMQ 3.12 or newer; older ones take their own configuration's).
HOLD_MS: Final = 3_600_000
#: Seconds until a broker that doesn't confirm a message counts as unreachable: one that is out of memory or disk
#: stops reading instead of refusing.
CONFIRM_S: Final = 5.0
#: Seconds that a question to a RabbitMQ may go unanswered, and that it may take nothing off the line.
ANSWER_S: Final = 10

_RELIABLE: Final = {
    "x-queue-type": "quorum",
    # Without it a letter is lost when its way to the dead-letter queue is closed; it demands the overflow rule.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}
DEAD_LETTERS: Final = Queue(
    "dead-letters", DEAD, queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED}
)


def queues() -> list[Queue]:
    """The queues of the tasks."""
    arguments = {
        **_RELIABLE,
        "x-dead-letter-exchange": DEAD.name,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-consumer-timeout": HOLD_MS,
    }
    return [Queue(name, TASKS, routing_key=name, queue_arguments=arguments) for name in NAMES]


def wait_queue(milliseconds: int) -> Queue:
    """Where messages for any queue wait for so long."""
    name = f"worker-sync-wait-{milliseconds}"
    arguments = {**_RELIABLE, "x-message-ttl": milliseconds, "x-dead-letter-exchange": TASKS.name}
    return Queue(name, Exchange(name, type="fanout"), queue_arguments=arguments)


def celery_settings(scheme: str) -> dict[str, Any]:
    """What Celery needs to know."""
    found: dict[str, Any] = {
        "task_queues": queues(),
        "task_default_exchange": TASKS.name,
        "task_default_exchange_type": TASKS.type,
        # A worker that runs a long task answers no heartbeat. The kernel's keepalive notices a host that vanished, and
        # `tasks.listening` a line that died.
        "broker_heartbeat": 0,
        # A queue that a person has deleted while a worker begins is made again with its next connection.
        "broker_channel_error_retry": True,
        # An exclusive one stays locked while RabbitMQ has not noticed that the worker's last connection is gone.
        "control_queue_exclusive": False,
        "control_queue_durable": True,
        "broker_native_delayed_delivery_queue_type": "quorum",
        "broker_transport_options": {"confirm_publish": True, "read_timeout": ANSWER_S, "write_timeout": ANSWER_S},
    }
    if scheme == "amqps":
        found["broker_use_ssl"] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    return found


def send_options(task: str, countdown: float | None, options: dict[str, Any]) -> tuple[float | None, dict[str, Any]]:
    """Countdown and options with which Celery sends `task`, so that it arrives after `countdown` seconds or later.

    A retry brings the exchange and the key by which its message came, which may be those of a wait: they give way to
    the queue that they led to.
    """
    sent = {"confirm_timeout": CONFIRM_S, "timeout": CONFIRM_S, **options}
    queue = sent.get("queue") or queue_of(sent.get("routing_key")) or (BY_TASK[task].name if task in BY_TASK else None)
    if queue is None:
        return countdown, sent
    for stale in ("exchange", "routing_key", "exchange_type"):
        sent.pop(stale, None)
    if countdown is None or countdown <= 0:
        return None, {**sent, "queue": queue}
    if countdown * 1000 > WAITS_MS[-1]:
        return math.ceil(countdown), {**sent, "queue": queue}
    place = wait_queue(next(step for step in WAITS_MS if step >= countdown * 1000))
    name = queue if isinstance(queue, str) else queue.name
    sent.pop("queue", None)
    way = {"exchange": place.exchange.name, "exchange_type": place.exchange.type, "routing_key": name}
    return None, {**sent, **way, "declare": [*_named(name), place]}


def queue_of(routing_key: str | None) -> str | None:
    """The task queue that a routing key leads to. What was delayed has bits of its delay in front of the name."""
    name = (routing_key or "").rpartition(".")[2]
    return name if name in NAMES else None


def declare(connection: Connection) -> list[str]:
    """Create what is missing and bind it; returns the names of queues that were created. Safe to repeat."""
    ours = [DEAD_LETTERS, *queues(), *(wait_queue(step) for step in WAITS_MS)]
    missing = list(_missing(connection, [queue.name for queue in ours] + [level_name(0)]))
    with connection.channel() as channel:
        for queue in ours:
            queue(channel).declare()
    declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
    for queue in queues():
        bind_queue_to_native_delayed_delivery_exchange(connection, queue)
    return missing


def _missing(connection: Connection, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        # A refusal closes the channel, so each question has its own.
        with connection.channel() as channel:
            try:
                Queue(name, channel=channel).queue_declare(passive=True)
            except NotFound:
                yield name


def _named(name: str) -> list[Queue]:
    return [queue for queue in queues() if queue.name == name]
