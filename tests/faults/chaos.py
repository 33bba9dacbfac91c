"""Random accidents under mixed traffic on three engines, and nothing lost, doubled or out of order.

``python -m tests.faults.chaos --kills 200 --seed 7 --broker redis`` prints each fault as it strikes and a figure per
kind at the end: how often it struck, and the seconds from the fault until every target had a transaction that was
committed after it. The seed decides the sequence of faults; what they hit is up to the moment.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import yaml

from tests.faults.brokers import BROKERS, Broker
from tests.faults.chaos_plan import Fault, plan
from tests.faults.world import Route, World, running_world
from tests.fixtures import fix_mysql, fix_postgres
from tests.fixtures.fix_proxy import Proxy
from tests.fixtures.running import Role
from tests.fixtures.servers import server_directory, with_database
from worker_sync.embedded import EmbeddedMongo, EmbeddedMysql, EmbeddedPostgres
from worker_sync.embedded.mysql import mariadb_installation
from worker_sync.embedded.server import Server

WORKERS = 2
#: Rows that are there before the captures start.
ROWS = 100
PATIENCE_S = 400.0
#: Bytes a second and connection: a batch takes a while, a greeting does not take a minute.
DRIP = 20_000
DELAY_S = 0.15
WORKER = ("worker", "--queues", "sync,audit", "--grace", "1")

Say = Callable[[str], None]


@dataclass
class Figures:
    """What a run measured."""

    #: Seconds until progress, by kind of fault; a fault that another one followed at once is counted with "burst".
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    struck: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    kills: int = 0
    transactions: int = 0
    looks: int = 0

    def lines(self) -> Iterator[str]:
        yield f"{'fault':32} {'struck':>6} {'p50 s':>7} {'p95 s':>7} {'max s':>7}"
        for kind in sorted(self.struck.keys() | self.recoveries.keys()):
            times = sorted(self.recoveries.get(kind, []))
            shown = (statistics.median(times), _quantile(times, 0.95), times[-1]) if times else ()
            yield f"{kind:32} {self.struck.get(kind, 0):6} " + " ".join(f"{value:7.1f}" for value in shown)
        yield f"{self.kills} kills, {self.transactions} source transactions, {self.looks} looks at the targets"


class Chaos:
    """A running world with everything in it that can break."""

    def __init__(self, world: World, servers: dict[str, Server], broker: Broker, doors: dict[str, Proxy]) -> None:
        self.world = world
        self.figures = Figures()
        self._servers = servers
        self._broker = broker
        self._doors = doors
        self._workers_config = self._separate_config()
        self._captures: dict[str, Role] = {}
        self._workers: list[Role] = []

    def _separate_config(self) -> Path:
        """Workers reach the broker through a door of their own."""
        data = yaml.safe_load(self.world.config.read_text())
        path = self.world.config.with_name("workers.yaml")
        path.write_text(yaml.safe_dump({**data, "broker": self._doors["broker of workers"].url}))
        return path

    # -- processes

    def start(self) -> None:
        self._captures = {name: self._capture(name) for name in self.world.origins}
        self._workers = [self._worker() for _ in range(WORKERS)]

    def _capture(self, name: str) -> Role:
        return self.world.start("capture", name)

    def _worker(self) -> Role:
        return self.world.start(*WORKER, config=self._workers_config)

    def assert_alive(self) -> None:
        """Nobody ended of whom nobody asked it."""
        for role in (*self._captures.values(), *self._workers):
            assert role.process.poll() is None, f"{role.log.name} ended by itself:\n{role.text()[-2000:]}"

    # -- faults

    def strike(self, fault: Fault) -> None:
        match fault.kind:
            case "capture":
                name = fault.one_of(list(self._captures))
                self._captures[name].kill()
                self._captures[name] = self._capture(name)
            case "worker":
                number = int(fault.pick * len(self._workers))
                self._workers[number].kill()
                self._workers[number] = self._worker()
            case "all captures and workers":
                for role in (*self._captures.values(), *self._workers):
                    role.kill()
                self.start()
            case "broker":
                self._broker.kill()
            case "broker wiped":
                self._broker.wipe()
            case "broker paused":
                self._broker.pause()
                time.sleep(fault.seconds)
                self._broker.resume()
            case "worker paused" | "capture paused":
                self._pause(fault)
            case _ if fault.kind in self._servers:
                self._servers[fault.kind].kill()
                self._servers[fault.kind].start()
            case _:
                self._disturb(fault)

    def _pause(self, fault: Fault) -> None:
        roles = self._workers if fault.kind == "worker paused" else list(self._captures.values())
        process = roles[int(fault.pick * len(roles))].process
        process.send_signal(signal.SIGSTOP)
        time.sleep(fault.seconds)
        process.send_signal(signal.SIGCONT)

    def _disturb(self, fault: Fault) -> None:
        name = fault.one_of(list(self._doors))
        match fault.kind:
            case "broker cut off from workers":
                self._doors["broker of workers"].cut()
            case "broker cut off from captures":
                self._doors["broker of captures"].cut()
            case "connections dropped":
                self._doors[name].drop()
            case "network cut":
                self._doors[name].cut()
            case "network delayed":
                self._doors[name].delay(DELAY_S)
            case "network half open":
                self._doors[name].half_open()
            case "network dripping":
                self._doors[name].drip(DRIP)
            case _:
                raise AssertionError(f"nobody knows how to do {fault.kind!r}")
        time.sleep(fault.seconds)
        for door in self._doors.values():
            door.restore()

    # -- the run

    def run(self, faults: list[Fault], say: Say, seconds: float = math.inf) -> None:
        """Strike one fault after the other; none begins after so many seconds."""
        begun = struck = time.monotonic()
        at_once: list[str] = []
        for number, fault in enumerate(faults, 1):
            if time.monotonic() - begun > seconds and not at_once:
                say(f"out of time after {self.figures.kills} kills")
                return
            say(f"{number:4}/{len(faults)} {time.monotonic() - begun:7.1f} s  {fault.kind}")
            struck = struck if at_once else time.monotonic()
            at_once.append(fault.kind)
            self.strike(fault)
            self.figures.struck[fault.kind] += 1
            self.figures.kills += fault.is_kill
            if fault.burst:
                continue
            try:
                self.world.await_news(PATIENCE_S)
            finally:
                # Who ended by itself is why nothing arrives.
                self.assert_alive()
            self.figures.recoveries[fault.kind if len(at_once) == 1 else "burst"].append(time.monotonic() - struck)
            at_once.clear()


def _quantile(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


# -- building


@contextlib.contextmanager
def chaos(directory: Path, broker: str) -> Iterator[Chaos]:
    """Servers of the run's own, doors in front of them, and a world in between; nothing runs yet."""
    with contextlib.ExitStack() as stack:
        machines = stack.enter_context(servers())
        own_broker = stack.enter_context(BROKERS[broker]())
        urls = databases(machines)
        doors = {name: Proxy(url) for name, url in urls.items() if name != "lake"}
        doors |= {f"broker of {whom}": Proxy(own_broker.url) for whom in ("captures", "workers")}
        for door in doors.values():
            stack.callback(door.close)
        routes = [Route("source", name, urls[name], doors[name].url) for name in ("reporting", "mirror", "catalog")]
        routes.append(Route("shop", "lake", urls["lake"], with_database(doors["reporting"].url, "lake")))
        world = stack.enter_context(
            running_world(
                directory,
                {name: urls[name] for name in ("source", "shop")},
                routes,
                urls["control"],
                doors["broker of captures"].url,
                by={name: doors[name].url for name in ("source", "shop", "control")},
                rows=ROWS,
                capture={"snapshot_rows": 500},
            )
        )
        yield Chaos(world, machines, own_broker, doors)


