"""When a system is left alone, and when it is asked again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.breakers import Breaker, Breakers, NotNow
from tests.fixtures.eventually import eventually
from worker_sync.core.errors import ConfigError, TargetRejected, Transient, Unreachable
from worker_sync.core.sections import Breaker as Limits

LIMITS = Limits(failures=3, first_s=0.05, longest_s=0.15)


def fail(breaker: Breaker, error: Exception, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(type(error)), breaker.calling():
            raise error


@contextmanager
def opened() -> Iterator[Breaker]:
    breaker = Breaker("database:x", LIMITS)
    fail(breaker, Unreachable(), 3)
    yield breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker("database:x", LIMITS)
    fail(breaker, Transient(), 2)
    with breaker.calling():
        pass
    fail(breaker, Unreachable(), 2)
    assert (breaker.state, breaker.opened) == ("closed", 0)
    fail(breaker, Unreachable())
    assert (breaker.state, breaker.opened) == ("open", 1)
    with pytest.raises(NotNow, match="database:x is asked again in") as refused, breaker.calling():
        pytest.fail("it was asked")
    assert refused.value.retry_after_s is not None
    assert 0 < refused.value.retry_after_s < 0.2


def test_an_answer_that_is_an_error_is_an_answer() -> None:
    breaker = Breaker("database:x", LIMITS)
    for error in (TargetRejected(), ConfigError(), KeyError("ours")):
        fail(breaker, error, 5)
    assert breaker.state == "closed"


def test_one_success_closes_it_and_each_failure_makes_the_pause_longer(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as breaker:
        for _ in range(3):
            eventually(lambda: breaker.state == "half-open", 5)
            fail(breaker, Unreachable())
        eventually(lambda: breaker.state == "half-open", 5)
        with breaker.calling():
            pass
        assert (breaker.state, breaker.opened) == ("closed", 4)
        fail(breaker, Unreachable(), 3)
    pauses = [
        vars(record)["fields"]["pause_s"] for record in caplog.records if vars(record)["action"] == "breaker-opened"
    ]
    assert pauses == [0.05, 0.1, 0.15, 0.15, 0.05]


def test_of_many_threads_one_asks_whether_it_is_back() -> None:
    with opened() as breaker:
        eventually(lambda: breaker.state == "half-open", 2)
        asking, answer = threading.Event(), threading.Event()

        def ask() -> None:
            with breaker.calling():
                asking.set()
                assert answer.wait(5)

        thread = threading.Thread(target=ask)
        thread.start()
        assert asking.wait(5)
        with pytest.raises(NotNow), breaker.calling():
            pytest.fail("a second one asked")
        answer.set()
        thread.join()
        with breaker.calling():
            pass


def test_calls_of_several_threads_run_at_the_same_time() -> None:
    breaker = Breaker("database:x", LIMITS)
    together = threading.Barrier(3, timeout=5)

    def call() -> None:
        with breaker.calling():
            together.wait()

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    together.wait()
    for thread in threads:
        thread.join()


def test_a_call_that_was_under_way_when_it_opened_does_not_open_it_again() -> None:
    breaker = Breaker("database:x", LIMITS)

    def late() -> None:
        with breaker.calling():
            fail(breaker, Unreachable(), 3)
            raise Unreachable

    with pytest.raises(Unreachable):
        late()
    assert breaker.opened == 1


def test_each_system_has_its_own() -> None:
    breakers = Breakers(LIMITS)
    fail(breakers.of("control"), Unreachable(), 3)
    breakers.of("database:x")
    assert breakers.report() == {
        "control": {"state": "open", "opened": 1},
        "database:x": {"state": "closed", "opened": 0},
    }
