"""Every accident that is tried stands beside the promise that it tries to break."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator

from tests.fixtures.program import ROOT

PROMISES = tomllib.loads((ROOT / "tests/promises.toml").read_text(encoding="utf-8"))
#: About the suite itself.
ITS_OWN = {"test_the_sequence_of_faults_is_decided_by_the_seed", "test_a_long_run_kills_and_disturbs_everything"}


def accidents() -> Iterator[str]:
    """The tests of the fault suite."""
    for path in (ROOT / "tests/faults").glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name


def named() -> set[str]:
    return {name for rows in PROMISES.values() for row in rows for name in row["tests"]}


def test_the_five_promises_are_there() -> None:
    assert list(PROMISES) == ["lost", "duplicated", "reordered", "silent", "looped"]
    assert all(row.keys() == {"what", "tests"} for rows in PROMISES.values() for row in rows)


def test_every_accident_is_named_by_a_promise() -> None:
    assert set(accidents()) - named() - ITS_OWN == set()
