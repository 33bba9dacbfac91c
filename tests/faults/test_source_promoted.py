"""A source that fails over to a standby: what the standby had goes on, what it lacked is never passed over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.harness import TABLES, System, execute, marks_in, running_system
from tests.faults.load import fill
from tests.fixtures.fix_proxy import Proxy, ProxyTo
from tests.fixtures.running import Role
from tests.fixtures.standby import copied, promote, start_as_standby
from worker_sync.embedded import EmbeddedPostgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 200
HEAD = "SELECT lpad(to_hex((pg_current_wal_lsn() - '0/0')::bigint), 16, '0')"


@dataclass
class Pair:
    """A primary with its slot, a standby as it was when all was in step, and an address that leads to one of them."""

    system: System
    capture: Role
    address: Proxy
    primary: EmbeddedPostgres
    standby: EmbeddedPostgres

    @property
    def target(self) -> str:
        return self.system.targets["reporting"]

    def written_at(self, pattern: str) -> list[tuple[object, ...]]:
        return execute(self.target, f"SELECT count(*) FROM items WHERE name LIKE '{pattern}'")


def write(server: EmbeddedPostgres, who: str, first: int) -> None:
    execute(server.url, f"INSERT INTO items SELECT n, '{who}', n, 'x' FROM generate_series({first}, {first} + 9) n")


@pytest.fixture
def pair(
    own_postgres: EmbeddedPostgres,
    target_db: str,
    control_db: str,
    redis_url: str,
    proxy_to: ProxyTo,
    tmp_path: Path,
) -> Iterator[Pair]:
    execute(own_postgres.url, TABLES)
    address = proxy_to(own_postgres.url)
    with contextlib.ExitStack() as stack:
        targets = {"reporting": target_db}
        system = stack.enter_context(running_system(tmp_path, address.url, targets, control_db, redis_url))
        fill(address.url, ROWS)
        capture = system.capture()
        system.worker()
        system.until(system.loaded, "the snapshots are applied", 90)
        system.assert_same()
        standby = stack.enter_context(copied(own_postgres))
        stack.callback(system.close)
        yield Pair(system, capture, address, own_postgres, standby)


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
    assert pair.written_at("new") == [(10,)]
    assert pair.capture.stop() == 0
    again = system.capture()
    write(pair.standby, "newer", 11_000)
    system.assert_same()
    assert "was promoted" not in again.text()
    assert system.status("reporting")["state"] == "running"


def test_a_source_that_failed_over_to_a_standby_that_lagged_halts(pair: Pair) -> None:
    system = pair.system
    write(pair.primary, "lost", 10_000)
    system.until(lambda: pair.written_at("lost") == [(10,)], "the target has what the standby lacks", 90)
    [mark] = marks_in(pair.target, "reporting")
    pair.address.cut()
    pair.primary.stop()
    start_as_standby(pair.standby)
    promote(pair.standby)
    write(pair.standby, "between", 20_000)
    # From here on the old position is one of the new log.
    while execute(pair.standby.url, HEAD)[0][0] <= mark.position.commit.lower():
        execute(pair.standby.url, "SELECT pg_switch_wal()", "CHECKPOINT")
    write(pair.standby, "new", 30_000)
    pair.address.lead_to(pair.standby.url)
    pair.address.restore()
    system.until(lambda: pair.capture.process.poll() is not None, "the capture says what happened", 90)
    status = system.status("reporting")
    assert (status["state"], status["reason"]) == ("halted", "position-lost"), status
    system.recover(status["recovery"])
    system.capture()
    system.assert_same()
    assert [pair.written_at(who) for who in ("lost", "between", "new")] == [[(0,)], [(10,)], [(10,)]]
