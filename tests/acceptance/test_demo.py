"""The demo from its first server to its last comparison."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.program import start, worker_sync
from tests.fixtures.servers import server_directory, unavailable
from worker_sync.demo.data import DataMissing, DataSet
from worker_sync.demo.run import SINGLE_CHANGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def data_set() -> None:
    try:
        DataSet.installed()
    except DataMissing as error:
        unavailable("data set", error)


def working_below(directory: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                here = (entry / "cwd").readlink()
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if here.is_relative_to(directory) or str(directory) in environment:
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


@pytest.fixture
def directory() -> Iterator[Path]:
    with server_directory("demo") as path:
        yield path


def test_a_small_demo_verifies_both_targets(directory: Path) -> None:
    done = worker_sync("demo", "--rows", "3000", "--json", "--state-dir", str(directory))

    assert done.code == 0, done.err
    result = done.json
    assert result["ok"] is True
    assert result["traffic"]["changes"] == 6000
    assert result["snapshot"]["rows"] == 30_911
    names = [target["pipeline"] for target in result["targets"]]
    assert names[:2] == ["flights-to-postgres", "flights-to-mongodb"]
    assert names[2:] in ([], ["flights-to-mariadb"])
    for target in result["targets"]:
        tables = {table["table"]: table for table in target["verified"]["tables"]}
        assert len(tables) == 5
        assert tables["public.flights"]["source_rows"] == tables["public.flights"]["target_rows"] > 2800
        assert all(table["ok"] for table in tables.values())
        assert target["lag_ms"]["quiet"]["p50"] > 0
        assert target["lag_ms"]["loaded"]["p99"] >= target["lag_ms"]["loaded"]["p50"] > 0
    # Those that were replayed, and the single ones behind them; the rows that were copied are no changes.
    assert result["ledger"]["changes"] == 6000 + SINGLE_CHANGES
    assert result["ledger"]["ok"] is True
    assert result["ledger"]["found"] == {}
    assert working_below(directory) == []


def test_ctrl_c_in_the_middle_leaves_nothing_behind(directory: Path) -> None:
    log = directory / "said.log"
    process = start(["demo", "--rate", "200", "--state-dir", str(directory)], log)
    eventually(lambda: "Replaying" in log.read_text(), seconds=100)

    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert "Traceback" not in log.read_text(), log.read_text()
    assert working_below(directory) == []
