"""The whole system on RabbitMQ, with workers and the broker killed."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.faults.harness import System
from tests.faults.load import Load
from tests.faults.test_worker_killed import kill_in_the_middle
from tests.fixtures.fix_proxy import ProxyTo
from tests.fixtures.rabbitmq_server import RabbitmqServer

BACKLOG = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def on_rabbitmq(system: System, rabbitmq_url: str) -> System:
    """The system with its queues created, as `init` does."""
    system.move_broker(rabbitmq_url)
    checked = system.cli("check", "--json")
    assert checked.code == 0, checked.text
    found = {one["check"]: one["result"] for one in json.loads(checked.out)["checks"] if one["database"] == "broker"}
    assert found == {"reachable": "ok", "version": "ok"}
    done = system.cli("init")
    assert done.code == 0, done.text
    assert "broker: queue sync" in done.out
    return system


def test_workers_killed_on_rabbitmq_lose_and_double_nothing(on_rabbitmq: System) -> None:
    with Load(on_rabbitmq.source):
        on_rabbitmq.capture()
        kill_in_the_middle(on_rabbitmq, 2)
    on_rabbitmq.assert_same()


@pytest.mark.long
def test_a_rabbitmq_that_is_killed_and_comes_back_loses_nothing(system: System, own_rabbitmq: RabbitmqServer) -> None:
    system.move_broker(own_rabbitmq.url)
    assert system.cli("init").code == 0
    with Load(system.source):
        system.capture()
        system.worker()
        for _ in range(2):
            system.await_progress(50, 90)
            own_rabbitmq.kill()
            own_rabbitmq.start()
        system.await_progress(50, 90)
    system.assert_same()


@pytest.mark.long
def test_a_rabbitmq_that_takes_no_messages_keeps_no_worker_from_those_that_it_has(
    system: System, own_rabbitmq: RabbitmqServer
) -> None:
    system.move_broker(own_rabbitmq.url)
    assert system.cli("init").code == 0
    with Load(system.source):
        capture, worker = system.capture(), system.worker()
        system.await_progress(50, 90)
        worker.kill()
        system.until(lambda: _waiting(own_rabbitmq) > BACKLOG, "batches are queued", 90)
        capture.kill()
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "0")
        system.worker()
        system.until(lambda: _waiting(own_rabbitmq) == 0, "all that was queued is applied", 90)
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1GB")
        system.capture()
        system.await_progress(50, 90)
    system.assert_same()


def _waiting(server: RabbitmqServer) -> int:
    counted = server.ctl("list_queues", "--vhost", "v0", "--quiet", "name", "messages")
    return sum(int(line.split()[1]) for line in counted.splitlines() if line.split()[:1] == ["sync"])


@pytest.mark.long
def test_a_line_to_rabbitmq_that_died_in_silence_is_given_up(on_rabbitmq: System, proxy_to: ProxyTo) -> None:
    door = proxy_to(on_rabbitmq.broker)
    for_workers = on_rabbitmq.config.with_name("workers.yaml")
    for_workers.write_text(yaml.safe_dump({**yaml.safe_load(on_rabbitmq.config.read_text()), "broker": door.url}))
    with Load(on_rabbitmq.source):
        on_rabbitmq.capture()
        worker = on_rabbitmq.start("worker", "--queues", "sync", config=for_workers)
        on_rabbitmq.await_progress(50, 90)
        door.forget()
        on_rabbitmq.await_progress(50, 90)
    on_rabbitmq.assert_same()
    assert worker.process.poll() is None
