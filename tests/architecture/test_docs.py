"""The documentation says what the code says, and its links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.pages import LANGUAGES, blocks, pages, prints, steps
from tests.fixtures.program import ROOT, environment
from worker_sync.cli.app import COMMANDS
from worker_sync.core.errors import State

RECOVER = ROOT / "docs/how-to/recover.md"
PRODUCTION = ROOT / "docs/how-to/run-in-production.md"
PACKAGES = ("worker_sync", "tasks", "connectors")

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TEST_NAME = re.compile(r"`(test_\w+)`")
_FILE_NAME = re.compile(r"`([\w/-]+/[\w./-]*\.(?:py|sql|md|toml))`")


def by_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def plain(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(plain(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_current() -> None:
    command = [sys.executable, "scripts/reference_pages.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", pages(), ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(plain(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=by_name)
def test_fenced_blocks_are_of_a_kind_that_is_run_or_plainly_only_shown(page: Path) -> None:
    strange = [f"{block} {block.language or 'without a language'}" for block in blocks(page)]
    assert [block for block in strange if block.split()[-1] not in LANGUAGES] == []


def test_every_state_has_its_recovery() -> None:
    text = RECOVER.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## ([a-z-]+)$\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == {str(state) for state in State}
    parts = ("**What happened.**", "**What is safe.**", "**Recovery.**", "worker-sync re")
    assert [(name, part) for name, section in sections.items() for part in parts if part not in section] == []


def test_named_tests_exist() -> None:
    there = {
        node.name
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    named = {(by_name(page), name) for page in pages() for name in _TEST_NAME.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 30
    assert {entry for entry in named if entry[1] not in there} == set()


def test_named_files_exist() -> None:
    named = {(by_name(page), name) for page in pages() for name in _FILE_NAME.findall(page.read_text(encoding="utf-8"))}
    assert named
    assert {entry for entry in named if not (ROOT / entry[1]).exists()} == set()


def test_every_action_of_the_log_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_-]+)`", PRODUCTION.read_text(encoding="utf-8").partition("| action |")[2]))
    said = set(actions())
    assert {"halted", "capture_started", "retry"} <= said
    assert said - explained == set()


def actions() -> Iterator[str]:
    """The words in `event("word", ...)` and `extra={"action": "word"}`."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "event":
                    yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))
                elif isinstance(node, ast.Dict):
                    pairs = zip(node.keys, node.values, strict=True)
                    yield from (
                        str(value.value)
                        for key, value in pairs
                        if isinstance(key, ast.Constant) and key.value == "action" and isinstance(value, ast.Constant)
                    )


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if not re.search(rf"`[^`]*\b{name}\b", readme)] == []


def test_make_targets_in_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        step.command.split()[1]
        for page in pages()
        for block in blocks(page)
        if block.language == "console"
        for step in steps(block)
        if step.command.startswith("make ")
    }
    assert named
    assert named - targets == set()


def test_shown_output_is_compared_line_by_line_with_numbers_left_open() -> None:
    printed = "shop  running  00000000023F18B7\nrows 1,234 lost 0\n"
    assert prints(["shop running 000000000000AAAA", "...", "rows 7 lost 0"], printed) is None
    assert prints(["rows ... 0"], printed) is None
    assert prints(["rows 7 won 0"], printed) == "rows 7 won 0"
    assert prints(["rows 7 lost 0", "shop running ..."], printed) == "shop running ..."
