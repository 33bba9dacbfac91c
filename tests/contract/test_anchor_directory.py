"""Directories as anchors."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.ledger.anchors import Anchor
from connectors.ledger.directories import DirectoryAnchor
from tests.contract.anchor_contract import AnchorContract, Place
from tests.unit.ledger.ledgers import ORIGIN


class Directory(Place):
    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def open(self) -> Anchor:
        return DirectoryAnchor(self.path)

    def away(self) -> None:
        self.path.rename(self.path.with_name("away"))

    def back(self) -> None:
        self.path.with_name("away").rename(self.path)

    def add(self, key: str, data: bytes) -> None:
        (self.path / key).parent.mkdir(parents=True, exist_ok=True)
        (self.path / key).write_bytes(data)


class TestDirectory(AnchorContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Directory:
        return Directory(tmp_path / "anchor")


def test_a_directory_that_is_not_there_is_found_by_the_check_and_not_made(tmp_path: Path) -> None:
    (finding,) = DirectoryAnchor(tmp_path / "share").findings(ORIGIN)
    assert (finding.ok, "is no directory" in finding.detail, "mkdir" in finding.fix) == (False, True, True)
    assert not (tmp_path / "share").exists()
