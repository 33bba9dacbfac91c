"""Captures that are killed, replaced, or paused and woken up after another took over."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import psycopg
import pytest

from tests.faults.harness import System, execute
from tests.faults.load import Load, fill
from tests.fixtures.running import Role
from worker_sync.store import ControlStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

APPLY_WAITS = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND application_name = 'worker-sync'"
)


@contextlib.contextmanager
def held(url: str, mode: str) -> Iterator[None]:
    """Whoever reads (ACCESS EXCLUSIVE) or writes (EXCLUSIVE) `items` waits."""
    with psycopg.connect(url) as connection:
        connection.execute(f"LOCK TABLE items IN {mode} MODE".encode())
        yield


def stands_by(system: System, capture: Role) -> None:
    system.until(lambda: "standing by" in capture.text(), "it stands by")


def takes_over(system: System, capture: Role) -> None:
    system.until(lambda: "capture_started" in capture.text(), "it takes over", 90)


def kill_again_and_again(system: System, times: int) -> None:
    with Load(system.source):
        system.worker()
        capture = system.capture()
        for _ in range(times):
            system.await_progress(100, 90)
            capture.kill()
            capture = system.capture()
        system.await_progress(100, 90)
    system.assert_same()


def test_captures_killed_under_load_lose_and_double_nothing(system: System) -> None:
    kill_again_and_again(system, 3)


@pytest.mark.long
def test_captures_killed_twenty_times_lose_and_double_nothing(system: System) -> None:
    kill_again_and_again(system, 20)


def test_a_capture_killed_in_the_middle_of_snapshot_chunks_continues_through_the_hand_over(system: System) -> None:
    """Three kills: while a chunk waits to be applied, while one is being read, and in the stream right after."""
    fill(system.source)
    system.worker()
    capture = system.capture()
    system.await_progress(200, 90)
    with Load(system.source):
        reporting = system.targets["reporting"]
        with held(reporting, "EXCLUSIVE"):
            system.until(lambda: execute(reporting, APPLY_WAITS), "a chunk waits to be applied")
            assert not system.loaded()
            capture.kill()
        capture = system.capture()
        system.await_progress(100, 90)
        if not system.loaded():
            with held(system.source, "ACCESS EXCLUSIVE"):
                system.until(lambda: execute(system.source, APPLY_WAITS), "a chunk is being read")
                capture.kill()
            capture = system.capture()
        system.until(system.loaded, "the snapshots are applied", 120)
        capture.kill()
        system.capture()
        system.await_progress(100, 90)
    system.assert_same()


def test_a_standby_takes_over_from_a_killed_capture(system: System) -> None:
    with Load(system.source):
        system.worker()
        leader = system.capture()
        system.await_progress(50, 90)
        for _ in range(2):
            standby = system.capture()
            stands_by(system, standby)
            leader.kill()
            takes_over(system, standby)
            system.await_progress(100, 90)
            leader = standby
    system.assert_same()


def test_a_paused_capture_that_wakes_up_after_another_took_over_changes_nothing(system: System) -> None:
    # A stopped process keeps its connection, so the server must notice its silence before another gets the slot.
    execute(system.source, f"ALTER DATABASE {psycopg.conninfo.conninfo_to_dict(system.source)['dbname']} "
                           "SET wal_sender_timeout = '3s'")  # fmt: skip
    with Load(system.source), ControlStore(system.control) as store:
        system.worker()
        sleeper = system.capture()
        system.await_progress(50, 90)
        heir = system.capture()
        stands_by(system, heir)
        sleeper.process.send_signal(signal.SIGSTOP)
        takes_over(system, heir)
        system.await_progress(100, 90)
        taken = store.checkpoints.load("source")
        assert taken is not None
        sleeper.process.send_signal(signal.SIGCONT)
        system.until(lambda: "standing by" in sleeper.text(), "the woken one sees that it was replaced")
        now = store.checkpoints.load("source")
        assert now is not None
        assert (now.token, now.confirmed >= taken.confirmed) == (taken.token, True)
        assert sleeper.text().count("capture_started") == 1
        system.await_progress(100, 90)
        assert sleeper.process.poll() is None
        heir.kill()
        system.until(lambda: sleeper.text().count("capture_started") == 2, "it takes over again", 90)
    system.assert_same()
