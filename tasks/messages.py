"""Messages that never reached a task: put aside in the broker, kept as letters, sent again.

Put aside is a copy in the queue `dead-letters`, whose headers say what was wrong. What RabbitMQ puts there itself says
so in its own header. The same functions serve both brokers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

from tasks.application import PUBLISHED_AT, producing, uses_rabbitmq
from tasks.queues import NAMES
from tasks.rabbitmq import CONFIRM_S, DEAD_LETTERS, DELIVERY_LIMIT, queue_of
from tasks.scheduled import HEADER
from worker_sync.core.errors import ConfigError, Unreachable
from worker_sync.store.dead_letters import Letter, LetterKind

#: How often a message was given back; RabbitMQ's quorum queues write it, and our Redis transport does the same.
DELIVERIES: Final = "x-delivery-count"
DEATHS: Final = "x-death"
ERROR_TYPE: Final = "worker_sync_error_type"
ERROR: Final = "worker_sync_error"
QUEUE: Final = "worker_sync_queue"
#: How often it was sent again after having been a letter: each time it may become another letter.
REPLAYS: Final = "worker_sync_replays"

PUBLISH: Final[Mapping[str, Any]] = {
    "retry": True,
    "retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
    "delivery_mode": 2,
}
#: What RabbitMQ says of a message whose time ran out.
EXPIRED: Final = "expired"
#: Headers that a replayed message has no more. It is done now, however late, by itself: what came of the scheduled run
#: that it may have been is recorded, and a worker would leave it out.
_OF_ITS_TIME: Final = frozenset({PUBLISHED_AT, "eta", "expires", HEADER})
LIMIT_EXCEEDED: Final = f"it was given back more than {DELIVERY_LIMIT} times; it may crash the worker that takes it"


def queue_name(message: Any) -> str:
    """The task queue that a message came from; empty for an unknown one."""
    return queue_of(str(message.delivery_info.get("routing_key") or "")) or ""


def given_back(headers: Mapping[str, Any] | None) -> int:
    """How often a message came back without having been done."""
    count = (headers or {}).get(DELIVERIES, 0)
    return count if isinstance(count, int) else 0


def put_aside(app: Celery, message: Any, error_type: str, error: str) -> None:
    """Copy a message into the dead-letter queue; the caller acknowledges it then. Raises Unreachable."""
    kept = message.headers if isinstance(message.headers, dict) else {}
    said = {ERROR_TYPE: error_type, ERROR: error, QUEUE: queue_name(message)}
    known = {name: message.properties.get(name) for name in ("correlation_id", "message_id")}
    publish(
        app,
        DEAD_LETTERS.name,
        message.body,
        {**kept, **said},
        content_type=message.content_type or "application/octet-stream",
        content_encoding=message.content_encoding or "binary",
        **{name: value for name, value in known.items() if isinstance(value, str)},
    )


def publish(app: Celery, queue: str, body: bytes, headers: Mapping[str, Any], **properties: Any) -> None:
    """Put a message as it is into a queue. Raises Unreachable when the broker can't be reached or doesn't take it."""
    options: dict[str, Any] = {**PUBLISH, **properties, "exchange": "", "routing_key": queue}
    if uses_rabbitmq(app):
        options |= {"confirm_timeout": CONFIRM_S, "timeout": CONFIRM_S}
    options["declare"] = [dead_letters(app)] if queue == DEAD_LETTERS.name else [app.amqp.queues[queue]]
    try:
        with producing(app) as producer:
            producer.publish(body, headers=dict(headers), **options)
    except OperationalError as error:
        raise Unreachable(f"the broker: {error}") from error


def dead_letters(app: Celery) -> Queue:
    """The queue of what was put aside."""
    return DEAD_LETTERS if uses_rabbitmq(app) else Queue(DEAD_LETTERS.name, routing_key=DEAD_LETTERS.name)


def letter(message: Any) -> Letter:
    """What was put aside, as a letter."""
    headers = dict(message.headers) if isinstance(message.headers, dict) else {}
    death = _first_death(headers)
    queue = str(headers.pop(QUEUE, "") or death.get("queue") or "")
    error_type = str(headers.pop(ERROR_TYPE, "") or str(death.get("reason") or "unknown"))
    error = str(headers.pop(ERROR, "") or _REASONS.get(error_type, f"the broker put it aside ({error_type})"))
    identity = _identity(message, headers)
    attempts = given_back(headers) + 1
    for name in [name for name in headers if name.startswith(("x-death", "x-first-death", "x-last-death", DELIVERIES))]:
        del headers[name]
    payload = {
        "version": 1,
        "queue": queue,
        "headers": headers,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "correlation_id": message.properties.get("correlation_id"),
        "body": _bytes(message.body),
    }
    return Letter(
        identity,
        LetterKind.MESSAGE,
        msgspec.msgpack.encode(payload, enc_hook=repr),
        error_type,
        error,
        attempts=attempts,
        queue=queue,
        task=_text(headers.get("task")),
        trace=_text(headers.get("root_id")),
    )


def replay(payload: bytes, through: Celery | None = None) -> None:
    """Send the message of a letter to its queue again, as it came, with a new time. Raises Unreachable when the broker
    doesn't take it, ConfigError for a message of a queue that we don't have. `through`: another application than ours.
    """
    from tasks.app import app

    kept = msgspec.msgpack.decode(payload)
    queue = kept["queue"]
    if queue not in NAMES:
        raise ConfigError(f"the message came from {queue!r}, which is none of our queues ({', '.join(NAMES)})")
    headers = {name: value for name, value in kept["headers"].items() if name not in _OF_ITS_TIME}
    headers[REPLAYS] = int(headers.get(REPLAYS) or 0) + 1
    named = {"correlation_id": kept["correlation_id"]} if kept["correlation_id"] else {}
    headers[PUBLISHED_AT] = time.time()
    publish(
        through or app,
        queue,
        kept["body"],
        headers,
        content_type=kept["content_type"] or "application/octet-stream",
        content_encoding=kept["content_encoding"] or "binary",
        **named,
    )


_REASONS: Final = {
    "delivery_limit": LIMIT_EXCEEDED,
    "rejected": "a worker refused it; its log says why",
    "maxlen": "its queue was full",
    EXPIRED: "no worker began it before it expired",
}


def _first_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """What RabbitMQ says about the way here: of the newest stations, the one that was a queue of tasks."""
    deaths = headers.get(DEATHS)
    stations = [death for death in deaths if isinstance(death, dict)] if isinstance(deaths, list) else []
    return next((death for death in stations if death.get("queue") in NAMES), {})


def _identity(message: Any, headers: Mapping[str, Any]) -> str:
    """The same for the same failed message, however often it is read; another one once it was sent again."""
    known = headers.get("id") or message.properties.get("message_id")
    if isinstance(known, str) and known:
        return f"message:{known}:{headers.get('retries') or 0}:{headers.get(REPLAYS) or 0}"
    whole = msgspec.msgpack.encode([repr(sorted(headers.items(), key=repr)), _bytes(message.body)])
    return f"message:{hashlib.sha256(whole).hexdigest()}"


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
