"""An evidence pack: complete, signed as a whole, and whatever is done to it afterwards is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.ledger.evidence import Made, Stated, Wanted, make_pack, span_of, start_below
from connectors.ledger.reader import LedgerReader
from tests.fixtures.fix_postgres import new_database
from tests.integration.ledger_rig import IDENTITY, TRAIL, at, opened
from tests.integration.ledger_tampering import Trail, edited_all, entries, put, superuser
from tests.unit.ledger.independent import agreed
from tests.unit.ledger.ledgers import OLD, ORIGIN, STRANGER, verifier
from worker_sync.core.errors import ConfigError, Unreachable, WorkerSyncError
from worker_sync.ledger.checkpoint import checkpoint, sign_checkpoint
from worker_sync.ledger.evidence import MANIFEST, NOTE, Manifest, Period, files_in, seal
from worker_sync.ledger.evidence_check import Checked, check_pack
from worker_sync.ledger.evidence_readme import PROGRAM
from worker_sync.ledger.note import Signer
from worker_sync.ledger.verify import Trust

pytestmark = pytest.mark.slow

EVER = Period(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
MICROSECOND = timedelta(microseconds=1)
#: begin, 100 changes, key, 50 changes, gap, 50 changes; signed behind the key and at the end.
SIZE = 203
SIGNED = 102
GAP = 152
TOLD = Stated({"shop": {"pipeline": TRAIL}, "quiet": None}, {"entries": {}, "health": None})


@pytest.fixture(scope="module")
def trail(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trail]:
    """A ledger with a gap that nobody alters."""
    with new_database(postgres, "ledger") as url:
        yield recorded(url, tmp_path_factory.mktemp("anchor"))


@pytest.fixture
def own_trail(target_db: str, tmp_path: Path) -> Trail:
    """The same for the test's own attacks."""
    (tmp_path / "anchor").mkdir()
    return recorded(target_db, tmp_path / "anchor")


def recorded(url: str, anchor: Path) -> Trail:
    trail = Trail(url, anchor)
    trail.record(100)
    trail.sign()
    trail.record(50)
    sink = opened(url)
    try:
        sink.forget(TRAIL)
        sink.fence(TRAIL, 0, 1, IDENTITY, at(trail.transactions))
    finally:
        sink.close()
    trail.record(50)
    trail.sign()
    assert trail.size == SIZE
    return trail


