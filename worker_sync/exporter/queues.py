"""How many messages wait in the broker, and how long the oldest has been waiting."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from tasks.celeryconfig import transport
from tasks.rabbitmq import SCHEMES
from worker_sync.core.errors import Unreachable
from worker_sync.core.secrets import Url

#: Seconds until a broker that doesn't answer counts as unreachable.
CONNECT_S: Final = 3

#: One round trip, whatever is queued: messages are large, so none leaves the server. Of those that workers hold, the
#: end names the queue. JSON in a message's own texts has its quotation marks escaped and doesn't match.
REDIS_SCRIPT: Final = """
local depth, oldest = {}, {}
local function look(queue, entry)
  local at = string.match(entry, '"published_at": ([%d.]+)')
  if at and (not oldest[queue] or tonumber(at) < tonumber(oldest[queue])) then oldest[queue] = at end
end
for _, entry in ipairs(redis.call('HVALS', 'unacked')) do
  local queue = string.match(entry, '"([^"]*)"%]$')
  if queue then
    depth[queue] = (depth[queue] or 0) + 1
    look(queue, entry)
  end
end
local found = {}
for index, queue in ipairs(KEYS) do
  local last = redis.call('LINDEX', queue, -1)
  if last then look(queue, last) end
  found[index] = {redis.call('LLEN', queue) + (depth[queue] or 0), oldest[queue] or ''}
end
return found
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages of one queue. `oldest_age_s` None: not known, or there is none."""

    depth: int
    oldest_age_s: float | None = None


class QueueDepths(ABC):
    """Asks the broker over one connection; a broken one is opened again at the next call."""

    def __init__(self, url: Url, queues: Sequence[str]) -> None:
        options = transport(url.scheme)
        self._connection = Connection(
            url.reveal(),
            connect_timeout=CONNECT_S,
            # They bound the wait for an answer.
            transport_options=options["broker_transport_options"],
            ssl=options.get("broker_use_ssl", False),
        )
        self._queues = queues
        refused: tuple[type[BaseException], ...] = self._connection.channel_errors
        lost: tuple[type[BaseException], ...] = self._connection.connection_errors
        self._refused = refused
        self._errors: tuple[type[BaseException], ...] = (*lost, *refused, OperationalError, OSError)

    def __call__(self) -> Mapping[str, Waiting]:
        """What waits, by queue; a queue that isn't there is left out. Raises Unreachable."""
        try:
            self._connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
            return self._ask()
        except self._errors as error:
            self._connection.release()
            raise Unreachable(f"the broker: {type(error).__name__}") from error

    @abstractmethod
    def _ask(self) -> Mapping[str, Waiting]: ...

    def close(self) -> None:
        self._connection.release()


class RedisQueues(QueueDepths):
    """Counts the messages that wait and those that workers hold, and knows the time of each."""

    def _ask(self) -> Mapping[str, Waiting]:
        now = time.time()
        with self._connection.channel() as opened:
            channel: Any = opened
            answers = channel.client.eval(REDIS_SCRIPT, len(self._queues), *self._queues)
        return {
            queue: Waiting(int(depth), max(0.0, now - float(at)) if at else None)
            for queue, (depth, at) in zip(self._queues, answers, strict=True)
        }


class RabbitmqQueues(QueueDepths):
    """Counts the messages that wait: those that workers hold are known to RabbitMQ's management only.

    Nor does it show a message without delivering it, and each delivery counts against the limit. So the age is a bound:
    all that waits was published after the newest message that a worker has begun (`begun`, seconds since 1970 by
    queue), because queues are first in, first out, and after the last time that the queue was seen empty.
    """

    def __init__(self, url: Url, queues: Sequence[str], begun: Callable[[], Mapping[str, float]] = dict) -> None:
        super().__init__(url, queues)
        self._begun = begun
        self._empty_at: dict[str, float] = {}

    def _ask(self) -> Mapping[str, Waiting]:
        found: dict[str, Waiting] = {}
        begun = self._begun()
        for queue in self._queues:
            now = time.time()
            depth = self._depth(queue)
            if depth == 0:
                self._empty_at[queue] = now
            if depth is not None:
                found[queue] = Waiting(depth, self._oldest(queue, now, begun) if depth else None)
        return found

    def _oldest(self, queue: str, now: float, begun: Mapping[str, float]) -> float | None:
        bounds = [times[queue] for times in (begun, self._empty_at) if queue in times]
        return max(0.0, now - max(bounds)) if bounds else None

    def _depth(self, queue: str) -> int | None:
        # A refusal closes the channel, so each question has its own.
        with self._connection.channel() as channel:
            try:
                declared: Any = Queue(queue, channel=channel).queue_declare(passive=True)
            except self._refused:
                return None
            count: int = declared.message_count
            return count


def queues_of(url: Url, queues: Sequence[str], begun: Callable[[], Mapping[str, float]] = dict) -> QueueDepths:
    """What asks the broker at `url`."""
    if url.scheme in SCHEMES:
        return RabbitmqQueues(url, queues, begun)
    return RedisQueues(url, queues)
