"""What was signed, here or in a second place, is held against the leaves of an export."""

from __future__ import annotations

from pathlib import Path

from tests.unit.ledger.independent import agreed
from tests.unit.ledger.ledgers import (
    AT,
    NEW,
    OLD,
    ORIGIN,
    SIZE,
    STRANGER,
    Ledger,
    anchor_of,
    entry,
    grown,
    places,
    relined,
    verified,
    verifier,
)
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.checkpoint import checkpoint, sign_checkpoint
from worker_sync.ledger.findings import Kind
from worker_sync.ledger.merkle import leaf_hash
from worker_sync.ledger.verify import Trust, verify


def rewritten(export: Path, number: int, **fields: str) -> None:
    """An entry changed together with its leaf hash, as by someone who knows the format."""
    changed = canonical(entry(number, **fields))
    relined(export, lambda lines: [*lines[:number], changed + b"\n", *lines[number + 1 :]])
    leaves = (export / "leaves.bin").read_bytes()
    (export / "leaves.bin").write_bytes(leaves[: 32 * number] + leaf_hash(changed) + leaves[32 * (number + 1) :])


def test_an_entry_changed_with_its_leaf_hash_is_altered(export: Path) -> None:
    rewritten(export, 11, actor="emma")
    report = agreed(export)
    assert (places(report), report.exit_code) == ([("altered", 7, SIZE - 1)], 10)
    assert [signed.size for signed in report.checkpoints] == [7]


def test_a_tail_that_nothing_in_the_export_remembers_is_missing_against_an_anchor(
    tmp_path: Path, ledger: Ledger
) -> None:
    shorter, notes = grown(20)
    shorter.export(tmp_path / "export", notes)
    assert agreed(tmp_path / "export").exit_code == 0
    report = agreed(tmp_path / "export", anchors=[ledger.note()])
    assert report.exit_code == 11
    assert places(report)[-1] == ("missing", 20, SIZE - 1)


def test_an_anchor_does_not_make_a_fork_of_what_was_altered(export: Path) -> None:
    rewritten(export, 11, actor="emma")
    assert set(agreed(export, anchors=[anchor_of(16), anchor_of(SIZE)]).counts) == {Kind.ALTERED}


def test_an_empty_tree_has_one_root(part: Path) -> None:
    note = sign_checkpoint(checkpoint(ORIGIN, 0, bytes(32)), [OLD])
    (part / "checkpoints" / "empty.note").write_text(note, encoding="utf-8")
    (part / "proofs.json").write_bytes((part / "proofs.json").read_bytes().replace(b"{", b'{"0":[],'))
    assert set(agreed(part, expect=(9, 20)).counts) == {Kind.FORKED}


def test_leaf_hashes_beside_a_part_are_altered(part: Path) -> None:
    left = (part / "left.bin").read_bytes()
    (part / "left.bin").write_bytes(bytes(32) + left[32:])
    assert set(agreed(part, expect=(9, 20)).counts) == {Kind.ALTERED}


def test_everything_rewritten_and_signed_with_a_new_key_is_unsigned(tmp_path: Path, ledger: Ledger) -> None:
    forged, notes = grown(SIZE, signers=[STRANGER], actor="emma")
    forged.export(tmp_path / "export", notes)
    report = agreed(tmp_path / "export")
    assert (set(report.counts), report.exit_code) == ({Kind.UNSIGNED}, 15)
    assert agreed(tmp_path / "export", anchors=[ledger.note()]).exit_code == 14


def test_everything_rewritten_with_the_stolen_key_is_forked_by_the_anchor_alone(tmp_path: Path) -> None:
    forged, notes = grown(7, SIZE, signers=[OLD], actor="emma")
    forged.export(tmp_path / "export", notes)
    assert agreed(tmp_path / "export").exit_code == 0
    for size in (SIZE - 3, SIZE):
        report = agreed(tmp_path / "export", anchors=[anchor_of(size)])
        assert (set(report.counts), report.exit_code) == ({Kind.FORKED}, 14)


def test_an_anchor_of_the_same_ledger_changes_nothing(export: Path) -> None:
    report = agreed(export, anchors=[anchor_of(size) for size in (1, 7, 16, SIZE)])
    assert report.exit_code == 0
    assert [signed.where for signed in report.checkpoints][2:] == [f"anchor {index}" for index in (1, 2, 3, 4)]


