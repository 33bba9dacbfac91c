"""Processes that record in the ledger and are killed, or stand still, between any two steps, beside others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.failpoints import RECORDING
from tests.fixtures.eventually import eventually
from tests.fixtures.program import ROOT
from tests.integration.ledger_rig import at, opened, read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE_S = 180.0
Process = subprocess.Popen[bytes]


class Ledger:
    """A ledger, and the processes that record in it."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self._directory = directory
        self._processes: list[Process] = []

    def start(self, trail: str, transactions: int, changes: int, *trap: str) -> Process:
        command = [sys.executable, "-m", "tests.faults.ledger_writer", self.url, trail, str(transactions), str(changes)]
        process = subprocess.Popen([*command, *trap], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        self._processes.append(process)
        return process

    def struck(self, name: str, trail: str, transactions: int, changes: int, blow: signal.Signals) -> Process:
        """A process that has gone to the failpoint, where the signal struck it."""
        mark = self._directory / f"{trail}-{blow.name}"
        process = self.start(trail, transactions, changes, name, str(mark), blow.name)
        eventually(lambda: mark.exists() or process.poll() is not None, PATIENCE_S, f"{name} strikes")
        assert mark.exists(), f"{name} was never passed"
        return process

    def check(self, trails: dict[str, tuple[int, int]]) -> None:
        """Of each trail the ledger holds its beginning and every change once, in order."""
        entries = read(self.url)
        for trail, (transactions, changes) in trails.items():
            source = trail.removeprefix("audit.")
            mine = [entry for entry in entries if entry["source"] == source]
            assert [entry["kind"] for entry in mine[:1]] == ["begin"]
            numbered = [(at(t).commit, n) for t in range(1, transactions + 1) for n in range(1, changes + 1)]
            assert [entry["id"] for entry in mine[1:]] == [f"{source}:{commit}:{n}" for commit, n in numbered]
        assert len(entries) == sum(1 + transactions * changes for transactions, changes in trails.values())

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def ledger(target_db: str, tmp_path: Path) -> Iterator[Ledger]:
    with opened(target_db) as sink:
        sink.prepare()
    made = Ledger(target_db, tmp_path)
    yield made
    made.end()


def finished(process: Process) -> bool:
    return process.wait(PATIENCE_S) == 0


def test_eight_recorders_at_once_make_one_tree(ledger: Ledger) -> None:
    trails = {f"audit.t{number}": (12, 40) for number in range(4)}
    # Two for each trail: whoever comes second finds its batch recorded.
    processes = [ledger.start(trail, *size) for trail, size in trails.items() for _ in range(2)]
    assert [finished(process) for process in processes] == [True] * 8
    ledger.check(trails)


def test_recorders_killed_between_any_two_steps_lose_and_double_nothing(ledger: Ledger) -> None:
    trails = {f"audit.t{number}": (4, 300) for number, _ in enumerate(RECORDING)}
    bystander = {"audit.bystander": (150, 20)}
    beside = ledger.start("audit.bystander", *bystander["audit.bystander"])
    for point, (trail, size) in zip(RECORDING, trails.items(), strict=True):
        assert ledger.struck(point.name, trail, *size, signal.SIGKILL).wait(PATIENCE_S) == -signal.SIGKILL
        assert finished(ledger.start(trail, *size))
    assert finished(beside)
    ledger.check(trails | bystander)


@pytest.mark.parametrize(
    "name",
    [
        "ledger: head locked, nothing written",
        "ledger: entries sent in part",
        "ledger: head moved, watermark not",
        "ledger: watermark moved, not committed",
    ],
)
def test_a_recorder_that_stands_still_with_the_lock_holds_the_others_for_seconds(ledger: Ledger, name: str) -> None:
    stopped = ledger.struck(name, "audit.stopped", 4, 300, signal.SIGSTOP)
    assert finished(ledger.start("audit.other", 3, 10))
    with psycopg.connect(ledger.url) as connection:
        row = connection.execute("SELECT count(*) FROM worker_sync_ledger.entries WHERE source = 'other'").fetchone()
    assert row == (31,)
    stopped.send_signal(signal.SIGCONT)
    assert finished(stopped)
    ledger.check({"audit.stopped": (4, 300), "audit.other": (3, 10)})
