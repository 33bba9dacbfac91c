"""Signs of life of real processes, with and without what they depend on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_proxy import ProxyTo
from tests.integration.worker_rig import Rig, worker_rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

AGE = "4"


@pytest.fixture
def rig(postgres: str, target_db: str, redis_url: str, tmp_path: Path) -> Iterator[Rig]:
    with (
        new_database(postgres, "control") as control_url,
        worker_rig(tmp_path, control_url, target_db, redis_url) as rig,
    ):
        yield rig


def alive(rig: Rig, *more: str) -> bool:
    done = rig.program("probe", *more, "--max-age", AGE)
    assert done.code in (0, 1), done.err
    return done.code == 0


def test_a_worker_is_alive_without_its_broker_and_not_when_it_hangs(
    rig: Rig, proxy_to: ProxyTo, redis_url: str
) -> None:
    broker = proxy_to(redis_url)
    rig.change({"broker": broker.url})
    worker = rig.worker("--name=w1")
    eventually(lambda: alive(rig, "worker", "--name", "w1", "--ready"), 30)
    broker.cut()
    eventually(lambda: not alive(rig, "worker", "--ready"), 60)
    eventually(lambda: worker.text().count("action=broker_retry") >= 3, 60)
    assert alive(rig, "worker")
    broker.restore()
    eventually(lambda: alive(rig, "worker", "--ready"), 90)
    os.kill(worker.process.pid, signal.SIGSTOP)
    eventually(lambda: not alive(rig, "worker"), 30)
    os.kill(worker.process.pid, signal.SIGCONT)
    eventually(lambda: alive(rig, "worker"), 30)
    assert worker.stop() == 0
    assert "no worker" in rig.program("probe", "worker").err


def test_a_solo_worker_in_a_long_task_is_alive(rig: Rig) -> None:
    rig.worker("--name=w1", "--grace=0.1")
    said = rig.directory / "said"
    rig.send("trial.sleeps", str(said), 1, 8.0)
    eventually(said.exists)
    [sign] = (rig.directory / "run").glob("*/worker.w1")
    last_word = sign.read_text()
    time.sleep(float(AGE) + 1)  # what is tested is that this time passes
    assert alive(rig, "worker")
    if "end 1" not in said.read_text():
        assert sign.read_text() == last_word
    eventually(lambda: "end 1" in said.read_text(), 60)
    eventually(lambda: sign.read_text() != last_word, 30)


@pytest.mark.parametrize(("role", "ready"), [("exporter", "serving"), ("beat", "")])
def test_the_other_roles_are_alive_until_they_hang(rig: Rig, role: str, ready: str) -> None:
    process = rig.start(role, ready=ready, trial=False)
    eventually(lambda: alive(rig, role), 60)
    process.process.send_signal(signal.SIGSTOP)
    eventually(lambda: not alive(rig, role), 30)
    process.process.send_signal(signal.SIGCONT)
    eventually(lambda: alive(rig, role), 30)
    assert process.stop() == 0
    assert not alive(rig, role)