def test_an_anchor_of_a_part_needs_a_proof(tmp_path: Path, ledger: Ledger) -> None:
    for name, sizes, code in (("with", [3, 21], 0), ("without", [], 11)):
        ledger.export(tmp_path / name, [ledger.note()], first=9, end=20, prove=sizes)
        report = agreed(tmp_path / name, anchors=[anchor_of(3), anchor_of(21)], expect=(9, 20))
        assert report.exit_code == code


def test_an_anchor_of_a_part_that_was_rewritten_is_forked(tmp_path: Path) -> None:
    forged, notes = grown(SIZE, actor="emma")
    forged.export(tmp_path / "export", notes, first=15, end=20, prove=[13, 21])
    for size in (13, 21):
        report = agreed(tmp_path / "export", anchors=[anchor_of(size)], expect=(15, 20))
        assert (set(report.counts), report.exit_code) == ({Kind.FORKED}, 14)


def test_an_anchor_by_an_unknown_key_is_unsigned(export: Path, ledger: Ledger) -> None:
    assert agreed(export, anchors=[ledger.note(STRANGER)]).exit_code == 15


def test_an_anchor_that_is_no_note_is_unsigned(export: Path) -> None:
    assert verified(export, anchors=["\udcff"]).exit_code == 15


def test_an_anchor_of_another_log_is_forked(export: Path, ledger: Ledger) -> None:
    assert agreed(export, anchors=[ledger.note(origin="ledger.example/other")]).exit_code == 14


def test_the_log_that_is_asked_for_is_the_one_that_counts(export: Path) -> None:
    report = verify(export, Trust([verifier(OLD)], origin="ledger.example/other"))
    assert report.exit_code == 14


def test_two_signed_trees_of_one_size_are_forked(export: Path) -> None:
    other = sign_checkpoint(checkpoint(ORIGIN, 7, bytes(32), AT), [OLD])
    (export / "checkpoints" / "other.note").write_text(other, encoding="utf-8")
    assert set(agreed(export).counts) == {Kind.FORKED}


def test_two_signed_trees_are_forked_even_where_the_export_is_neither(tmp_path: Path, ledger: Ledger) -> None:
    roots = [bytes([number]) * 32 for number in range(2)]
    ledger.export(tmp_path / "export", [sign_checkpoint(checkpoint(ORIGIN, SIZE, root), [OLD]) for root in roots])
    report = agreed(tmp_path / "export")
    assert (set(report.counts), report.exit_code) == ({Kind.FORKED, Kind.ALTERED}, 14)


def test_an_earlier_signed_tree_that_was_left_behind_is_forked(tmp_path: Path, ledger: Ledger) -> None:
    ledger.export(tmp_path / "export", [grown(16, actor="emma")[1][0], ledger.note()])
    report = agreed(tmp_path / "export")
    assert (set(report.counts), report.exit_code) == ({Kind.FORKED}, 14)


def test_entries_behind_the_newest_checkpoint_are_unsigned(tmp_path: Path, ledger: Ledger) -> None:
    ledger.export(tmp_path / "export", [anchor_of(20)])
    assert places(agreed(tmp_path / "export")) == [("unsigned", 20, SIZE - 1)]


def test_an_export_without_a_checkpoint_is_unsigned(tmp_path: Path, ledger: Ledger) -> None:
    ledger.export(tmp_path / "export", [])
    assert agreed(tmp_path / "export").exit_code == 15


def test_an_empty_export_without_a_checkpoint_is_unsigned(tmp_path: Path) -> None:
    Ledger().export(tmp_path / "export", [])
    assert agreed(tmp_path / "export").exit_code == 15


def test_an_empty_ledger_verifies(tmp_path: Path) -> None:
    Ledger().export(tmp_path / "export", [Ledger().note()])
    assert agreed(tmp_path / "export").exit_code == 0


def test_keys_that_change_over_verify_with_either(tmp_path: Path) -> None:
    ledger, notes = grown(7, signers=[OLD])
    ledger.append(*(entry(number) for number in range(7, 16)))
    notes.append(ledger.note(OLD, NEW))
    ledger.append(*(entry(number) for number in range(16, SIZE)))
    ledger.export(tmp_path / "export", [*notes, ledger.note(NEW)])
    assert agreed(tmp_path / "export", OLD, NEW).exit_code == 0
    # Who knows the new key alone can't read the first checkpoint, but that of the change-over.
    assert [signed.size for signed in agreed(tmp_path / "export", NEW).checkpoints] == [16, SIZE]
