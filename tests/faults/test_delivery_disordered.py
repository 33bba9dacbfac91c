"""Messages that come twice, in any order, or not at all."""

from __future__ import annotations

import random
import threading

import pytest
import redis

from tests.faults.harness import System
from tests.faults.load import Load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUEUE = "sync"


def disorder(broker: redis.Redis, rand: random.Random, copies: int = 1) -> int:
    """Take every waiting message out, and put each back, so many times, in any order; how many."""
    with broker.pipeline(transaction=True) as taking:
        taking.lrange(QUEUE, 0, -1)
        taking.delete(QUEUE)
        waiting: list[bytes] = taking.execute()[0]
    mixed = [message for message in waiting for _ in range(copies)]
    rand.shuffle(mixed)
    if mixed:
        broker.lpush(QUEUE, *mixed)
    return len(mixed)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_batches_that_come_twice_and_in_any_order_are_applied_once_in_order(system: System, workers: int) -> None:
    rand = random.Random(workers)
    with redis.Redis.from_url(system.broker) as broker:
        system.capture()
        first = system.worker()
        system.until(system.loaded, "the empty tables are copied", 90)
        before = system.marks()
        assert set(before.values()) == {0}
        first.stop()
        with Load(system.source) as load:
            system.until(lambda: int(broker.llen(QUEUE)) > 60, "batches are queued")
            assert disorder(broker, rand, copies=2) > 120
            for _ in range(workers):
                system.worker()
            system.await_progress(1, 90)
            for _ in range(3):
                system.until(lambda: disorder(broker, rand) > 5, "batches are queued again", 90)
                system.await_progress(1, 90)
        system.assert_same()
        # Not one change was applied twice, or the sums would differ.
        assert set(system.marks().values()) == {load.changes}


def test_a_broker_that_loses_every_fifth_message_only_costs_time(system: System) -> None:
    rand = random.Random(5)
    stop = threading.Event()
    lost = 0

    def lose() -> None:
        nonlocal lost
        with redis.Redis.from_url(system.broker) as broker:
            while not stop.wait(0.2):
                message = broker.lindex(QUEUE, rand.randrange(-5, 0))
                lost += int(broker.lrem(QUEUE, 1, message)) if isinstance(message, bytes) else 0

    thief = threading.Thread(target=lose)
    thief.start()
    try:
        with Load(system.source):
            system.capture()
            system.worker()
            system.until(lambda: lost > 20, "messages were lost", 90)
            system.await_progress(50, 90)
    finally:
        stop.set()
        thief.join()
    system.assert_same()
