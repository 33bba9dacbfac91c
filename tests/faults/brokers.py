"""What a fault does to a broker, whichever it is."""

from __future__ import annotations

import contextlib
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Final

import kombu
import redis
from amqp.exceptions import NotFound
from kombu.transport.native_delayed_delivery import MAX_NUMBER_OF_BITS_TO_USE, level_name

from tasks import rabbitmq
from tests.fixtures.eventually import eventually
from tests.fixtures.rabbitmq_server import RabbitmqServer
from tests.fixtures.servers import server_directory, unavailable
from worker_sync.embedded import EmbeddedRedis, EmbeddedServerFailed
from worker_sync.embedded.server import Server

#: Seconds within which a restarted RabbitMQ elects the leaders of its queues, on a machine that is busy.
ANSWER_S: Final = 60.0


class Broker(ABC):
    """A broker of one run's own, started."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url

    def kill(self) -> None:
        """End it as a crash would, and start it again; what it held in memory is gone."""
        self._server.kill()
        self._server.start()

    def pause(self) -> None:
        """It keeps its connections and says nothing."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        pid = self._server.pid
        assert pid is not None, "the broker does not run"
        os.kill(pid, number)

    @abstractmethod
    def wipe(self) -> None:
        """Remove every message that it holds."""

    @abstractmethod
    def depth(self, queue: str) -> int:
        """Messages that wait in a queue."""


class RedisBroker(Broker):
    def wipe(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def depth(self, queue: str) -> int:
        with redis.Redis.from_url(self.url) as client:
            return int(client.llen(queue))


@contextlib.contextmanager
def _redis() -> Iterator[Broker]:
    with server_directory("redis") as directory:
        server = EmbeddedRedis(directory, {"appendonly": "no"})
        server.start()
        try:
            yield RedisBroker(server)
        finally:
            server.stop()


class RabbitmqBroker(Broker):
    """Durable: only its connections and what is not confirmed yet are lost by a kill. What workers hold is not wiped:
    it comes back to its queue."""

    def __init__(self, server: RabbitmqServer) -> None:
        super().__init__(server)
        self._rabbitmq = server

    def kill(self) -> None:
        self._rabbitmq.crash()
        self._rabbitmq.start()

    def wipe(self) -> None:
        # A queue that has no leader yet, after a restart, lets the purge wait.
        eventually(self._purged, ANSWER_S, "RabbitMQ purges its queues")

    def depth(self, queue: str) -> int:
        with kombu.Connection(self.url) as connection, connection.channel() as channel:
            declared: Any = kombu.Queue(queue, channel=channel).queue_declare(passive=True)
            return int(declared.message_count)

    def _purged(self) -> bool:
        try:
            with kombu.Connection(self.url) as connection:
                for name in _queue_names():
                    with connection.channel() as channel, contextlib.suppress(NotFound):
                        kombu.Queue(name, channel=channel).purge()
        except OSError:
            return False
        return True


def _queue_names() -> list[str]:
    """The queues that `worker-sync init` makes, those for countdowns too."""
    ours = [rabbitmq.DEAD_LETTERS, *rabbitmq.queues(), *(rabbitmq.wait_queue(step) for step in rabbitmq.WAITS_MS)]
    return [*(queue.name for queue in ours), *(level_name(bit) for bit in range(MAX_NUMBER_OF_BITS_TO_USE))]


@contextlib.contextmanager
def _rabbitmq() -> Iterator[Broker]:
    with server_directory("rabbitmq") as directory:
        server = RabbitmqServer(directory, vhosts=1)
        try:
            server.start()
        except EmbeddedServerFailed as error:
            unavailable("RabbitMQ", error)
        try:
            with kombu.Connection(server.url) as connection:
                rabbitmq.declare(connection)
            # From here on it is killed as it is: new queues are the one thing that it writes late.
            server.settle()
            yield RabbitmqBroker(server)
        finally:
            server.stop()


#: By the word that `--broker` takes: what starts one. Another broker is a class above and a line here.
BROKERS: Final[dict[str, Callable[[], contextlib.AbstractContextManager[Broker]]]] = {
    "redis": _redis,
    "rabbitmq": _rabbitmq,
}
