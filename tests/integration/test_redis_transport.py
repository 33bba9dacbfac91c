"""Our Redis transport on a real Redis that goes away."""

from __future__ import annotations

import logging
from typing import Any

import kombu
import pytest
from kombu.asynchronous import Hub
from kombu.simple import SimpleQueue

from tasks import redis_transport
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_proxy import ProxyTo
from worker_sync.embedded import EmbeddedRedis

log = logging.getLogger(__name__)


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


def test_a_connection_on_which_an_acknowledgement_was_lost_is_given_up(redis_url: str, proxy_to: ProxyTo) -> None:
    redis_transport.install()
    door = proxy_to(redis_url)
    taken: list[Any] = []
    with kombu.Connection(door.url, transport_options={"socket_timeout": 1, "socket_connect_timeout": 1}) as connection:
        with SimpleQueue(connection.default_channel, "sync") as queue:
            for number in range(2):
                queue.put({"number": number})
        hub = Hub()
        connection.register_with_event_loop(hub)
        consumer = connection.Consumer([kombu.Queue("sync")], callbacks=[lambda _, message: taken.append(message)])
        consumer.qos(prefetch_count=1)
        consumer.consume()
        while not taken:
            hub.run_once()
        door.stall()
        taken[0].ack_log_error(log, connection.connection_errors)
        door.restore()
        with pytest.raises(connection.connection_errors):
            hub.run_once()
        hub.close()
