"""Redis as the broker."""

from __future__ import annotations

from typing import Any

import kombu
import pytest
import redis

from tasks import redis_transport
from tasks.redis import VISIBILITY_S
from tests.contract.broker_contract import LONG_S, SECRET, Bed, BrokerContract
from tests.fixtures.eventually import eventually
from worker_sync.embedded import EmbeddedRedis

#: Everything of a message but a body in its encoding.
BAD_BODY = (
    b'{"body": "%%%", "headers": {"task": "test.note"}, "properties": {"body_encoding": "base64", "delivery_tag": "t", '
    b'"delivery_info": {"exchange": "", "routing_key": "default"}}}'
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class TestRedis(BrokerContract):
    @pytest.fixture
    def broker_url(self, redis_server: EmbeddedRedis) -> str:
        redis_transport.install()
        return redis_server.url

    @pytest.fixture
    def broker_server(self, redis_server: EmbeddedRedis) -> EmbeddedRedis:
        return redis_server

    def forget_worker(self, bed: Bed) -> None:
        with redis.Redis.from_url(bed.url) as client:
            for tag in client.zrange("unacked_index", 0, -1):
                client.zincrby("unacked_index", -VISIBILITY_S, tag)

    def refuse(self, server: Any) -> None:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")

    def take(self, server: Any) -> None:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory", "0")

    def test_bytes_that_no_celery_has_sent_become_letters(self, bed: Bed) -> None:
        foreign = (f"{SECRET}{{".encode(), b"{}", b"[1]", b"\xff", BAD_BODY)
        with bed.worker(queues="default,dead_letter") as worker:
            with redis.Redis.from_url(bed.url) as client:
                for raw in foreign:
                    client.lpush("default", raw)
            bed.send("test.note", "later")
            bed.await_notes("later")
            letters = bed.await_letters(len(foreign))
            assert SECRET not in worker.text()
        assert {letter.error_type for letter in letters} == {"ContentDisallowed"}

    def test_what_a_worker_holds_counts(self, bed: Bed) -> None:
        with bed.worker():
            bed.send("test.hold", "held")
            bed.await_notes("held begun")
            held = bed.depths()["default"]
            assert held.depth == 1
            assert held.oldest_age_s is not None
            bed.go()
            eventually(lambda: bed.depths()["default"].depth == 0, LONG_S)

    def test_a_message_that_was_asked_for_goes_back_when_nobody_consumes_any_more(self, bed: Bed) -> None:
        with kombu.Connection(bed.url) as connection, redis.Redis.from_url(bed.url) as client:
            consumer = kombu.Consumer(connection, [bed.app.amqp.queues["default"]])
            consumer.consume()
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.01)  # its blocking read goes on
            bed.send("test.note", "taken")
            eventually(lambda: client.llen("default") == 0, LONG_S, "the read has its answer")
            consumer.cancel()
            assert (client.llen("default"), client.hlen("unacked")) == (1, 0)
