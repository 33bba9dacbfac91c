"""A target that is away for a while: it is not hammered, and it is back within seconds."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.harness import System, changes_in, execute, running_system
from tests.faults.load import Load
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_proxy import Proxy, ProxyTo
from tests.fixtures.running import Role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OUTAGE_S = 10.0
#: Longest pause of the breaker with its random part, and the patience for a slow machine.
RECOVERY_S = 5.0 + 10.0


@dataclass
class Line:
    """A system whose workers alone reach the target through `door`."""

    system: System
    door: Proxy
    config: Path

    def worker(self, **values: Any) -> Role:
        data = yaml.safe_load(self.system.config.read_text())
        data["databases"]["reporting"]["url"] = self.door.url
        self.config.write_text(yaml.safe_dump({**data, **values}))
        before, self.system.config = self.system.config, self.config
        try:
            return self.system.worker()
        finally:
            self.system.config = before

    def outage(self, seconds: float) -> tuple[int, float]:
        """Connections that workers tried meanwhile, and seconds from its end to the next applied batch."""
        target = self.system.targets["reporting"]
        before = self.door.attempts
        self.door.lead_to(f"postgresql://127.0.0.1:{deaf_port()}/nothing")
        time.sleep(seconds)  # the length of the outage is what is tested
        attempts = self.door.attempts - before
        applied = changes_in(target, "reporting")
        self.door.lead_to(target)
        began = time.monotonic()
        eventually(lambda: changes_in(target, "reporting") > applied, 120, "a batch is applied again")
        return attempts, time.monotonic() - began


@pytest.fixture
def line(
    tables: str, target_db: str, control_db: str, redis_url: str, proxy_to: ProxyTo, tmp_path: Path
) -> Iterator[Line]:
    with running_system(tmp_path, tables, {"reporting": target_db}, control_db, redis_url) as system:
        yield Line(system, proxy_to(target_db), tmp_path / "through-the-door.yaml")


def deaf_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def test_a_target_that_is_away_is_asked_rarely_and_is_back_within_seconds(line: Line) -> None:
    with Load(line.system.source):
        line.system.capture()
        worker = line.worker()
        line.system.await_progress(50, 90)
        attempts, recovery_s = line.outage(OUTAGE_S)
        line.system.until(lambda: "action=breaker-closed" in worker.text(), "the breaker closes")
    assert "action=breaker-opened" in worker.text()
    # Five until it opens, then one after 0.5, 1, 2, 3, 3 s, each of which libpq may try twice.
    assert attempts <= 24
    assert recovery_s < RECOVERY_S
    line.system.assert_same()


def test_an_open_breaker_shows_in_status_and_metrics(line: Line) -> None:
    with Load(line.system.source):
        line.system.capture()
        line.worker()
        line.system.await_progress(50, 90)
        line.door.cut()
        line.system.until(lambda: "database:reporting fails" in line.system.cli("status").out, "status says it")
        rows = execute(
            line.system.control, "SELECT status->'breakers' FROM worker_sync_control.reports WHERE kind = 'worker'"
        )
        assert rows[0][0]["database:reporting"]["opened"] >= 1
        line.door.restore()
        line.system.until(lambda: "database:reporting fails" not in line.system.cli("status").out, "status says it")


@pytest.mark.long
def test_without_a_breaker_the_same_outage_is_many_more_connections(line: Line) -> None:
    figures = {}
    with Load(line.system.source):
        line.system.capture()
        for name, failures in (("without", 1000), ("with", 5)):
            worker = line.worker(breaker={"failures": failures})
            line.system.await_progress(50, 90)
            figures[name] = line.outage(30.0)
            worker.kill()
    assert figures["with"][0] * 5 < figures["without"][0], figures
    assert figures["with"][1] < RECOVERY_S, figures
    line.worker()
    line.system.assert_same()
