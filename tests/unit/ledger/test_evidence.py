"""The parts of an evidence pack that need no ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.ledger.ledgers import NEW, OLD, ORIGIN, STRANGER, grown, verifier
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.checkpoint import parse
from worker_sync.ledger.evidence import MANIFEST, NOTE, Manifest, Period, read_statement, seal, statement
from worker_sync.ledger.evidence_check import Checked, check_pack
from worker_sync.ledger.evidence_facts import facts_of, signed_by
from worker_sync.ledger.export import Damaged
from worker_sync.ledger.note import MalformedNote, sign

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ABOUT = Manifest(origin=ORIGIN, since="a", until="b", made_at="c", first="0", end="2", files={})


def test_a_period_begins_before_it_ends_whatever_the_zone() -> None:
    Period(NOON, NOON + timedelta(microseconds=1))
    for until in (NOON, NOON - timedelta(days=1), NOON.astimezone(timezone(timedelta(hours=5)))):
        with pytest.raises(ConfigError, match="is not before"):
            Period(NOON, until)


def test_a_time_that_utc_has_no_form_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="no time in UTC"):
        Period(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), NOON)


def test_a_manifest_reads_back_and_nothing_else_does() -> None:
    data = ABOUT.to_bytes()
    assert Manifest.from_bytes(data) == ABOUT
    fields = msgspec.json.decode(data, type=dict[str, object])
    damaged = [
        b"",
        b"\xff",
        data + b"\n",
        data.replace(b"/1", b"/2"),
        canonical(fields | {"first": "3"}),
        canonical(fields | {"first": "01"}),
        canonical(fields | {"more": ""}),
        canonical(fields | {"files": {"x": {"sha256": "", "size": "", "more": ""}}}),
        canonical({name: value for name, value in fields.items() if name != "to"}),
        b"[" * 100_000,
    ]
    for one in damaged:
        with pytest.raises(Damaged):
            Manifest.from_bytes(one)


def test_a_statement_reads_back_and_is_no_checkpoint() -> None:
    text = statement("5", "0" * 64)
    assert read_statement(text) == ("5", "0" * 64)
    assert read_statement(text + "more\n") is None
    with pytest.raises(MalformedNote):
        parse(text)


def test_entries_are_counted_by_what_they_say() -> None:
    lines: list[Any] = [
        {"kind": "change", "source": "shop", "table": "t", "operation": "insert"},
        {"kind": "change", "source": "shop", "table": "t", "operation": "delete"},
        {"kind": "gap", "source": "shop", "number": "2", "from": "a", "to": "b", "reason": "c"},
        {"kind": "scope", "source": "shop", "number": "3", "removed": ["t"], "host": "h"},
        {"kind": "key", "verifier_key": "k"},
        {"kind": "change"},
    ]
    facts = facts_of([*map(canonical, lines), b"{}", b"\xff\n", b"", b"[1]"])
    assert facts.entries == {"change": 3, "gap": 1, "scope": 1, "key": 1}
    assert facts.sources["shop"].tables == {"t": {"insert": 1, "delete": 1}}
    [gap], [scope] = (facts.sources["shop"].document()[name] for name in ("gaps", "scopes"))
    assert (gap["reason"], scope["number"], scope["removed"], scope["added"]) == ("c", "3", ["t"], None)
    assert facts.keys == [{"kind": "key", "verifier_key": "k"}]
    assert facts.unreadable == 4


def test_signatures_under_checkpoints_are_valid_wrong_or_unknown() -> None:
    ledger, notes = grown(5, 9, signers=(OLD, NEW))
    text, _, _ = notes[0].rpartition("\n\n")
    swapped = notes[1].replace(notes[1].rpartition("\n\n")[0], text)
    found = signed_by([*notes, swapped, "no note", ledger.note(STRANGER)], [verifier(OLD)])
    said = {(one["key"].rpartition("+")[2], one["signature"]): one["sizes"] for one in found}
    assert said == {
        (OLD.key_id.hex(), "valid"): [5, 9],
        (OLD.key_id.hex(), "wrong"): [5, 5],
        (NEW.key_id.hex(), "unknown"): [5, 9],
        (STRANGER.key_id.hex(), "unknown"): [9, 9],
    }


def named(result: Checked) -> set[tuple[str, str]]:
    return {(str(finding.kind), finding.detail) for finding in result.findings}


def test_a_directory_that_is_no_pack_lacks_everything(tmp_path: Path) -> None:
    result = check_pack(tmp_path, [verifier(OLD)])
    assert result.exit_code == 11
    assert named(result) == {("missing", f"{name}: the file is not there") for name in (MANIFEST, NOTE)}
    with pytest.raises(ConfigError):
        check_pack(tmp_path / "nowhere", [verifier(OLD)])


def test_a_note_that_names_another_log_is_altered(tmp_path: Path) -> None:
    seal(tmp_path, ABOUT, [OLD])
    digest = sha256((tmp_path / MANIFEST).read_bytes()).hexdigest()
    (tmp_path / NOTE).write_text(sign(statement("another", digest), [OLD]), encoding="utf-8")
    result = check_pack(tmp_path, [verifier(OLD)])
    assert result.exit_code == 10
    assert ("altered", f"{NOTE}: it names another log than {MANIFEST}") in named(result)


def test_a_pack_that_was_signed_without_an_export_lacks_it(tmp_path: Path) -> None:
    seal(tmp_path, ABOUT, [OLD])
    result = check_pack(tmp_path, [verifier(OLD)])
    assert (result.exit_code, result.export) == (11, None)
    assert named(result) == {("missing", "export: the directory is not there")}
