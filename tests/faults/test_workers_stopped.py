"""Workers that are asked to end, one after the other or all at once, while there is work."""

from __future__ import annotations

import time

import pytest

from tests.faults.harness import System
from tests.faults.load import KeptKeys, Load
from tests.fixtures.running import Role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GRACE_S = 5.0
#: What an end takes beyond the grace, on a slow machine.
SPARE_S = 20.0
#: Words in a worker's log that would say that something went wrong.
ERRORS = ("Traceback", "action=halted", "action=task-failed", "action=parked", "action=hand-back-failed")


@pytest.fixture(params=["redis", "rabbitmq"])
def brokered(request: pytest.FixtureRequest, system: System) -> System:
    """The system on either broker, with its queues created, as `init` does."""
    if request.param == "rabbitmq":
        system.move_broker(request.getfixturevalue("rabbitmq_url"))
    done = system.cli("init")
    assert done.code == 0, done.text
    return system


def worker(system: System) -> Role:
    return system.start("worker", "--queues", "sync", "--grace", str(GRACE_S))


def working(system: System, *workers: Role) -> None:
    """Until the workers are ready and batches flow."""
    for one in workers:
        system.until(lambda one=one: "ready." in one.text(), "the worker is ready", 90)  # type: ignore[misc]
    system.await_progress(50, 120)


def ended_in_order(role: Role) -> float:
    """Ask it to end; the seconds that it took."""
    began = time.monotonic()
    assert role.stop(GRACE_S + SPARE_S) == 0, role.text()
    took = time.monotonic() - began
    print(f"a worker ended after {took:.2f} s")  # noqa: T201 - a figure to report
    assert [word for word in ERRORS if word in role.text()] == [], role.text()
    return took


@pytest.mark.long
@pytest.mark.parametrize("pool", [{"pool": "solo"}, {"pool": "threads", "concurrency": 2}, {"concurrency": 2}], ids=str)
def test_workers_that_are_stopped_under_load_lose_nothing_and_end_in_time(
    brokered: System, pool: dict[str, object]
) -> None:
    brokered.change({"workers": {"sync": pool}})
    with Load(brokered.source):
        brokered.capture()
        for _ in range(2):
            running = worker(brokered)
            working(brokered, running)
            assert ended_in_order(running) < GRACE_S + SPARE_S
        running = worker(brokered)
        working(brokered, running)
    brokered.assert_same()


@pytest.mark.long
def test_a_rolling_restart_of_all_workers_under_load_shows_no_error_and_no_difference(brokered: System) -> None:
    with Load(brokered.source):
        brokered.capture()
        workers = [worker(brokered) for _ in range(2)]
        working(brokered, *workers)
        for number in range(len(workers)):
            fresh = worker(brokered)
            working(brokered, fresh)
            ended_in_order(workers[number])
            workers[number] = fresh
        working(brokered, *workers)
    brokered.assert_same()
    assert [word for role in workers for word in ERRORS if word in role.text()] == []


@pytest.mark.long
def test_a_pool_that_is_scaled_from_one_worker_to_four_and_back_loses_and_doubles_nothing(brokered: System) -> None:
    brokered.change_pipeline("reporting", {"shards": 4})
    with KeptKeys(brokered.source):
        brokered.capture()
        first = worker(brokered)
        working(brokered, first)
        others = [worker(brokered) for _ in range(3)]
        working(brokered, *others)
        for one in others:
            ended_in_order(one)
        working(brokered, first)
    brokered.assert_same()
    assert [word for word in ERRORS if word in first.text()] == []


@pytest.mark.long
@pytest.mark.parametrize("pool", [{"pool": "threads", "concurrency": 3}, {"concurrency": 3}], ids=str)
def test_workers_of_several_tasks_at_a_time_that_are_killed_lose_and_double_nothing(
    system: System, pool: dict[str, object]
) -> None:
    system.change({"workers": {"sync": pool}})
    system.change_pipeline("reporting", {"shards": 3})
    with Load(system.source):
        system.capture()
        for _ in range(8):
            running = worker(system)
            working(system, running)
            running.kill()
        running = worker(system)
        working(system, running)
    system.assert_same()
