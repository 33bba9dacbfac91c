"""Anchors on S3 and keys that are elsewhere: what is signed holds, and what is away is waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.aws.signer import KmsSigner
from connectors.ledger import registry
from connectors.ledger.anchors import LedgerForked, name_of
from connectors.ledger.checkpoints import AnchorFailed, make_checkpoint
from connectors.ledger.evidence import Stated, Wanted, make_pack
from connectors.ledger.reader import LedgerReader
from tasks import audit
from tasks.base import Disposition, disposition
from tasks.configuration import configure, forget
from tasks.ledger import signing_key
from tasks.resources import close_resources
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_proxy import Proxy
from tests.fixtures.fix_s3 import Bucket, KmsKey
from tests.integration.ledger_tampering import Trail, edited_all, entries, superuser
from tests.integration.test_audit_tasks import health, run
from tests.integration.test_ledger_evidence import EVER
from tests.unit.ledger.ledgers import NEW, OLD, ORIGIN, verifier
from tests.unit.ledger.test_remote import signs_with_old
from worker_sync.core.errors import ConfigError, Transient
from worker_sync.core.settings import Settings, parse
from worker_sync.ledger.check import Trust
from worker_sync.ledger.evidence_check import check_pack
from worker_sync.ledger.findings import Kind
from worker_sync.ledger.remote import ProgramSigner
from worker_sync.store import ControlStore

#: Seconds for what waits for a service that hangs: far more than it takes, far less than for ever.
SOON_S = 60.0


@pytest.fixture
def trail(postgres: str, tmp_path: Path) -> Iterator[Trail]:
    """A ledger of 101 entries that nobody has signed, in a control store whose tasks this process runs."""
    with new_database(postgres, "ledger") as url:
        with ControlStore(url) as store:
            store.migrate()
        found = Trail(url, tmp_path / "anchor")
        found.record(100)
        yield found
        close_resources()
        forget()


def use(trail: Trail, **ledger: Any) -> Settings:
    """Configure this process for the ledger of `trail`."""
    close_resources()
    document = {
        "control": trail.url,
        "broker": "redis://127.0.0.1:1/0",
        "databases": {"shop": {"url": "memory://shop"}},
        "audit": {"shop": {"tables": ["*"]}},
        "ledger": {"origin": ORIGIN, **ledger},
    }
    settings = parse(document, where="test", folder=Path("/"))
    configure(settings)
    return settings


def with_bucket(bucket: Bucket, **more: Any) -> dict[str, Any]:
    return {"anchors": [bucket.place], "s3": bucket.section(), "key": OLD.reveal(), **more}


def notes(trail: Trail) -> list[str]:
    with LedgerReader(trail.url) as reader:
        return [stored.note for stored in reader.notes()]


def waits_for(what: str) -> None:
    """The task that signs fails as one that is tried again, and names what it waits for."""
    with pytest.raises(Transient, match=what) as raised:
        audit.checkpoint.run()
    assert disposition(raised.value) is Disposition.RETRY


def signed_anew(trail: Trail) -> None:
    """Who has the database and the key rewrites history, and signs it as if nothing had been."""
    with superuser(trail.url) as connection:
        edited_all(connection)
        connection.execute("DELETE FROM worker_sync_ledger.checkpoints")
    make_checkpoint(trail.url, ORIGIN, [OLD])


def test_a_ledger_that_was_rewritten_with_its_key_is_found_by_the_bucket_alone(trail: Trail, bucket: Bucket) -> None:
    use(trail, **with_bucket(bucket))
    run(audit.checkpoint)
    (note,) = notes(trail)
    anchor = bucket.anchor()
    assert anchor.notes(ORIGIN) == [note]
    run(audit.verify)
    assert (health(trail).ok, health(trail).detail) == (True, "")

    signed_anew(trail)
    run(audit.verify)
    assert (health(trail).ok, "forked" in health(trail).detail) == (False, True)

    # Also when they have our credentials for the bucket: what they do there takes nothing away.
    key = bucket.versions()[0]["Key"]
    bucket.owner.delete_object(Bucket=bucket.name, Key=key)
    (forged,) = notes(trail)
    assert name_of(forged) == name_of(note)
    bucket.owner.put_object(Bucket=bucket.name, Key=key, Body=forged.encode())
    run(audit.verify)
    assert (health(trail).ok, "forked" in health(trail).detail) == (False, True)
    trail.record(10)
    trail.second_place = anchor
    with pytest.raises(LedgerForked, match=r"s3://.*\.note: its tree of 102 entries is not the beginning"):
        trail.sign()
    anchor.close()


def test_a_bucket_that_hangs_holds_up_neither_recording_nor_checkpoints(trail: Trail, bucket: Bucket) -> None:
    proxy = Proxy(bucket.server.url)
    try:
        trail.second_place = bucket.anchor(endpoint=proxy.url)
        assert trail.sign().anchored == 1
        proxy.stall()
        trail.record(10)
        begun = time.monotonic()
        with pytest.raises(AnchorFailed, match=bucket.place) as failed:
            trail.sign()
        assert time.monotonic() - begun < SOON_S
        assert (failed.value.made.is_new, failed.value.made.checkpoint.size) == (True, 112)
        trail.record(10)
        proxy.restore()
        assert trail.sign().anchored == 2
        assert sorted(trail.second_place.notes(ORIGIN)) == sorted(notes(trail))
    finally:
        proxy.close()


def test_a_key_management_service_that_is_away_stops_signatures_and_nothing_else(trail: Trail, kms_key: KmsKey) -> None:
    proxy = Proxy(kms_key.server.url)
    try:
        section = kms_key.section(endpoint=proxy.url) | {"key_name": ORIGIN}
        use(trail, **section)
        run(audit.checkpoint)
        assert len(notes(trail)) == 1
        proxy.cut()
        trail.record(10)
        waits_for("the key awskms:///")
        assert len(notes(trail)) == 1
        proxy.restore()
        run(audit.checkpoint)
        assert len(notes(trail)) == 2
        run(audit.verify)
        assert (health(trail).ok, health(trail).detail) == (True, "")
    finally:
        proxy.close()


def test_a_key_in_kms_takes_over_from_a_file_by_signing_together(trail: Trail, kms_key: KmsKey) -> None:
    kms = KmsSigner(kms_key.alias, ORIGIN, kms_key.access())
    trail.sign(OLD, anchored=False)
    made = trail.sign(kms, OLD, anchored=False)
    assert (made.is_new, made.keys_added) == (True, (kms.verifier_key,))
    registry.retire(trail.url, OLD.verifier_key)
    assert trail.sign(kms, anchored=False).is_new
    assert trail.verified(OLD, kms).exit_code == 0
    assert set(trail.verified(OLD).counts) == {Kind.UNSIGNED}, "what the old key signed holds as it is"


def test_a_key_that_can_not_sign_is_not_entered_in_the_ledger(trail: Trail, tmp_path: Path) -> None:
    trail.sign(OLD, anchored=False)
    wrong = ProgramSigner(signs_with_old(tmp_path), verifier(NEW))
    with pytest.raises(ConfigError, match="no signature of"):
        trail.sign(wrong, anchored=False)
    with superuser(trail.url) as connection:
        keys = [entry["verifier_key"] for entry in entries(connection) if entry["kind"] == "key"]
    assert (keys, len(notes(trail))) == ([OLD.verifier_key], 1)


def test_a_program_signs_checkpoints_and_evidence(trail: Trail, tmp_path: Path) -> None:
    command = signs_with_old(tmp_path)
    settings = use(trail, key_command=command, public_key=OLD.verifier_key)
    run(audit.checkpoint)
    run(audit.verify)
    assert (health(trail).ok, health(trail).detail) == (True, "")
    wanted = Wanted(ORIGIN, EVER, Trust([verifier(OLD)], [], ORIGIN), [signing_key(settings)])
    with LedgerReader(trail.url) as reader:
        made = make_pack(reader, tmp_path / "pack", wanted, lambda: Stated({}, {}))
    assert made.exit_code == 0
    assert check_pack(tmp_path / "pack", [verifier(OLD)]).exit_code == 0
    Path(command[1]).unlink()
    trail.record(10)
    waits_for("the program")
    assert len(notes(trail)) == 1
