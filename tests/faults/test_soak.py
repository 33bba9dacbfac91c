"""Half a minute of what `make soak` does for hours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.soak import lines, soak

SECONDS = 25


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_grows_under_constant_traffic(tmp_path: Path) -> None:
    findings = soak(tmp_path, "redis", SECONDS, lambda _: None)
    table = "\n".join(lines(findings))
    sys.stderr.write(f"{table}\n")
    assert {finding.name.split()[0] for finding in findings} == {
        "memory", "open", "connections", "rows", "queue", "retained",
    }  # fmt: skip
    assert [finding.name for finding in findings if finding.grew] == [], table
