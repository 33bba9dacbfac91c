"""Messages that no worker can make sense of: they stop nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from tests.faults.harness import System
from tests.faults.load import Load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUEUE = "sync"


def real_message(broker: redis.Redis) -> dict[str, object]:
    """A message as captures send them."""
    found = broker.lindex(QUEUE, 0)
    assert isinstance(found, bytes)
    message: dict[str, object] = json.loads(found)
    return message


def unknown_task(message: dict[str, object]) -> bytes:
    headers = message["headers"]
    assert isinstance(headers, dict)
    return json.dumps({**message, "headers": {**headers, "task": "sync.gone"}}).encode()


POISON: dict[str, Callable[[dict[str, object]], bytes]] = {
    "a body that is not what it says": lambda message: json.dumps({**message, "body": "AAAA"}).encode(),
    "a kind of content that is not accepted": lambda message: json.dumps(
        {**message, "content-type": "application/x-python-serialize"}
    ).encode(),
    "an unknown task": unknown_task,
    "bytes that are no message": lambda _: b"\x00\xff{not a message",
    "a message without a body": lambda message: json.dumps({k: v for k, v in message.items() if k != "body"}).encode(),
    "a body that is no task's": lambda message: json.dumps({**message, "body": "wA=="}).encode(),
    "a number": lambda _: b"5",
    "no properties": lambda message: json.dumps({k: v for k, v in message.items() if k != "properties"}).encode(),
}


def test_messages_that_nobody_can_read_hold_up_nothing(system: System) -> None:
    with Load(system.source), redis.Redis.from_url(system.broker) as broker:
        system.capture()
        system.until(lambda: broker.llen(QUEUE), "a batch is queued", 90)
        message = real_message(broker)
        worker = system.worker()
        system.await_progress(50, 90)
        for make in POISON.values():
            # The right end is taken next.
            broker.rpush(QUEUE, make(message))
            system.await_progress(50, 90)
        assert worker.process.poll() is None, worker.text()
    system.assert_same()
    for name in system.targets:
        assert system.status(name)["state"] == "running"
