"""A RabbitMQ that came back without knowing a queue that it had just made, and the recovery that the manual names."""

from __future__ import annotations

from pathlib import Path

import kombu
import pytest

from tasks import rabbitmq
from tests.faults.harness import System
from tests.faults.load import Load
from tests.fixtures.rabbitmq_server import RabbitmqServer

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

QUEUE = "sync"
SILENCE_S = 5.0


def test_a_queue_without_a_leader_is_deleted_and_created_again_as_the_manual_says(
    system: System, own_rabbitmq: RabbitmqServer
) -> None:
    system.move_broker(own_rabbitmq.url)
    assert system.cli("init").code == 0
    forget_the_name_of(QUEUE, system, own_rabbitmq)
    system.capture()
    system.worker()
    assert not takes_messages(own_rabbitmq.url)
    own_rabbitmq.ctl("delete_queue", "--vhost", "v0", QUEUE)
    assert system.cli("init").code == 0
    with Load(system.source):
        system.await_progress(50, 180)
    assert takes_messages(own_rabbitmq.url)
    system.assert_same()


def forget_the_name_of(queue: str, system: System, server: RabbitmqServer) -> None:
    """A crash before the queue's name was on disk: the server's file of names is again what it was before the queue
    was made. When the server writes it is up to the server, so waiting for the right moment would prove nothing."""
    server.ctl("delete_queue", "--vhost", "v0", queue)
    server.settle()
    names = names_of(server)
    before = names.read_bytes()
    done = system.cli("init")
    assert f"broker: queue {queue}" in done.out, done.text
    server.crash()
    names.write_bytes(before)
    server.start()


def names_of(server: RabbitmqServer) -> Path:
    """Where it keeps which log belongs to which quorum queue."""
    [found] = (server.directory / "data").glob("mnesia/*/quorum/*/names.dets")
    return found


def takes_messages(url: str) -> bool:
    """Whether the queue confirms a message. It is one of a task that nobody knows, which workers put aside."""
    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
        try:
            connection.Producer().publish(
                {}, exchange=rabbitmq.TASKS, routing_key=QUEUE, confirm_timeout=SILENCE_S, timeout=SILENCE_S
            )
        except TimeoutError:
            return False
    return True
