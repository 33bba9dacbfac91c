"""Which pool a worker has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.queues import Pool, changed, pool_for, pool_of
from worker_sync.composition.tree import specs, worker_queues
from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import Settings, parse


def settings(**more: Any) -> Settings:
    data = {
        "databases": {"a": {"url": "memory://a"}, "b": {"url": "memory://b"}},
        "pipelines": {"a-to-b": {"source": "a", "target": "b", "tables": ["*"]}},
        **more,
    }
    return parse(data, where="test", folder=Path("/nowhere"))


def test_a_worker_of_one_queue_has_that_queues_pool() -> None:
    assert pool_for(["sync"], settings()) == Pool("solo", 1)
    assert pool_for(["backup"], settings()) == Pool("prefork", 1, max_memory_mb=1024, max_tasks=1)
    given = settings(workers={"sync": {"pool": "prefork", "concurrency": 4, "max_memory_mb": 512}})
    assert pool_for(["sync"], given) == Pool("prefork", 4, max_memory_mb=512)


def test_a_worker_of_several_queues_has_the_common_pool() -> None:
    given = settings(worker={"pool": "threads", "concurrency": 3}, workers={"sync": {"concurrency": 1}})
    assert pool_for(["sync", "default"], given) == pool_for(None, given) == Pool("threads", 3)


def test_another_pool_than_the_queues_own_leaves_its_limits_behind() -> None:
    assert pool_of("backup", settings(workers={"backup": {"pool": "threads"}})) == Pool("threads", 1)


@pytest.mark.parametrize("wanted", [{"concurrency": 2}, {"max_memory_mb": 512}, {"max_tasks": 5}])
def test_what_a_solo_pool_cannot_do_makes_it_prefork(wanted: dict[str, int]) -> None:
    assert pool_of("sync", settings(workers={"sync": wanted})).pool == "prefork"


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        ({"pool": "solo", "concurrency": 2}, "workers.sync: the solo pool runs one task at a time"),
        ({"pool": "solo", "max_memory_mb": 512}, "workers.sync: max_memory_mb and max_tasks need processes"),
        ({"pool": "threads", "max_tasks": 5}, "use pool: prefork, or leave them out"),
    ],
)
def test_limits_that_a_pool_cannot_keep_are_refused(pool: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings(workers={"sync": pool})


def test_a_worker_may_be_told_another_pool_than_the_configurations() -> None:
    given = settings(workers={"sync": {"pool": "prefork", "concurrency": 4, "max_memory_mb": 512}})
    own = pool_for(["sync"], given)
    assert changed(own) == own
    assert changed(own, concurrency=2) == Pool("prefork", 2, max_memory_mb=512)
    assert changed(own, "threads", 2) == Pool("threads", 2)
    assert changed(own, "solo") == Pool("solo", 1)
    assert changed(pool_for(["default"], given), concurrency=3) == Pool("prefork", 3)
    with pytest.raises(ConfigError, match="one task at a time"):
        changed(own, "solo", 2)


def test_unknown_queues_are_refused() -> None:
    with pytest.raises(ConfigError, match="no queue 'snyc'"):
        pool_for(["snyc"], settings())
    with pytest.raises(ConfigError, match="snyc"):
        settings(workers={"snyc": {}})


def test_up_runs_one_worker_but_for_queues_with_a_pool_of_their_own() -> None:
    assert worker_queues(settings()) == [None]
    # No task is in the queue backup yet.
    given = settings(workers={"sync": {"pool": "prefork"}, "backup": {}})
    assert worker_queues(given) == [("sync",), ("audit", "cleanup", "default", "dead_letter")]
    names = [spec.name for spec in specs(given, Path("x.yaml"))]
    assert [name for name in names if name.startswith("worker")] == ["worker sync", "worker rest"]
