"""Random kills of everything under load."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.brokers import BROKERS
from tests.faults.chaos import rampage
from tests.faults.chaos_plan import KILLS, OTHERS, plan

SEED = 7
SHORT_KILLS = 6
KILLS_ASKED = 200
#: RabbitMQ takes three times as long to start.
SHORT_BROKERS = [pytest.param(name, marks=pytest.mark.long if name == "rabbitmq" else ()) for name in BROKERS]


def test_the_sequence_of_faults_is_decided_by_the_seed() -> None:
    assert plan(SEED, 50) == plan(SEED, 50)
    assert plan(SEED, 50) != plan(SEED + 1, 50)
    assert plan(SEED, 50)[:40] == plan(SEED, 60)[:40]


def test_a_long_run_kills_and_disturbs_everything() -> None:
    faults = plan(SEED, KILLS_ASKED)
    struck = Counter(fault.kind for fault in faults)
    assert sum(fault.is_kill for fault in faults) == KILLS_ASKED
    assert struck.keys() == KILLS.keys() | OTHERS.keys()
    assert all(struck[kind] >= KILLS_ASKED * weight // sum(KILLS.values()) for kind, weight in KILLS.items())


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("broker", SHORT_BROKERS)
def test_a_few_random_kills_lose_double_and_reorder_nothing(broker: str, tmp_path: Path) -> None:
    assert rampage(tmp_path, broker, SEED, SHORT_KILLS, say).kills == SHORT_KILLS


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("broker", BROKERS)
def test_two_hundred_random_kills_lose_double_and_reorder_nothing(broker: str, tmp_path: Path) -> None:
    figures = rampage(tmp_path, broker, SEED, KILLS_ASKED, say)
    assert figures.kills == KILLS_ASKED
    for line in figures.lines():
        say(line)
