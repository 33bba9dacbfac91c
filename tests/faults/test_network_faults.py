"""Networks that are slow, cut, half dead, or leave some of the messages out."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
import redis
import yaml

from tests.faults.harness import System, running_system
from tests.faults.load import Load
from tests.fixtures.fix_proxy import Proxy, ProxyTo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LASTS_S = 2.0
DRIP = 20_000
DISTURBANCES: dict[str, Callable[[Proxy], None]] = {
    "cut": Proxy.cut,
    "silent": Proxy.stall,
    "half open": Proxy.half_open,
    "slow": lambda door: door.delay(0.2),
    "dripping": lambda door: door.drip(DRIP),
}


class Wired:
    """A system with a door on every line: source, both targets, the control store, and the broker for each role."""

    def __init__(self, system: System, doors: dict[str, Proxy]) -> None:
        self.system = system
        self.doors = doors
        data = yaml.safe_load(system.config.read_text())
        self._for_workers = system.config.with_name("workers.yaml")
        self._for_workers.write_text(yaml.safe_dump({**data, "broker": doors["broker of workers"].url}))

    def start(self) -> None:
        self.system.capture()
        self.system.start("worker", "--queues", "sync", "--grace", "1", config=self._for_workers)


@pytest.fixture
def wired(
    tables: str,
    target_db: str,
    mongo_target: str,
    control_db: str,
    redis_url: str,
    proxy_to: ProxyTo,
    tmp_path: Path,
) -> Iterator[Wired]:
    targets = {"reporting": target_db, "catalog": mongo_target}
    doors = {name: proxy_to(url) for name, url in targets.items()}
    doors |= {"source": proxy_to(tables), "control": proxy_to(control_db)}
    doors |= {f"broker of {whom}": proxy_to(redis_url) for whom in ("captures", "workers")}
    with running_system(tmp_path, tables, targets, control_db, redis_url) as system:
        databases = {name: {"url": doors[name].url} for name in ("source", *targets)}
        system.change(
            {"databases": databases, "control": doors["control"].url, "broker": doors["broker of captures"].url}
        )
        yield Wired(system, doors)


@pytest.mark.parametrize(
    "kind", [kind if kind == "half open" else pytest.param(kind, marks=pytest.mark.long) for kind in DISTURBANCES]
)
def test_a_disturbed_network_on_any_line_costs_only_time(wired: Wired, kind: str) -> None:
    with Load(wired.system.source):
        wired.start()
        wired.system.await_progress(50, 90)
        for door in wired.doors.values():
            DISTURBANCES[kind](door)
            time.sleep(LASTS_S)
            door.restore()
            wired.system.await_progress(50, 120)
    wired.system.assert_same()


@pytest.mark.long
def test_connections_that_a_balancer_forgot_are_given_up(wired: Wired) -> None:
    with Load(wired.system.source):
        wired.start()
        wired.system.await_progress(50, 90)
        for door in wired.doors.values():
            door.forget()
        wired.system.await_progress(50, 180)
    wired.system.assert_same()


@pytest.mark.parametrize("whom", ["captures", "workers"])
def test_a_broker_that_only_some_can_reach_loses_nothing(wired: Wired, whom: str) -> None:
    with Load(wired.system.source):
        wired.start()
        wired.system.await_progress(50, 90)
        wired.doors[f"broker of {whom}"].cut()
        time.sleep(LASTS_S)
        wired.doors[f"broker of {whom}"].restore()
        wired.system.await_progress(50, 120)
    wired.system.assert_same()


class BadRelay:
    """Carries messages from the broker of captures to that of workers: of every hundred it loses ten, doubles ten,
    holds ten back for a while, and lets ten overtake others."""

    SHARE = 0.1
    HELD_S = 1.0

    def __init__(self, here: str, there: str, queue: str = "sync") -> None:
        self.counts = dict.fromkeys(("passed", "lost", "doubled", "held", "overtaken"), 0)
        self._queue = queue
        self._stack = ExitStack()
        self._here = self._stack.enter_context(redis.Redis.from_url(here))
        self._there = self._stack.enter_context(redis.Redis.from_url(there))
        self._held: list[tuple[float, bytes]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._stack.close()

    def _run(self) -> None:
        rand = random.Random(10)
        while not self._stop.is_set():
            taken = self._here.brpop([self._queue], timeout=1)
            self._let_go(time.monotonic())
            if taken is not None:
                self._carry(taken[1], rand)

    def _carry(self, message: bytes, rand: random.Random) -> None:
        dice = rand.random() / self.SHARE
        if dice < 1:
            self.counts["lost"] += 1
        elif dice < 2:
            self.counts["doubled"] += 1
            self._there.lpush(self._queue, message, message)
        elif dice < 3:
            self.counts["held"] += 1
            self._held.append((time.monotonic() + self.HELD_S, message))
        elif dice < 4:
            self.counts["overtaken"] += 1
            self._there.rpush(self._queue, message)  # the right end is taken next
        else:
            self.counts["passed"] += 1
            self._there.lpush(self._queue, message)

    def _let_go(self, now: float) -> None:
        due = [message for when, message in self._held if when <= now]
        self._held = [entry for entry in self._held if entry[0] > now]
        for message in due:
            self._there.lpush(self._queue, message)


def test_a_network_that_loses_doubles_delays_and_reorders_messages_changes_nothing(system: System) -> None:
    workers = system.config.with_name("workers.yaml")
    there = f"{system.broker.rpartition('/')[0]}/1"
    data = yaml.safe_load(system.config.read_text())
    workers.write_text(yaml.safe_dump({**data, "broker": there}))
    with BadRelay(system.broker, there) as relay, Load(system.source) as load:
        system.capture()
        for _ in range(2):
            system.start("worker", "--queues", "sync", "--grace", "1", config=workers)
        system.await_progress(50, 90)
        system.until(lambda: min(relay.counts.values()) >= 10, "every accident happened ten times", 180)
        load.stopping.set()
        system.assert_same()