@pytest.fixture(scope="module")
def untouched(trail: Trail, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of everything."""
    directory = tmp_path_factory.mktemp("pack") / "pack"
    assert made(trail, directory).exit_code == 0
    return directory


@pytest.fixture
def pack(untouched: Path, tmp_path: Path) -> Path:
    """A copy of it, to be altered."""
    return Path(shutil.copytree(untouched, tmp_path / "pack"))


def made(trail: Trail, directory: Path, period: Period = EVER, *, signer: Signer = OLD) -> Made:
    anchors = [path.read_text(encoding="utf-8") for path in sorted(trail.anchor.rglob("*.note"))]
    wanted = Wanted(ORIGIN, period, Trust([verifier(OLD)], anchors, ORIGIN), [signer])
    with LedgerReader(trail.url) as reader:
        return make_pack(reader, directory, wanted, lambda: TOLD)


def checked(pack: Path, signer: Signer = OLD) -> Checked:
    return check_pack(pack, [verifier(signer)])


def found(result: Checked) -> list[tuple[str, str]]:
    """Kinds of findings with the files that they name."""
    return [(str(finding.kind), finding.detail.partition(":")[0]) for finding in result.findings]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def recorded_at(trail: Trail, number: int) -> datetime:
    with psycopg.connect(trail.url) as connection:
        query = "SELECT recorded_at FROM worker_sync_ledger.entries WHERE number = %s"
        row = connection.execute(query, [number]).fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def span(trail: Trail, since: datetime, until: datetime) -> tuple[int, int]:
    with LedgerReader(trail.url) as reader:
        return span_of(reader, Period(since, until))


# -- what is in it


def test_a_pack_verifies_and_so_does_its_export_by_the_independent_verifier(untouched: Path) -> None:
    result = checked(untouched)
    assert (result.exit_code, result.findings) == (0, [])
    assert result.export is not None
    assert (result.export.intact, result.signers) == (SIZE, [f"{OLD.name}+{OLD.key_id.hex()}"])
    assert agreed(untouched / "export", OLD, expect=(0, SIZE)).exit_code == 0


def test_the_program_in_its_readme_checks_it_with_nothing_of_ours(pack: Path, tmp_path: Path) -> None:
    assert PROGRAM in (pack / "README.md").read_text(encoding="utf-8")
    (tmp_path / "check.py").write_text(PROGRAM, encoding="utf-8")

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tmp_path / "check.py"), OLD.verifier_key]
        return subprocess.run(command, cwd=pack, capture_output=True, text=True, check=False)

    assert (run().returncode, run().stdout) == (0, "Every file is as it was signed.\n")
    (pack / "counts.json").write_text("{}")
    assert "counts.json is not the file that was signed" in run().stderr
    (pack / "counts.json").unlink()
    assert "missing, or added: ['counts.json']" in run().stderr
    (pack / MANIFEST).write_text("{}")
    assert "manifest.json is not the one" in run().stderr


def test_counts_are_those_of_the_entries_and_gaps_are_listed(untouched: Path, trail: Trail) -> None:
    counts = read(untouched / "counts.json")
    shop = counts["sources"]["shop"]
    assert counts["entries"] == {"begin": 1, "change": 200, "gap": 1, "key": 1}
    assert shop["entries"] == {"begin": 1, "change": 200, "gap": 1}
    assert shop["tables"] == {"public.orders": {"insert": 200}}
    assert shop["trail"] == {"pipeline": TRAIL}
    (gap,) = shop["gaps"]
    assert gap["number"] == str(GAP)
    assert gap["recorded_at"] == f"{recorded_at(trail, GAP).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    assert gap["to"] == str(at(3))
    assert "recording began anew" in gap["reason"]
    assert counts["sources"]["quiet"] == {"entries": {}, "tables": {}, "gaps": [], "trail": None}


def test_keys_that_came_and_that_signed_are_listed(untouched: Path) -> None:
    events = read(untouched / "key-events.json")
    assert [(entry["number"], entry["verifier_key"]) for entry in events["entries"]] == [("101", OLD.verifier_key)]
    (signed,) = events["signed"]
    assert (signed["signature"], signed["checkpoints"], signed["sizes"]) == ("valid", 2, [SIGNED, SIZE])


def test_what_verification_found_stands_in_it_with_the_keys_that_were_trusted(untouched: Path) -> None:
    verification = read(untouched / "verification.json")
    assert [verification[where]["exit_code"] for where in ("export", "tables")] == [0, 0]
    assert verification["trusted_keys"] == [OLD.verifier_key]
    assert verification["anchors"] == 2


# -- which entries


def test_a_border_belongs_to_the_period_that_begins_with_it(trail: Trail) -> None:
    border = recorded_at(trail, GAP)
    assert recorded_at(trail, GAP - 1) < border < recorded_at(trail, GAP + 1)
    assert span(trail, border, border + MICROSECOND) == (GAP, GAP + 1)
    assert span(trail, border - MICROSECOND, border) == (GAP, GAP)
    assert span(trail, EVER.since, border) == (0, GAP)
    assert span(trail, border, EVER.until) == (GAP, SIZE)
    assert span(trail, EVER.since, EVER.until) == (0, SIZE)


def test_entries_of_one_moment_stay_together(trail: Trail) -> None:
    moment = recorded_at(trail, 10)
    first, end = span(trail, moment, moment + MICROSECOND)
    assert first <= 10 < end
    assert {recorded_at(trail, number) for number in (first, end - 1)} == {moment}


def test_a_pack_of_a_part_leads_to_the_checkpoints_on_both_sides(trail: Trail, tmp_path: Path) -> None:
    border = recorded_at(trail, GAP)
    part = made(trail, tmp_path / "part", Period(border, border + MICROSECOND))
    assert (part.exit_code, part.manifest.span, part.export.intact) == (0, (GAP, GAP + 1), 1)
    # The tables were read from the checkpoint in front of the period.
    assert (part.tables.first, part.tables.end) == (SIGNED, SIZE)
    assert checked(tmp_path / "part").exit_code == 0
    assert agreed(tmp_path / "part" / "export", OLD, expect=(GAP, GAP + 1)).exit_code == 0


@pytest.mark.parametrize("years", [(1, 2000), (2099, 9999)])
def test_a_period_without_entries_has_a_pack_that_says_so(years: tuple[int, int], trail: Trail, tmp_path: Path) -> None:
    since, until = (datetime(year, 1, 1, tzinfo=UTC) for year in years)
    empty = made(trail, tmp_path / "empty", Period(since, until))
    where = 0 if years[0] == 1 else SIZE
    assert (empty.exit_code, empty.manifest.span) == (0, (where, where))
    assert read(tmp_path / "empty" / "counts.json")["entries"] == {}
    assert checked(tmp_path / "empty").exit_code == 0
    assert agreed(tmp_path / "empty" / "export", OLD, expect=(where, where)).exit_code == 0


def test_verification_of_the_tables_begins_at_a_checkpoint_of_a_trusted_key_and_this_log(trail: Trail) -> None:
    ours, theirs = Trust([verifier(OLD)], (), ORIGIN), Trust([verifier(STRANGER)], (), ORIGIN)
    with LedgerReader(trail.url) as reader:
        below = [start_below(reader, ours, first) for first in (0, SIGNED - 1, SIGNED, SIZE + 1)]
        assert below == [0, 0, SIGNED, SIZE]
        assert start_below(reader, theirs, SIZE) == 0
        assert start_below(reader, Trust(ours.keys, (), "another.example/log"), SIZE) == 0


# -- what is done to it


def sampled(path: Path) -> range:
    size = path.stat().st_size
    return range(0, size, max(1, size // 40))


def test_a_flipped_bit_of_any_file_of_a_pack_is_named(pack: Path) -> None:
    for name in files_in(pack):
        path = pack / name
        whole = path.read_bytes()
        for place in {*sampled(path), len(whole) - 1}:
            if not whole:
                continue
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            result = checked(pack)
            if name == NOTE:
                # In a key's name or id, it names a key that nobody trusts.
                assert result.exit_code in (10, 15), place
            else:
                assert result.exit_code == 10, (name, place)
            assert name in {detail for _, detail in found(result)}, (name, place)
        path.write_bytes(whole)
    assert checked(pack).exit_code == 0


def test_a_file_that_is_gone_is_missing(pack: Path) -> None:
    for name in files_in(pack):
        whole = (pack / name).read_bytes()
        (pack / name).unlink()
        result = checked(pack)
        assert (result.exit_code, found(result)) == (11, [("missing", name)])
        (pack / name).write_bytes(whole)
    assert checked(pack).exit_code == 0
    shutil.rmtree(pack / "export")
    assert checked(pack).exit_code == 11


@pytest.mark.parametrize("name", ["more.json", ".hidden", "export/more", "export/checkpoints/x.note", "new/deep/file"])
def test_a_file_more_is_inserted(name: str, pack: Path) -> None:
    (pack / name).parent.mkdir(parents=True, exist_ok=True)
    (pack / name).write_bytes(b"")
    result = checked(pack)
    assert (result.exit_code, found(result)) == (12, [("inserted", name)])


def test_a_link_is_no_file_of_the_pack_even_to_the_same_bytes(pack: Path, tmp_path: Path) -> None:
    (pack / "counts.json").rename(tmp_path / "counts.json")
    (pack / "counts.json").symlink_to(tmp_path / "counts.json")
    assert (checked(pack).exit_code, found(checked(pack))) == (10, [("altered", "counts.json")])
    (pack / "counts.json").unlink()
    (tmp_path / "counts.json").rename(pack / "counts.json")
    (pack / "elsewhere").symlink_to(tmp_path)
    assert (checked(pack).exit_code, found(checked(pack))) == (12, [("inserted", "elsewhere")])


def test_a_pack_that_somebody_else_signed_anew_is_unsigned(pack: Path) -> None:
    (pack / "counts.json").write_text("{}")
    manifest = Manifest.from_bytes((pack / MANIFEST).read_bytes())
    for name in (MANIFEST, NOTE):
        (pack / name).unlink()
    seal(pack, manifest, [STRANGER])
    assert (checked(pack).exit_code, found(checked(pack))) == (15, [("unsigned", NOTE)])


def test_the_note_of_another_pack_does_not_fit(pack: Path, trail: Trail, tmp_path: Path) -> None:
    border = recorded_at(trail, GAP)
    made(trail, tmp_path / "other", Period(EVER.since, border))
    shutil.copy(tmp_path / "other" / NOTE, pack / NOTE)
    assert (checked(pack).exit_code, found(checked(pack))) == (10, [("altered", MANIFEST)])


def test_a_checkpoint_is_not_the_note_of_a_pack(pack: Path) -> None:
    shutil.copy(next((pack / "export" / "checkpoints").iterdir()), pack / NOTE)
    assert (checked(pack).exit_code, found(checked(pack))) == (10, [("altered", NOTE)])


# -- what was wrong when it was made


def test_an_altered_ledger_has_a_pack_that_says_so(own_trail: Trail, tmp_path: Path) -> None:
    with superuser(own_trail.url) as connection:
        put(connection, 20, entries(connection)[20] | {"actor": "emma"}, leaf=False)
    assert made(own_trail, tmp_path / "pack").exit_code == 10
    verification = read(tmp_path / "pack" / "verification.json")
    assert [verification[where]["counts"]["altered"] for where in ("export", "tables")] == [1, 1]
    result = checked(tmp_path / "pack")
    assert (result.exit_code, result.findings) == (10, [])


def test_a_ledger_that_was_rewritten_and_signed_anew_is_forked_by_an_anchor_alone(
    own_trail: Trail, tmp_path: Path
) -> None:
    anchors = [path.read_text(encoding="utf-8") for path in sorted(own_trail.anchor.rglob("*.note"))]
    with superuser(own_trail.url) as connection:
        tree = edited_all(connection)
        note = sign_checkpoint(checkpoint(ORIGIN, tree.size, tree.root), [OLD])
        connection.execute("DELETE FROM worker_sync_ledger.checkpoints")
        query = "INSERT INTO worker_sync_ledger.checkpoints (size, signed_at, note) VALUES (%s, now(), %s)"
        connection.execute(query, (tree.size, note))
    assert made(own_trail, tmp_path / "pack").exit_code == 14
    assert checked(tmp_path / "pack").exit_code == 0
    assert check_pack(tmp_path / "pack", [verifier(OLD)], anchors).exit_code == 14


def test_entries_that_nobody_signed_yet_are_unsigned_in_a_pack_of_them_alone(own_trail: Trail, tmp_path: Path) -> None:
    own_trail.record(10)
    assert made(own_trail, tmp_path / "all").exit_code == 15
    signed = Period(EVER.since, recorded_at(own_trail, SIZE))
    assert made(own_trail, tmp_path / "signed", signed).exit_code == 0
    assert checked(tmp_path / "all").exit_code == 15
    assert checked(tmp_path / "signed").exit_code == 0


def test_a_ledger_without_a_checkpoint_has_an_unsigned_pack(target_db: str, tmp_path: Path) -> None:
    trail = Trail(target_db, tmp_path)
    trail.record(10)
    assert made(trail, tmp_path / "pack").exit_code == 15
    assert checked(tmp_path / "pack").exit_code == 15


# -- all or nothing


def test_nothing_is_left_where_it_fails(trail: Trail, tmp_path: Path) -> None:
    def fails() -> Stated:
        raise Unreachable("shop")

    wanted = Wanted(ORIGIN, EVER, Trust([verifier(OLD)]), [OLD])
    place = tmp_path / "place"
    with LedgerReader(trail.url) as reader:
        with pytest.raises(Unreachable):
            make_pack(reader, place / "pack", wanted, fails)
        assert list(place.iterdir()) == []

        def takes_the_place() -> Stated:
            (place / "pack").write_text("somebody else's")
            return TOLD

        with pytest.raises(WorkerSyncError, match="can't be written"):
            make_pack(reader, place / "pack", wanted, takes_the_place)
        assert [path.name for path in place.iterdir()] == ["pack"]
        with pytest.raises(ConfigError, match="exists"):
            make_pack(reader, place / "pack", wanted, fails)
        with pytest.raises(ConfigError, match="can't be written"):
            make_pack(reader, place / "pack" / "deep", wanted, fails)


def test_a_pack_is_for_its_owner_alone(untouched: Path) -> None:
    assert untouched.stat().st_mode & 0o077 == 0
