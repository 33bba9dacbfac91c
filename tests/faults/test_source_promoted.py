"""A source that fails over to a standby: what the standby had goes on, what it lacked is never passed over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.harness import TABLES, System, execute, marks_in, running_system
from tests.faults.load import fill
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_proxy import Proxy, ProxyTo
from tests.fixtures.running import Role
from tests.fixtures.standby import copied, promote, start_as_standby
from worker_sync.embedded import EmbeddedPostgres
from worker_sync.store import ControlStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 200
HEAD = "SELECT lpad(to_hex((pg_current_wal_lsn() - '0/0')::bigint), 16, '0')"
PIPELINES = ("reporting", "archive")


@dataclass
class Pair:
    """A primary with its slot, a standby as it was when all was in step, and an address that leads to one of them."""

    system: System
    capture: Role
    address: Proxy
    primary: EmbeddedPostgres
    standby: EmbeddedPostgres

    def arrived(self, pipeline: str, who: str) -> int:
        """How many of the rows that somebody has written are in a target."""
        [(found,)] = execute(self.system.targets[pipeline], f"SELECT count(*) FROM items WHERE name = '{who}'")
        return int(found)

    def await_rows(self, pipeline: str, who: str) -> None:
        self.system.until(lambda: self.arrived(pipeline, who) == 10, f"{pipeline} has the rows of {who}", 90)

    def reached(self, pipeline: str) -> str:
        [mark] = marks_in(self.system.targets[pipeline], pipeline)
        return mark.position.commit

    def carried(self) -> set[str]:
        """The pipelines of the session that runs: whoever was paused may be in it for a moment more."""
        with ControlStore(self.system.control) as store:
            [report] = store.reports.all("capture")
            return set(report.status["pipelines"])

    def halted(self, pipeline: str) -> bool:
        status = self.system.status(pipeline)
        return (status["state"], status["reason"]) == ("halted", "position-lost")


def write(server: EmbeddedPostgres, who: str, first: int) -> None:
    execute(server.url, f"INSERT INTO items SELECT n, '{who}', n, 'x' FROM generate_series({first}, {first} + 9) n")


@pytest.fixture
def pair(
    own_postgres: EmbeddedPostgres,
    postgres: str,
    control_db: str,
    redis_url: str,
    proxy_to: ProxyTo,
    tmp_path: Path,
) -> Iterator[Pair]:
    execute(own_postgres.url, TABLES)
    address = proxy_to(own_postgres.url)
    with contextlib.ExitStack() as stack:
        targets = {name: stack.enter_context(new_database(postgres, name)) for name in PIPELINES}
        system = stack.enter_context(running_system(tmp_path, address.url, targets, control_db, redis_url))
        fill(address.url, ROWS)
        capture = system.capture()
        system.worker()
        system.until(system.loaded, "the snapshots are applied", 90)
        system.assert_same()
        standby = stack.enter_context(copied(own_postgres))
        stack.callback(system.close)
        yield Pair(system, capture, address, own_postgres, standby)


def fail_over_beyond(pair: Pair, commit: str) -> None:
    """The standby is the source, and has written more than the primary had when it wrote `commit`."""
    pair.address.cut()
    pair.primary.stop()
    start_as_standby(pair.standby)
    promote(pair.standby)
    write(pair.standby, "between", 20_000)
    # From here on the old position is one of the new log.
    while execute(pair.standby.url, HEAD)[0][0] <= commit.lower():
        execute(pair.standby.url, "SELECT pg_switch_wal()", "CHECKPOINT")
    write(pair.standby, "new", 30_000)
    pair.address.lead_to(pair.standby.url)
    pair.address.restore()


def assert_healed(pair: Pair) -> None:
    pair.system.assert_same()
    for pipeline in PIPELINES:
        assert [pair.arrived(pipeline, who) for who in ("lost", "between", "new")] == [0, 10, 10]


def test_a_source_that_failed_over_to_a_standby_that_had_all_goes_on(pair: Pair) -> None:
    system = pair.system
    pair.primary.stop()
    start_as_standby(pair.standby)
    pair.address.lead_to(pair.standby.url)
    system.until(lambda: "is a standby" in pair.capture.text(), "the capture waits for a primary", 90)
    promote(pair.standby)
    write(pair.standby, "new", 10_000)
    system.assert_same()
    assert "was promoted" in pair.capture.text()
    assert [pair.arrived(pipeline, "new") for pipeline in PIPELINES] == [10, 10]
    assert pair.capture.stop() == 0
    again = system.capture()
    write(pair.standby, "newer", 11_000)
    system.assert_same()
    assert "was promoted" not in again.text()
    assert [system.status(pipeline)["state"] for pipeline in PIPELINES] == ["running", "running"]


def test_log_without_rows_that_was_confirmed_beyond_the_branch_is_read_anew(pair: Pair) -> None:
    system = pair.system
    with ControlStore(system.control) as store:

        def confirmed() -> str:
            execute(pair.primary.url, "SELECT pg_logical_emit_message(false, 'x', 'x')", "SELECT pg_switch_wal()")
            found = store.checkpoints.load("source")
            return found.confirmed if found and found.confirmed > branch else ""

        branch = execute(pair.primary.url, HEAD)[0][0].upper()
        fail_over_beyond(pair, system.until(confirmed, "what is confirmed is beyond the branch", 90))
    for pipeline in PIPELINES:
        pair.await_rows(pipeline, "new")
    assert_healed(pair)


def test_a_source_that_failed_over_to_a_standby_that_lagged_halts(pair: Pair) -> None:
    system = pair.system
    write(pair.primary, "lost", 10_000)
    for pipeline in PIPELINES:
        pair.await_rows(pipeline, "lost")
    fail_over_beyond(pair, pair.reached("reporting"))
    system.until(lambda: pair.capture.process.poll() is not None, "the capture says what happened", 90)
    for pipeline in PIPELINES:
        assert pair.halted(pipeline)
        system.recover(system.status(pipeline)["recovery"])
    system.capture()
    assert_healed(pair)


def test_a_pipeline_that_stood_still_through_a_failover_is_asked_when_it_goes_on(pair: Pair) -> None:
    """Another one, which had not passed the branch, goes on with the new history meanwhile."""
    system = pair.system
    assert system.cli("pause", "archive").code == 0
    system.until(lambda: "archive" not in pair.carried(), "the capture goes on without it", 90)
    write(pair.primary, "lost", 10_000)
    pair.await_rows("reporting", "lost")
    assert system.cli("pause", "reporting").code == 0
    assert pair.arrived("archive", "lost") == 0
    fail_over_beyond(pair, pair.reached("reporting"))
    assert system.cli("resume", "archive").code == 0
    pair.await_rows("archive", "new")
    assert system.cli("resume", "reporting").code == 0
    system.until(lambda: pair.halted("reporting"), "the other one halts", 90)
    assert system.status("archive")["state"] == "running"
    system.recover(system.status("reporting")["recovery"])
    assert_healed(pair)
