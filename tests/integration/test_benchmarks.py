"""The benchmarks run, and find at the target what they sent. How fast says nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.load import percentile
from tests.fixtures.servers import unavailable
from worker_sync.embedded import MissingWheel


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_quick_run_finds_at_the_target_what_it_sent(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    try:
        code = main(["--quick", "--only", "throughput,idle,decode,verify", "--json", str(file)])
    except MissingWheel as error:
        unavailable("PostgreSQL and Redis from wheels", error)

    assert code == 0
    figures = json.loads(file.read_text())["figures"]
    assert {figure["benchmark"] for figure in figures} == {"throughput", "idle", "decode", "verify"}
    assert all(figure["arrived"] == figure["sent"] > 0 for figure in figures)
    assert all(figure["ours"] > 0 for figure in figures)
    compared = [figure for figure in figures if figure["benchmark"] in {"throughput", "idle"}]
    assert all(figure["ratio"] > 0 for figure in compared)


def test_an_unknown_benchmark_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["--only", "throughput,warp"])

    assert ending.value.code == 2
    assert "no benchmark warp" in capsys.readouterr().err


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert percentile([1.0], 0.0) == 1.0
