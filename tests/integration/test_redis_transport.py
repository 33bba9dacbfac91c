"""Our Redis transport on a real Redis that goes away."""

from __future__ import annotations

from typing import Any

import kombu
import pytest
from kombu.simple import SimpleQueue

from tasks import redis_transport
from tests.fixtures.eventually import eventually
from worker_sync.embedded import EmbeddedRedis


def test_a_connection_to_a_redis_that_has_gone_is_closed_twice_as_celery_does(redis_server: EmbeddedRedis) -> None:
    redis_transport.install()
    connection = kombu.Connection(redis_server.url)
    channels: list[Any] = [connection.default_channel, connection.channel()]
    queues = [SimpleQueue(channel, name) for channel, name in zip(channels, ("sync", "audit"), strict=True)]
    for queue in queues:
        queue.put({"number": 1})
        assert queue.get(timeout=10).payload == {"number": 1}
    for queue in queues:
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.1)
    assert all(channel._in_poll for channel in channels), "each waits for a reply"
    redis_server.kill()
    eventually(lambda: redis_server.pid is None, 10, "Redis has ended")
    connection.collect(socket_timeout=1)
    connection.close()
    assert all(channel.closed for channel in channels)
