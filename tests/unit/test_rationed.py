"""A dear question is asked seldom, a cheap one each time."""

from __future__ import annotations

import pytest

from worker_sync.exporter.rationed import Rationed


class Counting:
    """Counts questions; each takes `cost_s` on a clock of its own."""

    def __init__(self, cost_s: float) -> None:
        self.cost_s, self.now, self.asked = cost_s, 100.0, 0

    def ask(self) -> int:
        self.asked += 1
        self.now += self.cost_s
        return self.asked


def test_what_takes_a_second_is_asked_every_twenty() -> None:
    server = Counting(1.0)
    rationed = Rationed(server.ask, lambda: server.now)
    assert [rationed(), rationed()] == [1, 1]
    server.now += 19.9
    assert rationed() == 1
    server.now += 0.1
    assert rationed() == 2


def test_what_takes_no_time_is_asked_each_time() -> None:
    server = Counting(0.0)
    rationed = Rationed(server.ask, lambda: server.now)
    assert [rationed(), rationed(), rationed()] == [1, 2, 3]


def test_a_failure_is_no_answer() -> None:
    server = Counting(1.0)

    def ask() -> int:
        if server.ask() == 2:
            raise OSError("away")
        return server.asked

    rationed = Rationed(ask, lambda: server.now)
    assert rationed() == 1
    server.now += 100
    with pytest.raises(OSError, match="away"):
        rationed()
    assert rationed() == 3
