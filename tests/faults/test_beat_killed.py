"""Beats that are killed, paused, stopped and cut off, with a real broker; nothing works on what they send."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
import yaml

from tests.faults.harness import execute
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_proxy import ProxyTo
from tests.fixtures.program import start
from tests.fixtures.running import Role
from worker_sync.embedded import EmbeddedRedis
from worker_sync.store import ControlStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Seconds between two times of the entry that is looked at.
EVERY_S = 0.5
#: What is promised, in seconds.
TAKE_OVER_S = 10.0

Sent = tuple[str, str, int]


@dataclass
class Beats:
    config: Path
    broker: redis.Redis
    control: ControlStore
    roles: list[Role] = field(default_factory=list)

    def start(self) -> Role:
        log = self.config.parent / f"beat-{len(self.roles)}.log"
        role = Role(start(["--config", str(self.config), "beat"], log), log)
        self.roles.append(role)
        return role

    def leader(self) -> Role:
        """A beat that leads."""
        role = self.start()
        self.leads(role)
        return role

    def standby(self) -> Role:
        role = self.start()
        eventually(lambda: "beat_standby" in role.text() or role.process.poll() is not None, 60, "it stands by")
        assert role.process.poll() is None, role.text()
        return role

    def leads(self, role: Role) -> None:
        eventually(lambda: "beat_leads" in role.text() or role.process.poll() is not None, 60, "it leads")
        assert role.process.poll() is None, role.text()

    def sent(self, queue: str = "default") -> list[Sent]:
        """Entry, time and token of every message, oldest first."""
        found: list[Any] = self.broker.lrange(queue, 0, -1)
        runs = [json.loads(message)["headers"]["worker_sync_run"] for message in found]
        return [(entry, at, token) for entry, at, _, token in reversed(runs)]

    def more(self, count: int, seconds: float = 30.0) -> None:
        before = len(self.sent())
        eventually(lambda: len(self.sent()) >= before + count, seconds, f"{count} more messages")

    def until_token_above(self, token: int, seconds: float) -> None:
        eventually(lambda: self.sent()[-1][2] > token, seconds, "another beat sends")

    def times(self) -> list[tuple[str, str]]:
        return [(entry, at) for entry, at, _ in self.sent()]


@pytest.fixture
def beats(target_db: str, redis_url: str, tmp_path: Path) -> Iterator[Beats]:
    with ControlStore(target_db) as control, redis.Redis.from_url(redis_url) as broker:
        control.migrate()
        made = Beats(write(tmp_path, target_db, redis_url), broker, control)
        yield made
        for role in made.roles:
            if role.process.poll() is None:
                role.process.send_signal(signal.SIGCONT)
                role.kill()


def write(folder: Path, control: str, broker: str, **more: Any) -> Path:
    """A configuration in which only a heartbeat and a nightly run are scheduled."""
    config = folder / "worker-sync.yaml"
    off = {"enabled": False}
    now = datetime.now(ZoneInfo("Europe/Berlin")) - timedelta(hours=2)
    data = {
        "control": control,
        "broker": broker,
        "state_dir": str(folder / "state"),
        "databases": {"a": {"url": "postgresql://127.0.0.1:1/a"}, "b": {"url": "postgresql://127.0.0.1:1/b"}},
        "pipelines": {"a-to-b": {"source": "a", "target": "b", "tables": ["*"]}},
        "heartbeat": {"every_s": EVERY_S},
        "timezone": "Europe/Berlin",
        "schedules": {
            "health-check": off,
            "schedule-cleanup": off,
            "report-cleanup": {"crontab": f"30 {now.hour} * * *"},
        },
        **more,
    }
    config.write_text(yaml.safe_dump(data))
    return config


def kill_again_and_again(beats: Beats, times: int) -> list[float]:
    """How long it took each time from the kill until another beat had sent a message."""
    leader, standby, took = beats.leader(), beats.standby(), []
    for _ in range(times):
        beats.more(2)
        token = beats.sent()[-1][2]
        leader.kill()
        killed = time.monotonic()
        beats.until_token_above(token, 60)
        took.append(time.monotonic() - killed)
        beats.leads(standby)
        leader, standby = standby, beats.standby()
    beats.more(2)
    assert len(beats.times()) == len(set(beats.times()))
    print(f"beats took over after {', '.join(f'{seconds:.2f}' for seconds in took)} s")  # noqa: T201 - a figure to report
    return took


def test_a_killed_beat_is_replaced_within_ten_seconds_and_nothing_is_sent_twice(beats: Beats) -> None:
    assert max(kill_again_and_again(beats, 1)) < TAKE_OVER_S


@pytest.mark.long
def test_a_beat_killed_ten_times_is_replaced_within_ten_seconds_each_time(beats: Beats) -> None:
    assert max(kill_again_and_again(beats, 10)) < TAKE_OVER_S


def test_a_beat_that_is_asked_to_end_is_replaced_at_once(beats: Beats) -> None:
    leader, standby = beats.leader(), beats.standby()
    beats.more(1)
    assert leader.stop() == 0
    ended = time.monotonic()
    beats.leads(standby)
    assert time.monotonic() - ended < 4  # the lease, 5 s, was given back
    beats.more(2)
    assert standby.stop() == 0
    assert beats.control.leases.holding("beat") is None
    assert len(beats.times()) == len(set(beats.times()))


def test_a_paused_beat_that_wakes_up_after_another_took_over_sends_nothing(beats: Beats) -> None:
    sleeper = beats.leader()
    beats.more(2)
    beats.standby()
    old = beats.sent()[-1][2]
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    beats.until_token_above(old, 60)
    beats.more(1)
    seen = len(beats.sent())
    os.kill(sleeper.process.pid, signal.SIGCONT)
    eventually(lambda: "beat_standby" in sleeper.text(), 60, "the woken one sees that it was replaced")
    beats.more(3)
    assert old not in {token for _, _, token in beats.sent()[seen:]}
    assert sleeper.process.poll() is None
    assert len(beats.times()) == len(set(beats.times()))


def test_a_nightly_run_that_all_beats_were_down_for_is_caught_up_once(beats: Beats, target_db: str) -> None:
    beats.leader().kill()
    # The beats were away for three nights.
    execute(
        target_db,
        "UPDATE worker_sync_control.schedule_entries SET since = clock_timestamp() - interval '3 days'"
        " WHERE entry = 'report-cleanup'",
    )
    for _ in range(2):
        both = [beats.start(), beats.start()]
        eventually(lambda: any("beat_leads" in role.text() for role in both), 60)  # noqa: B023
        beats.more(3)
        for role in both:
            role.kill()
    assert len(beats.sent("cleanup")) == 1
    assert beats.sent("cleanup")[0][0] == "report-cleanup"
    assert [run.status.value for run in beats.control.schedule.newest("report-cleanup", 9)] == [
        "published",
        "skipped",
        "skipped",
    ]


def test_a_beat_goes_on_after_its_broker_and_its_control_store_were_away(
    target_db: str, redis_server: EmbeddedRedis, proxy_to: ProxyTo, tmp_path: Path
) -> None:
    control, broker = proxy_to(target_db), proxy_to(redis_server.url)
    with ControlStore(target_db) as store, redis.Redis.from_url(redis_server.url) as direct:
        store.migrate()
        beats = Beats(write(tmp_path, control.url, broker.url), direct, store)
        try:
            beat = beats.leader()
            beats.more(1)
            broker.cut()
            eventually(lambda: "run_unsent" in beat.text(), 60, "a message can't be sent")
            broker.restore()
            beats.more(2, 60)
            control.cut()
            eventually(lambda: "beat_retry" in beat.text(), 60, "nothing can be fired")
            control.restore()
            beats.more(2, 60)
            assert beat.process.poll() is None
            # What the broker may have taken is sent again, under the same name: never another time twice.
            runs = {(entry, at): token for entry, at, token in beats.sent()}
            assert len(runs) >= 5
        finally:
            for role in beats.roles:
                role.kill()
