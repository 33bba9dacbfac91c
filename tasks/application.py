"""The Celery application's own ways: when a message was published, and how RabbitMQ delays one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from amqp.exceptions import AMQPError, MessageNacked
from celery import Celery
from celery.signals import before_task_publish
from kombu import Producer
from kombu.exceptions import OperationalError

from tasks import rabbitmq
from worker_sync.core import spans
from worker_sync.core.secrets import Url

#: The header that says when a message was first published, in seconds since 1970.
PUBLISHED_AT: Final = "published_at"


class Application(Celery):
    """Celery with waits below a second on RabbitMQ, and a refused message as an ordinary broker error."""

    events_cls = "tasks.events:Events"

    @cached_property
    def Beat(self) -> Any:
        return self.subclass_with_self("tasks.beat:Beat")  # type: ignore[arg-type]

    def send_task(  # type: ignore[override]
        self, name: str, args: Any = None, kwargs: Any = None, countdown: float | None = None, **options: Any
    ) -> Any:
        """As Celery's. Raises OperationalError when the broker can't be reached or doesn't take the message."""
        if not uses_rabbitmq(self):
            return super().send_task(name, args, kwargs, countdown, **options)
        countdown, options = rabbitmq.send_options(name, countdown, options)
        if options.get("producer") is not None:
            return super().send_task(name, args, kwargs, countdown, **options)
        with producing(self) as options["producer"]:
            return super().send_task(name, args, kwargs, countdown, **options)


@contextmanager
def producing(app: Celery) -> Iterator[Producer]:
    """A producer of the pool. Whatever keeps it from publishing is an OperationalError."""
    with app.producer_pool.acquire(block=True) as producer:
        try:
            yield producer
        except (OperationalError, AMQPError, MessageNacked, OSError) as error:
            # To close the connection takes an answer, for which a broker that doesn't listen lets us wait.
            if producer.connection is not None:
                producer.connection.collect()
            if isinstance(error, OperationalError):
                raise
            raise OperationalError(str(error) or "the broker refused the message") from error


def uses_rabbitmq(app: Celery) -> bool:
    """Whether the application's broker is a RabbitMQ."""
    return Url(app.conf.broker_url or "").scheme in rabbitmq.SCHEMES


@before_task_publish.connect
def stamp(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Brokers don't tell how old a message is, or which trace it belongs to. A retry keeps what its first message
    said."""
    if headers is None:
        return
    headers.setdefault(PUBLISHED_AT, time.time())
    if parent := spans.traceparent():
        headers.setdefault(spans.PARENT, parent)
