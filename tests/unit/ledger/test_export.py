"""The files of an export: written once, and every damage to one of them is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.ledger.independent import agreed
from tests.unit.ledger.ledgers import SIZE, Ledger, entry, places, verified
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.export import Damaged, Manifest, read_proofs
from worker_sync.ledger.findings import Kind
from worker_sync.ledger.merkle import leaf_hash


def files(export: Path) -> Iterator[Path]:
    yield from sorted(path for path in export.rglob("*") if path.is_file())


def test_a_missing_file_is_missing(part: Path) -> None:
    for path in files(part):
        kept = path.read_bytes()
        path.unlink()
        report = agreed(part, expect=(9, 20))
        if path.parent == part:
            assert report.exit_code == 11, path
            assert Kind.MISSING in report.counts
        elif path.name.startswith("00000000000000000023"):
            # Of a checkpoint nothing says that it was there; what it covered alone is not signed any more.
            assert places(report) == [("unsigned", 12, 19)]
        path.write_bytes(kept)
    assert verified(part, expect=(9, 20)).ok


def test_a_flipped_bit_of_any_file_is_found(part: Path) -> None:
    for path in files(part):
        good = path.read_bytes()
        # Some 200 places of each file, another bit at each.
        for at in range(0, len(good), 1 + len(good) // 200):
            bit = at * 5 % 8
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            report = verified(part, expect=(9, 20))
            assert not report.ok, (path, at, bit)
            assert set(report.counts) & EXPECTED[path.name if path.parent == part else "checkpoint"], (path, at, report)
        path.write_bytes(good)


EXPECTED = {
    "manifest.json": {Kind.ALTERED, Kind.MISSING, Kind.INSERTED},
    "entries.jsonl": {Kind.ALTERED},
    "leaves.bin": {Kind.ALTERED},
    "left.bin": {Kind.ALTERED},
    "proofs.json": {Kind.ALTERED, Kind.FORKED, Kind.MISSING},
    "keys": {Kind.ALTERED},
    "checkpoint": {Kind.UNSIGNED},
}


def test_both_find_flipped_bits(part: Path) -> None:
    for path in files(part):
        good = path.read_bytes()
        for at in (0, len(good) // 2, len(good) - 1):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            assert agreed(part, expect=(9, 20)).exit_code != 0
        path.write_bytes(good)


def test_leaf_hashes_beyond_the_range_are_inserted(export: Path) -> None:
    extra = canonical(entry(SIZE))
    for name, data in (("leaves.bin", leaf_hash(extra)), ("entries.jsonl", extra + b"\n")):
        with (export / name).open("ab") as file:
            file.write(data)
        assert set(agreed(export).counts) == {Kind.INSERTED}


def test_what_is_no_directory_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no export"):
        verified(tmp_path / "export")


def test_an_export_is_not_written_over_another(export: Path, ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="name a new directory"):
        ledger.export(export, [])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"end":"1","first":"2","format":"worker-sync-ledger-export/1","origin":"a"}',
        b'{"end":"1","first":"0","format":"worker-sync-ledger-export/2","origin":"a"}',
        b'{"end":"1","first":"0","format":"worker-sync-ledger-export/1"}',
        b'{"end":"01","first":"0","format":"worker-sync-ledger-export/1","origin":"a"}',
        b'{"end":"1", "first":"0","format":"worker-sync-ledger-export/1","origin":"a"}',
        b'{"end":"1","first":"0","format":"worker-sync-ledger-export/1","more":"a","origin":"a"}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        Manifest.from_bytes(data)


def test_entries_that_are_gone_are_exported_as_missing(tmp_path: Path, ledger: Ledger) -> None:
    """The exporter writes the leaf hashes that the ledger has, whatever became of the entries."""
    ledger.entries[5] = canonical(entry(5, actor="emma"))
    ledger.export(tmp_path / "export", [ledger.note()])
    assert places(agreed(tmp_path / "export")) == [("altered", 5, 5)]


ZERO = "A" * 43 + "="


def test_proofs_are_hashes_by_size() -> None:
    assert read_proofs(f'{{"12":["{ZERO}"],"7":[]}}'.encode()) == {12: [bytes(32)], 7: []}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"7":["AA=="]}',
        '{"07":[]}',
        '{"7": []}',
        '{"7":[],"12":[]}',
        f'{{"7":["{ZERO[:-2]}B="]}}',
        '{"7":[1]}',
    ],
)
def test_damaged_proofs_are_refused(text: str) -> None:
    with pytest.raises(Damaged):
        read_proofs(text.encode())
