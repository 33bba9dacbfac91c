"""A leaf hash that the exporter did not find is missing, and what is there is still looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.ledger.independent import agreed
from tests.unit.ledger.ledgers import SIZE, Ledger, Lines, entry, places, relined
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.export import HOLE


def torn(export: Path, numbers: Sequence[int], *, lines: bool) -> None:
    """Take leaf hashes out of an export, with their entries or without."""
    data = bytearray((export / "leaves.bin").read_bytes())
    for number in numbers:
        data[32 * number : 32 * (number + 1)] = HOLE
    (export / "leaves.bin").write_bytes(data)
    if not lines:
        relined(export, lambda there: [line for number, line in enumerate(there) if number not in numbers])


@pytest.mark.parametrize("lines", [False, True], ids=["without its entry", "with its entry"])
@pytest.mark.parametrize("numbers", [[0], [5], [11, 12], [SIZE - 1], [0, 9, SIZE - 1]], ids=str)
def test_a_lost_leaf_hash_is_missing(numbers: list[int], lines: bool, export: Path) -> None:
    torn(export, numbers, lines=lines)
    report = agreed(export)
    assert report.exit_code == 11
    assert {n for _, first, last in places(report) for n in range(first or 0, (last or 0) + 1)} == set(numbers)
    assert report.intact == SIZE - len(numbers)


def test_what_stands_behind_a_lost_leaf_hash_is_compared_with_its_own(export: Path, ledger: Ledger) -> None:
    torn(export, [9], lines=False)
    changed = canonical(entry(15, actor="emma")) + b"\n"

    def change(there: Lines) -> Lines:
        return [changed if line == ledger.entries[15] + b"\n" else line for line in there]

    relined(export, change)
    report = agreed(export)
    assert places(report) == [("missing", 9, 9), ("altered", 15, 15)]


def test_a_checkpoint_before_a_lost_leaf_hash_is_still_held_against_the_tree(export: Path) -> None:
    torn(export, [9], lines=False)
    assert [signed.size for signed in agreed(export).checkpoints] == [7]
