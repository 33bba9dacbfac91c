"""From the broker's dead-letter queue into the control store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from kombu import Connection
from kombu.exceptions import OperationalError

from tasks import messages
from tasks.app import app
from tasks.application import uses_rabbitmq
from tasks.base import DisposedTask
from tasks.rabbitmq import DEAD_LETTERS
from tasks.redis_transport import message_from
from tasks.resources import resources
from tasks.retry import NEVER
from tasks.scheduled import named_claim, record
from worker_sync.core.errors import Unreachable
from worker_sync.core.log import event
from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import Letter

log = logging.getLogger(__name__)

#: Letters of one run; the next one comes soon.
RUN: Final = 1000
#: A message, and what takes it out of the queue.
Found = tuple[Any, Callable[[], object]]


@app.task(name="dead_letters.drain", base=DisposedTask, policy=NEVER)
def drain() -> int:
    """Keep what the broker put aside as dead letters; returns how many. Each is written first and then taken out of the
    queue, so that one that is read twice is the same letter."""
    store = resources().control()
    store.ping()
    count = 0
    for message, remove in _put_aside():
        letter = messages.letter(message)
        if not _was_a_run_that_expired(message, letter):
            _park(store, letter)
            count += 1
        remove()
        if count == RUN:
            break
    return count


def _was_a_run_that_expired(message: Any, letter: Letter) -> bool:
    """Record what came of a scheduled run; expiring is no failure of the message: the next run does its work. Redis's
    workers meet such a message themselves; RabbitMQ's never see it."""
    run = named_claim(message.headers)
    record(run, letter.error)
    return run is not None and letter.error_type == messages.EXPIRED


def _park(store: ControlStore, letter: Letter) -> None:
    store.dead_letters.park([letter])
    extra = event("message-parked", queue=letter.queue, task=letter.task, error_type=letter.error_type)
    log.error("a message of %s is a dead letter: %s", letter.queue or "an unknown queue", letter.error, extra=extra)


def _put_aside() -> Iterator[Found]:
    with app.connection_for_read() as connection:
        errors: Any = connection  # its types say less
        lost: tuple[type[Exception], ...] = (*errors.connection_errors, *errors.channel_errors, OperationalError)
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=4)
            yield from _of_rabbitmq(connection) if uses_rabbitmq(app) else _of_redis(connection)
        except lost as error:
            raise Unreachable(f"the broker: {error}") from error


def _of_rabbitmq(connection: Connection) -> Iterator[Found]:
    with connection.channel() as channel:
        queue = messages.dead_letters(app)(channel)
        queue.declare()
        while (message := queue.get(no_ack=False)) is not None:
            yield message, message.ack


def _of_redis(connection: Connection) -> Iterator[Found]:
    """Read where it lies: taking it out first would lose it with this process."""
    with connection.channel() as opened:
        channel: Any = opened
        while (raw := channel.client.lindex(DEAD_LETTERS.name, -1)) is not None:
            yield message_from(channel, raw), partial(channel.client.lrem, DEAD_LETTERS.name, -1, raw)
