"""A broker that loses everything it held, or is away for a while."""

from __future__ import annotations

import re
import time

import psutil
import pytest
import redis

from tasks.liveness import RECONNECT_S
from tasks.redis import SOCKET_TIMEOUT_S
from tests.faults.harness import System
from tests.faults.load import Load
from tests.faults.test_worker_killed import table_held
from tests.fixtures.running import Role
from worker_sync.embedded import EmbeddedRedis

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

AWAY_S = 10.0
#: After so many tries Celery by itself would pause for longer.
LONG_AWAY_TRIES = 9
#: Longer than a worker waits for the answer to an acknowledgement.
STILL_S = 1.5 * SOCKET_TIMEOUT_S


@pytest.fixture
def own_broker(system: System, redis_server: EmbeddedRedis) -> EmbeddedRedis:
    """The system's Redis, to be killed."""
    system.move_broker(redis_server.url)
    return redis_server


def wipe_while_batches_are_queued(system: System, times: int) -> None:
    with Load(system.source), redis.Redis.from_url(system.broker) as broker:
        system.capture()
        system.worker()
        for _ in range(times):
            system.await_progress(50, 90)
            with table_held(system.targets["reporting"]):
                system.until(lambda: int(broker.llen("sync")) > 5, "batches are queued")
                broker.flushall()
        system.await_progress(50, 90)
    system.assert_same()


def test_a_broker_wiped_while_batches_are_queued_loses_nothing(system: System) -> None:
    wipe_while_batches_are_queued(system, 3)


@pytest.mark.long
def test_a_broker_wiped_fifteen_times_loses_nothing(system: System) -> None:
    wipe_while_batches_are_queued(system, 15)


def test_a_broker_that_is_killed_and_comes_back_empty_loses_nothing(system: System, own_broker: EmbeddedRedis) -> None:
    with Load(system.source):
        system.capture()
        system.worker()
        for _ in range(2):
            system.await_progress(50, 90)
            own_broker.kill()
            own_broker.start()
        system.await_progress(50, 90)
    system.assert_same()


def test_a_broker_that_is_away_for_ten_seconds_is_waited_for(system: System, own_broker: EmbeddedRedis) -> None:
    with Load(system.source):
        capture, worker = system.capture(), system.worker()
        system.await_progress(50, 90)
        own_broker.kill()
        back = time.monotonic() + AWAY_S
        system.until(lambda: "publish_retry" in capture.text() and time.monotonic() > back, "ten seconds pass")
        assert capture.process.poll() is None
        assert worker.process.poll() is None
        own_broker.start()
        system.await_progress(50, 90)
    system.assert_same()


@pytest.mark.long
def test_a_worker_asks_for_its_broker_every_five_seconds_however_long_that_is_away(
    system: System, own_broker: EmbeddedRedis
) -> None:
    with Load(system.source):
        system.capture()
        worker = system.worker()
        system.await_progress(50, 90)
        own_broker.kill()
        system.until(lambda: len(_pauses(worker)) >= LONG_AWAY_TRIES, "it asks again and again", 120)
        own_broker.start()
        system.await_progress(50, 90)
    assert max(_pauses(worker)) == RECONNECT_S
    system.assert_same()


def _pauses(worker: Role) -> list[float]:
    """The seconds that a worker said it would wait before it asks for its broker again."""
    return [float(seconds) for seconds in re.findall(r"the broker at .*; again in (\d+) s", worker.text())]


@pytest.mark.long
def test_a_broker_that_stands_still_for_longer_than_anybody_waits_costs_only_time(
    system: System, own_broker: EmbeddedRedis
) -> None:
    with Load(system.source):
        system.capture()
        system.worker()
        system.await_progress(50, 90)
        process = psutil.Process(own_broker.pid)
        process.suspend()
        back = time.monotonic() + STILL_S
        system.until(lambda: time.monotonic() > back, "it stands still", 2 * STILL_S)
        process.resume()
        system.await_progress(50, 90)
    system.assert_same()
