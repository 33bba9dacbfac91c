"""An export of a ledger of 23 entries, whole and in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.ledger.ledgers import SIZE, Ledger, grown


@pytest.fixture
def ledger() -> Ledger:
    return grown(SIZE)[0]


@pytest.fixture
def export(tmp_path: Path, ledger: Ledger) -> Path:
    """The whole of a ledger with checkpoints at 7 and at its end."""
    ledger.export(tmp_path / "export", [grown(7)[1][0], ledger.note()])
    return tmp_path / "export"


@pytest.fixture
def part(tmp_path: Path, ledger: Ledger) -> Path:
    """The entries 9 to 19; checkpoints stand left of them, among them and right of them."""
    notes = [grown(size)[1][0] for size in (7, 12, SIZE)]
    ledger.export(tmp_path / "part", notes, first=9, end=20)
    return tmp_path / "part"
