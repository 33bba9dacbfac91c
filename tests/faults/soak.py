"""Constant mixed traffic for hours, and nothing that grows.

``python -m tests.faults.soak --minutes 120``: every few seconds it samples the memory and the open files of every
process, the connections to every database, the rows of every table of the control store, the queues and the log that
the source keeps. At the end it prints the trend of each, writes all samples to a JSON file, and fails when one grew
beyond its bound or a target differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from pymongo import MongoClient

from tests.faults.brokers import BROKERS, Broker
from tests.faults.chaos import databases, servers
from tests.faults.trend import Bound, Trend, trend
from tests.faults.world import Route, World, running_world
from tests.fixtures import fix_mysql
from worker_sync.embedded.server import Server
from worker_sync.store import ControlStore

MEGABYTE: Final = 1024 * 1024
SAMPLE_EVERY_S: Final = 2.0
#: By the beginning of a figure's name. `in_all` is what a run of half a minute may show by chance.
BOUNDS: Final = {
    "memory": Bound(per_hour=8 * MEGABYTE, in_all=12 * MEGABYTE),
    "open files": Bound(per_hour=2, in_all=4),
    "connections": Bound(per_hour=2, in_all=4),
    # The newest 1,000 of an entry are kept, the others removed once an hour.
    "rows of schedule_runs": Bound(per_hour=5_000, in_all=6_000),
    "rows of dead_letters": Bound(per_hour=0, in_all=0),
    "rows": Bound(per_hour=60, in_all=20),
    "queue": Bound(per_hour=10, in_all=20),
    "retained log": Bound(per_hour=16 * MEGABYTE, in_all=16 * MEGABYTE),
}
ROLES: Final = (
    ("capture", "source"),
    ("capture", "shop"),
    ("worker", "--name", "one"),
    ("worker", "--name", "two"),
    ("beat",),
    ("exporter",),
)
SETTINGS: Final[dict[str, Any]] = {"exporter": {"port": 0}, "capture": {"snapshot_rows": 500}}
#: Seconds until the existing rows are there, on a machine that runs everything else too.
LOADED_S: Final = 300.0
_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'worker_sync_control'"
_CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
_COUNT = "SELECT count(*) FROM worker_sync_control."
_RETAINED = "SELECT COALESCE(SUM(pg_current_wal_lsn() - restart_lsn), 0) FROM pg_replication_slots"

Samples = dict[str, list[tuple[float, float]]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of a finished soak."""

    name: str
    trend: Trend
    bound: Bound

    @property
    def grew(self) -> bool:
        return self.trend.exceeds(self.bound)


class Probe:
    """Samples everything that must not grow."""

    def __init__(self, world: World, machines: dict[str, Server], broker: Broker) -> None:
        self.samples: Samples = defaultdict(list)
        self._world = world
        self._machines = machines
        self._broker = broker
        self._begun = time.monotonic()
        self._processes = {
            " ".join(arguments[:1] + arguments[-1:] if len(arguments) > 1 else arguments): role
            for arguments, role in zip(ROLES, world.roles, strict=True)
        }

    def sample(self) -> None:
        at = time.monotonic() - self._begun
        for name, value in self._figures():
            self.samples[name].append((at, value))

    def _figures(self) -> Iterator[tuple[str, float]]:
        for name, role in self._processes.items():
            assert role.process.poll() is None, f"{name} ended by itself:\n{role.text()[-2000:]}"
            process = psutil.Process(role.process.pid)
            yield f"memory of {name}", process.memory_info().rss
            yield f"open files of {name}", process.num_fds()
        yield from self._connections()
        yield from self._rows()
        yield "queue sync", self._broker.depth("sync")
        with psycopg.connect(self._machines["source PostgreSQL"].url) as connection:
            yield "retained log", float(_number(connection, _RETAINED))

    def _connections(self) -> Iterator[tuple[str, float]]:
        for name, server in self._machines.items():
            if name == "MariaDB":
                count = fix_mysql.run(server.url, "SELECT COUNT(*) FROM information_schema.processlist")[0][0]
            elif name == "MongoDB":
                with MongoClient[dict[str, Any]](server.url) as client:
                    count = client.admin.command("serverStatus")["connections"]["current"]
            else:
                with psycopg.connect(server.url) as connection:
                    count = _number(
                        connection, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    )
            yield f"connections to {name}", float(count)

    def _rows(self) -> Iterator[tuple[str, float]]:
        with psycopg.connect(self._world.control) as connection:
            for (table,) in connection.execute(_TABLES).fetchall():
                yield (
                    f"rows of {table}",
                    float(_number(connection, _COUNT + table)),
                )

    def findings(self) -> list[Finding]:
        return [Finding(name, trend(samples), bound_of(name)) for name, samples in sorted(self.samples.items())]


def bound_of(name: str) -> Bound:
    return next(bound for start, bound in BOUNDS.items() if name.startswith(start))


def _number(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@contextlib.contextmanager
def soaking(directory: Path, broker: str) -> Iterator[tuple[World, Probe]]:
    """Everything runs, under no load yet."""
    with servers() as machines, BROKERS[broker]() as own_broker:
        urls = databases(machines)
        routes = [Route("source", name, urls[name]) for name in ("reporting", "mirror", "catalog")]
        routes.append(Route("shop", "lake", urls["lake"]))
        origins = {name: urls[name] for name in ("source", "shop")}
        with running_world(directory, origins, routes, urls["control"], own_broker.url, **SETTINGS) as world:
            for arguments in ROLES:
                world.start(*arguments)
            yield world, Probe(world, machines, own_broker)


def soak(directory: Path, broker: str, seconds: float, say: Say) -> list[Finding]:
    """Run for so long and judge; the samples are in `directory`. Raises AssertionError when a target differs."""
    with soaking(directory, broker) as (world, probe):
        with world.traffic() as loads:
            world.await_loaded(LOADED_S)
            world.await_news()
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                probe.sample()
                time.sleep(min(left, SAMPLE_EVERY_S))
        world.assert_same()
        with ControlStore(world.control) as store:
            assert store.dead_letters.find() == [], "nothing in this traffic can be refused"
        say(f"{sum(load.transactions for load in loads)} source transactions in {seconds / 60:.1f} minutes")
        findings = probe.findings()
    (directory / "samples.json").write_text(json.dumps(probe.samples))
    return findings


def lines(findings: list[Finding]) -> Iterator[str]:
    yield f"{'figure':34} {'first':>11} {'last':>11} {'highest':>11} {'an hour':>11}  {'bound':>10}"
    for finding in findings:
        it, mark = finding.trend, "  GREW" if finding.grew else ""
        shown = (it.first, it.last, it.highest, it.slope)
        yield (
            f"{finding.name:34} "
            + " ".join(f"{value:11,.0f}" for value in shown)
            + (f"  {finding.bound.per_hour:10,.0f}{mark}")
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--broker", choices=sorted(BROKERS), default="redis")
    parser.add_argument("--json", type=Path, default=Path("soak.json"), help="for the samples (default: soak.json)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="worker-sync-soak-"))
    say: Say = lambda line: print(line, flush=True)  # noqa: T201
    say(f"soaking for {options.minutes:g} minutes on {options.broker}; logs are in {directory}")
    findings = soak(directory, options.broker, options.minutes * 60, say)
    shutil.copy(directory / "samples.json", options.json)
    for line in lines(findings):
        say(line)
    if grew := [finding.name for finding in findings if finding.grew]:
        say(f"grew: {', '.join(grew)}; the logs stay in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
