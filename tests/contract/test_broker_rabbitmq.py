"""RabbitMQ as the broker."""

from __future__ import annotations

import time
from typing import Any

import kombu
import pytest

from tasks import rabbitmq
from tests.contract import broker_tasks
from tests.contract.broker_contract import LONG_S, Bed, BrokerContract
from tests.fixtures.eventually import eventually
from tests.fixtures.rabbitmq_server import RabbitmqServer
from tests.fixtures.servers import unavailable
from worker_sync.core.secrets import Url
from worker_sync.exporter.begun import begun
from worker_sync.exporter.queues import RabbitmqQueues

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class TestRabbitmq(BrokerContract):
    @pytest.fixture
    def broker_url(self, rabbitmq_url: str) -> str:
        return rabbitmq_url

    @pytest.fixture
    def broker_server(self, rabbitmq: RabbitmqServer | str) -> RabbitmqServer:
        """The session's: it is durable, so the other tests' vhosts survive."""
        if isinstance(rabbitmq, str):
            unavailable("RabbitMQ of our own", "the one in use can't be killed")
        return rabbitmq

    def refuse(self, server: Any) -> None:
        server.ctl("set_vm_memory_high_watermark", "absolute", "1MB")

    def take(self, server: Any) -> None:
        server.ctl("set_vm_memory_high_watermark", "absolute", "1GB")

    def test_what_was_confirmed_survives_a_kill_of_the_broker(self, bed: Bed, broker_server: RabbitmqServer) -> None:
        self.prepare(bed)
        words = [str(number) for number in range(20)]
        for word in words:
            bed.send("test.note", word)
        bed.send("test.long", "late", countdown=1.5, retries=3)
        broker_server.kill()
        broker_server.start()
        with bed.worker():
            bed.await_notes(*words)
            eventually(lambda: any(line.startswith("late") for line in bed.notes()), LONG_S)

    def test_the_topology_is_created_once(self, bed: Bed) -> None:
        with kombu.Connection(bed.url) as connection:
            assert "sync" in rabbitmq.declare(connection)
            assert rabbitmq.declare(connection) == []

    def test_a_countdown_before_any_worker_has_run_is_kept(self, bed: Bed) -> None:
        self.prepare(bed)
        bed.send("test.note", "late", countdown=1.2)
        with bed.worker():
            bed.await_notes("late")

    def test_a_queue_that_is_deleted_while_a_worker_begins_is_made_again(self, bed: Bed) -> None:
        """As the manual says to do with one that lost its leader; another worker may begin at any moment of it."""
        mark = bed.config.parent / broker_tasks.DELETED
        mark.touch()
        with bed.worker() as worker:
            assert not mark.exists()
            bed.send("test.note", "later")
            bed.await_notes("later")
            assert "no queue 'default'" in worker.text()

    def test_the_age_is_bounded_by_what_workers_have_begun(self, bed: Bed) -> None:
        self.prepare(bed)
        bed.send("test.note", "1")
        known = {"default": time.time() - 1000}
        asking = RabbitmqQueues(Url(bed.url), ["default"], lambda: known)
        eventually(lambda: asking()["default"].depth == 1, LONG_S)
        assert (asking()["default"].oldest_age_s or 0) >= 1000
        known.clear()
        assert asking()["default"].oldest_age_s is None
        asking.close()

    def test_workers_report_what_they_have_begun(self, bed: Bed) -> None:
        with bed.worker():
            before = time.time()
            bed.send("test.note", "1")
            eventually(lambda: begun(bed.store).get("default", 0) >= before, LONG_S)
