"""What a fault does to a broker, whichever it is."""

from __future__ import annotations

import contextlib
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Final

import redis

from tests.fixtures.servers import server_directory
from worker_sync.embedded import EmbeddedRedis
from worker_sync.embedded.server import Server


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


#: By the word that `--broker` takes: what starts one. Another broker is a class above and a line here.
BROKERS: Final[dict[str, Callable[[], contextlib.AbstractContextManager[Broker]]]] = {"redis": _redis}