@contextlib.contextmanager
def servers() -> Iterator[dict[str, Server]]:
    """A database server for each part, started, by the name that a plan of faults gives it."""
    with contextlib.ExitStack() as stack:
        postgres = ("source PostgreSQL", "target PostgreSQL", "control store")
        running = {name: stack.enter_context(_server(_postgres)) for name in postgres}
        running["MariaDB"] = stack.enter_context(_server(_mariadb))
        running["MongoDB"] = stack.enter_context(_server(EmbeddedMongo))
        yield running


def databases(machines: dict[str, Server]) -> dict[str, str]:
    """URLs of everybody's databases, created where they are missing, straight to their servers."""
    target = machines["target PostgreSQL"].url
    for name in ("reporting", "lake"):
        _create_postgres(target, name)
    mariadb = machines["MariaDB"].url
    fix_mysql.run(mariadb, *(f"CREATE DATABASE {name} CHARACTER SET utf8mb4" for name in ("shop", "mirror")))
    return {
        "source": machines["source PostgreSQL"].url,
        "reporting": with_database(target, "reporting"),
        "lake": with_database(target, "lake"),
        "control": machines["control store"].url,
        "shop": with_database(mariadb, "shop"),
        "mirror": with_database(mariadb, "mirror"),
        "catalog": with_database(machines["MongoDB"].url, "catalog"),
    }


def _create_postgres(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())


@contextlib.contextmanager
def _server(make: Callable[[Path], Server]) -> Iterator[Server]:
    with server_directory("chaos") as directory:
        server = make(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _postgres(directory: Path) -> Server:
    return EmbeddedPostgres(directory, fix_postgres.ROOM)


def _mariadb(directory: Path) -> Server:
    return EmbeddedMysql(directory, mariadb_installation())


def rampage(directory: Path, broker: str, seed: int, kills: int, say: Say, seconds: float = math.inf) -> Figures:
    """One whole run; raises AssertionError when a promise was broken."""
    faults = plan(seed, kills)
    say(f"seed {seed}: {len(faults)} faults, {kills} of them kills, on {broker}")
    with chaos(directory, broker) as it:
        with it.world.traffic(seed) as loads:
            it.start()
            it.world.await_loaded(PATIENCE_S)
            it.world.await_news(PATIENCE_S)
            it.run(faults, say, seconds)
        it.world.assert_same()
        it.figures.transactions = sum(load.transactions for load in loads)
        it.figures.looks = sum(witness.looked for witness in it.world.witnesses)
        return it.figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many processes are killed (default: 200)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="decides the sequence of faults")
    parser.add_argument("--broker", choices=sorted(BROKERS), default="redis")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="strike no longer than this (default: no limit)"
    )
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="worker-sync-chaos-"))
    say: Say = lambda line: print(line, flush=True)  # noqa: T201
    try:
        figures = rampage(directory, options.broker, options.seed, options.kills, say, options.minutes * 60)
    except BaseException:
        say(f"the logs are in {directory}; again: --seed {options.seed} --kills {options.kills}")
        raise
    for line in figures.lines():
        say(line)
    say("lost 0, duplicated 0, reordered 0")
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
