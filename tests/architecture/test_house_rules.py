"""What the repository promises about itself."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("worker_sync", "tasks", "connectors", "beat_schedule")

DRIVERS = {
    "psycopg": (
        "connectors/postgres/",
        "connectors/ledger/",
        "worker_sync/libpq/",
        "worker_sync/store/",
        "worker_sync/demo/source.py",
    ),  # the demo's application
    "psycopg_pool": ("connectors/postgres/", "worker_sync/store/"),
    "pymysql": ("connectors/mysql/",),
    "pymysqlreplication": ("connectors/mysql/",),
    "pymongo": ("connectors/mongodb/",),
    "bson": ("connectors/mongodb/",),
    "confluent_kafka": ("connectors/kafka/",),
    "botocore": ("connectors/aws/",),
}
"""Where each driver may be imported; the layers in pyproject.toml say the rest."""

NOT_IN_THE_REPOSITORY = {
    "a machine's path": re.compile(r"(?<![\w./~-])/(?:home/[a-z]|Users/[A-Za-z]|root/|work/)"),
    "a package index": re.compile(r"https?://[^\s\"']*(?:/simple\b|/packages/)|--(?:extra-)?index-url[ =]+http"),
}


def tracked() -> list[Path]:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_layers_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_driver_is_imported_in_its_engines_folder_only() -> None:
    strays = [
        f"{name} imports {module}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for module in imports(path)
        for name in [path.relative_to(ROOT).as_posix()]
        if (folders := DRIVERS.get(module.partition(".")[0])) and not name.startswith(folders)
    ]
    assert strays == []


@pytest.mark.parametrize("what", NOT_IN_THE_REPOSITORY)
def test_the_repository_does_not_name(what: str) -> None:
    pattern = NOT_IN_THE_REPOSITORY[what]
    found = []
    for path in tracked():
        if path == Path(__file__):
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(lines, 1) if pattern.search(line)]
    assert found == []


def test_every_direct_dependency_is_locked_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
    wanted += [line for extra in ("aws", "tracing", "dev") for line in project["optional-dependencies"][extra]]
    blocks = re.findall(
        r"^([a-z0-9][a-z0-9.-]*)==\S+.*?((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)", locked(), re.M
    )
    names = {name for name, _ in blocks}

    missing = [line for line in wanted if canonical(re.split(r"[\[<>=!~ ;]", line)[0]) not in names]

    assert missing == []
    assert len(blocks) == len(re.findall(r"^[a-z0-9][a-z0-9.-]*==", locked(), re.M))


def locked() -> str:
    return (ROOT / "requirements.lock").read_text()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())  # type: ignore[index]

    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert {line.split()[0] for line in shown.splitlines() if line.startswith("  ")} == targets
