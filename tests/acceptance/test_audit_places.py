"""Anchors on S3 and keys that are elsewhere, as people configure them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.ledger.reader import LedgerReader
from tests.fixtures.fix_s3 import Bucket, KmsKey, new_bucket
from tests.fixtures.program import Ended, simple_config, worker_sync, write_config
from tests.fixtures.s3_servers import Emulator
from tests.integration.ledger_tampering import Trail
from tests.integration.test_ledger_places import signed_anew
from tests.unit.ledger.ledgers import OLD, ORIGIN
from worker_sync.ledger.keys import write_key

pytestmark = pytest.mark.slow


def run(directory: Path, *arguments: str, **ledger: Any) -> Ended:
    """Run a command with this section `ledger`."""
    document = simple_config("postgresql://h/a", "postgresql://h/b", control=(directory / "url").read_text())
    document |= {"state_dir": "state", "ledger": {"origin": ORIGIN, **ledger}}
    return worker_sync(*arguments, config=write_config(directory / "worker-sync.yaml", document))


@pytest.fixture
def workplace(source_db: str, tmp_path: Path) -> Path:
    """A directory with a ledger of 100 changes."""
    (tmp_path / "url").write_text(source_db)
    Trail(source_db, tmp_path).record(100)
    return tmp_path


def test_a_bucket_is_written_and_verified_against(workplace: Path, bucket: Bucket) -> None:
    section: dict[str, Any] = {"anchors": [bucket.place], "s3": bucket.section(), "key": OLD.reveal()}
    done = run(workplace, "audit", "checkpoint", **section)
    assert (done.code, "Notes written into anchors: 1" in done.out) == (0, True), done
    signed_anew(Trail((workplace / "url").read_text(), workplace))
    done = run(workplace, "audit", "verify", **section)
    assert (done.code, "forked" in done.out) == (14, True), done


def test_wrong_credentials_leave_the_checkpoint_standing_and_check_finds_a_bucket_without_locks(
    workplace: Path, bucket: Bucket, emulator: Emulator
) -> None:
    secret = "not-the-right-one-0123456789"
    wrong = bucket.section(access_key_id="UNKNOWN", secret_access_key=secret)
    done = run(workplace, "audit", "checkpoint", anchors=[bucket.place], s3=wrong, key=OLD.reveal())
    assert (done.code, "the credentials are not accepted" in done.err, "signed" in done.err) == (3, True, False), done
    assert secret not in done.err
    with new_bucket(emulator, locks=False) as plain:
        section: dict[str, Any] = {"anchors": [plain.place], "s3": plain.section(), "key": OLD.reveal()}
        found = run(workplace, "check", "--json", **section).json["checks"]
    (anchor,) = [one for one in found if one["check"] == "anchor"]
    assert (anchor["result"], anchor["role"]) == ("failed", "anchor")
    assert "put-bucket-versioning" in anchor["fix"]
    with LedgerReader((workplace / "url").read_text()) as reader:
        assert len(list(reader.notes())) == 1


def test_a_key_in_kms_is_checked_shown_and_takes_over(workplace: Path, kms_key: KmsKey) -> None:
    section = kms_key.section() | {"key_name": ORIGIN}
    write_key(workplace / "old.key", OLD)
    Trail((workplace / "url").read_text(), workplace).sign(OLD, anchored=False)
    shown = run(workplace, "audit", "keys", **section).out.strip()
    assert shown.startswith(f"{ORIGIN}+")
    found = run(workplace, "check", "--json", **section).json["checks"]
    assert [one["result"] for one in found if one["check"] == "ledger-key"] == ["ok"]
    done = run(workplace, "audit", "checkpoint", "--also", str(workplace / "old.key"), **section)
    assert (done.code, f"for the first time; give it to your auditor: {shown}" in done.out) == (0, True), done
    assert not (workplace / "state" / "ledger.key").exists()
