"""The schedule as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from beat_schedule.entry import Entry
from beat_schedule.merge import merge, override, schedule
from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import Schedule
from worker_sync.core.settings import Settings, parse

ENTRIES = {"a": Entry("x.a", every_s=1.0), "b": Entry("x.b", crontab="0 2 * * *")}


def settings(**more: object) -> Settings:
    data: dict[str, object] = {
        "databases": {"a": {"url": "memory://a"}, "b": {"url": "memory://b"}},
        "pipelines": {"a-to-b": {"source": "a", "target": "b", "tables": ["*"]}},
        **more,
    }
    return parse(data, where="test", folder=Path("/tmp"))


def test_an_entry_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="stand twice: a"):
        merge([ENTRIES, {"a": Entry("x.c", every_s=1.0)}])


def test_an_entry_needs_exactly_one_time() -> None:
    for wrong in ({}, {"every_s": 1.0, "crontab": "* * * * *"}):
        with pytest.raises(ValueError, match="either"):
            Entry("x", **wrong)  # type: ignore[arg-type]


def test_an_override_changes_the_time_or_switches_off() -> None:
    changed = override(ENTRIES, {"a": Schedule(crontab="5 * * * *"), "b": Schedule(enabled=False)})
    assert changed == {"a": Entry("x.a", crontab="5 * * * *")}


def test_an_override_of_nothing_is_refused_with_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"schedules.hartbeat: no entry 'hartbeat'; did you mean 'heartbeat'"):
        schedule(settings(schedules={"hartbeat": {"every_s": 2}}))


def test_the_heartbeat_follows_its_setting() -> None:
    assert schedule(settings(heartbeat={"every_s": 0.5}))["heartbeat"].every_s == 0.5
