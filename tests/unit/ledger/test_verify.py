"""What was done to the entries of an export is found and named, by us and by an independent program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.ledger.independent import agreed
from tests.unit.ledger.ledgers import OLD, SIZE, Ledger, Lines, entry, grown, places, relined, verified, verifier
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.entries import PROGRESS_EVERY
from worker_sync.ledger.findings import Kind
from worker_sync.ledger.verify import Trust, verify


def test_a_whole_ledger_verifies(export: Path) -> None:
    report = agreed(export)
    assert (report.ok, report.exit_code, report.findings, report.intact) == (True, 0, [], SIZE)
    assert [(signed.size, signed.time) for signed in report.checkpoints] == [
        (7, "2026-01-31T12:00:00.000000Z"),
        (SIZE, "2026-01-31T12:00:00.000000Z"),
    ]
    assert json.loads(report.to_json())["exit_code"] == 0


def test_a_part_of_a_ledger_verifies_as_that_part(part: Path) -> None:
    report = agreed(part, expect=(9, 20))
    assert (report.exit_code, report.intact) == (0, 11)
    assert [signed.size for signed in report.checkpoints] == [7, 12, SIZE]


def test_a_part_of_a_ledger_is_not_the_whole(part: Path) -> None:
    assert places(agreed(part)) == [("missing", 0, 8), ("missing", 20, SIZE - 1)]
    assert places(agreed(part, expect=(8, 21))) == [("missing", 8, 8), ("missing", 20, 20)]


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_ledgers_of_any_size_verify(tmp_path: Path, size: int) -> None:
    ledger, notes = grown(size)
    ledger.export(tmp_path / "export", notes)
    assert agreed(tmp_path / "export").exit_code == 0


@pytest.mark.parametrize("number", [0, 11, SIZE - 1])
@pytest.mark.parametrize("field", [*entry(0), "new"])
def test_any_changed_field_is_altered(export: Path, ledger: Ledger, number: int, field: str) -> None:
    fields = json.loads(ledger.entries[number])
    changed = canonical(fields | {field: "1234"})
    relined(export, lambda lines: [*lines[:number], changed + b"\n", *lines[number + 1 :]])
    assert places(verified(export)) == [("altered", number, number)]


def test_both_name_an_altered_entry(export: Path) -> None:
    relined(export, lambda lines: [*lines[:5], lines[5].replace(b"anna", b"emma"), *lines[6:]])
    assert agreed(export).exit_code == 10


@pytest.mark.parametrize("number", [0, 11, SIZE - 1])
def test_a_deleted_entry_is_missing(export: Path, number: int) -> None:
    relined(export, lambda lines: [*lines[:number], *lines[number + 1 :]])
    report = agreed(export)
    assert (places(report), report.exit_code) == ([("missing", number, number)], 11)
    assert report.intact == SIZE - 1


def test_a_truncated_tail_is_missing(export: Path) -> None:
    relined(export, lambda lines: lines[:20])
    assert places(agreed(export)) == [("missing", 20, SIZE - 1)]
    leaves = export / "leaves.bin"
    leaves.write_bytes(leaves.read_bytes()[: 32 * 20])
    assert places(agreed(export)) == [("missing", 20, SIZE - 1)]


@pytest.mark.parametrize("at", [0, 11, SIZE])
@pytest.mark.parametrize("number", [0, 11, SIZE, 99])
def test_an_invented_entry_is_inserted(export: Path, at: int, number: int) -> None:
    invented = canonical(entry(number, actor="nobody"))
    relined(export, lambda lines: [*lines[:at], invented + b"\n", *lines[at:]])
    report = agreed(export)
    assert ([kind for kind, _, _ in places(report)], report.exit_code, report.intact) == (["inserted"], 12, SIZE)


@pytest.mark.parametrize("at", [0, 12, 17, SIZE])
def test_a_replayed_entry_is_inserted(export: Path, at: int) -> None:
    relined(export, lambda lines: [*lines[:at], lines[11], *lines[at:]])
    report = agreed(export)
    assert report.intact == SIZE
    # The copy that comes first is taken for the entry; what it jumped over then comes behind it.
    assert Kind.INSERTED in report.counts
    assert set(report.counts) <= {Kind.INSERTED, Kind.MOVED}


@pytest.mark.parametrize(("one", "other"), [(0, 1), (11, 12), (4, 17), (0, SIZE - 1)])
def test_swapped_entries_are_moved(export: Path, one: int, other: int) -> None:
    def swap(lines: Lines) -> Lines:
        lines[one], lines[other] = lines[other], lines[one]
        return lines

    relined(export, swap)
    report = agreed(export)
    assert ({kind for kind, _, _ in places(report)}, report.exit_code) == ({"moved"}, 13)
    assert report.intact == SIZE


def test_swapped_contents_under_the_old_numbers_are_altered(export: Path) -> None:
    one, other = canonical(entry(5) | {"number": "6"}), canonical(entry(6) | {"number": "5"})
    relined(export, lambda lines: [*lines[:5], other + b"\n", one + b"\n", *lines[7:]])
    assert places(agreed(export)) == [("altered", 5, 6)]


def test_a_gap_of_the_capture_is_reported_and_no_failure(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.append(entry(0), entry(1, kind="gap"), entry(2))
    ledger.export(tmp_path / "export", [ledger.note()])
    report = agreed(tmp_path / "export")
    assert (places(report), report.exit_code, report.ok) == ([("gap", 1, 1)], 0, True)


def test_a_signed_tree_whose_numbers_skip_one_is_moved(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.append(entry(0), entry(1), entry(3))
    ledger.export(tmp_path / "export", [ledger.note()])
    assert places(agreed(tmp_path / "export")) == [("moved", 2, 2)]


def test_progress_is_told_for_leaves_and_entries(export: Path) -> None:
    told: list[tuple[str, int, int]] = []
    verify(export, Trust([verifier(OLD)]), progress=lambda *step: told.append(step))
    assert told[-1] == ("entries", SIZE, SIZE)
    assert ("leaves", SIZE, SIZE) in told
    assert PROGRESS_EVERY > SIZE


def test_an_entry_of_any_kind_is_an_entry(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.append({"number": "0"}, entry(1, kind=None), entry(2, kind=["gap"]))
    ledger.export(tmp_path / "export", [ledger.note()])
    assert agreed(tmp_path / "export").exit_code == 0


def test_an_entry_without_a_number_is_moved(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.append({"kind": "change"})
    ledger.export(tmp_path / "export", [ledger.note()])
    assert places(agreed(tmp_path / "export")) == [("moved", 0, 0)]


@pytest.mark.parametrize("field", [b'"kind":"\xe3', b'"number":"\xe3'])
def test_a_line_that_is_no_text_is_altered(export: Path, field: bytes) -> None:
    head = field[:-1]
    relined(export, lambda lines: [*lines[:5], lines[5].replace(head, field), *lines[6:]])
    assert places(agreed(export)) == [("altered", 5, 5)]
