"""Waiting for the batch before: long enough for a neighbour, and never for long in vain."""

from __future__ import annotations

from connectors.base import Outcome
from tasks.turns import CREDIT_S, PAUSES_S, SHARE, Turns


class Trial:
    """A process whose time is made of what it waits and what its applies take."""

    def __init__(self) -> None:
        self.now = self.waited = 0.0
        self.turns = Turns(self._pause, lambda: self.now)

    def _pause(self, seconds: float) -> None:
        self.now += seconds
        self.waited += seconds

    def take(self, *outcomes: str, seconds: float = 0.01) -> str:
        """One batch whose tries have these outcomes, the last one from then on."""
        answers = list(outcomes)

        def attempt() -> str:
            self.now += seconds
            return answers.pop(0) if len(answers) > 1 else answers[0]

        return self.turns.take(attempt)


def test_what_is_not_early_does_not_wait() -> None:
    trial = Trial()
    for outcome in (Outcome.APPLIED, Outcome.DUPLICATE, Outcome.STALE):
        assert trial.take(outcome) == outcome
    assert trial.waited == 0.0


def test_a_neighbour_is_waited_for_however_often_there_is_one() -> None:
    trial = Trial()
    for _ in range(100):
        assert trial.take(Outcome.EARLY, Outcome.EARLY, Outcome.APPLIED) == Outcome.APPLIED
    assert trial.waited > CREDIT_S


def test_a_window_behind_a_lost_batch_is_waited_for_once() -> None:
    trial = Trial()
    for _ in range(512):
        assert trial.take(Outcome.EARLY) == Outcome.EARLY
    assert CREDIT_S - max(PAUSES_S) <= trial.waited <= CREDIT_S


def test_waits_in_vain_cost_a_share_of_the_work_at_most() -> None:
    trial, worked = Trial(), 0.0
    for _ in range(512):
        trial.take(Outcome.EARLY)
        trial.take(Outcome.APPLIED, seconds=0.02)
        worked += 0.02
    assert sum(PAUSES_S) < trial.waited <= CREDIT_S + SHARE * worked
