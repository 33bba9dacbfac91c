"""What anchors on S3 must do beside the contract: versions hide nothing, locks hold, errors show no secret."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from connectors.aws import anchor as s3
from connectors.ledger import anchors
from connectors.ledger.anchors import LedgerForked
from tests.contract.anchor_contract import GIVEN_UP_S, notes_at
from tests.fixtures.fix_proxy import Proxy
from tests.fixtures.fix_s3 import Bucket, new_bucket
from tests.fixtures.s3_servers import HttpServer
from tests.unit.ledger.ledgers import ORIGIN
from worker_sync.core.errors import Transient

(NOTE,) = notes_at(20)
(OTHER,) = notes_at(20, actor="emma")
SECRET = "not-the-right-one-0123456789"
NAME = anchors.name_of(NOTE)
KEY = f"some/prefix/{anchors.folder_of(ORIGIN)}/{NAME}"


class S3Contract:
    def test_a_deleted_checkpoint_is_still_there(self, bucket: Bucket) -> None:
        anchor = bucket.anchor()
        anchors.write(anchor, ORIGIN, NOTE)
        bucket.owner.delete_object(Bucket=bucket.name, Key=KEY)
        assert (anchor.names(ORIGIN), anchor.notes(ORIGIN)) == ([NAME], [NOTE])
        assert anchors.missing(anchor, ORIGIN, 20, [NOTE]) == []
        with pytest.raises(LedgerForked):
            anchors.write(anchor, ORIGIN, OTHER)
        anchors.write(anchor, ORIGIN, NOTE)
        assert len(bucket.versions()) == 1

    def test_a_newer_version_hides_nothing_and_contradicts(self, bucket: Bucket) -> None:
        anchor = bucket.anchor()
        anchors.write(anchor, ORIGIN, NOTE)
        bucket.owner.put_object(Bucket=bucket.name, Key=KEY, Body=OTHER.encode())
        assert anchor.read(ORIGIN, NAME) == [NOTE, OTHER]
        assert sorted(anchor.notes(ORIGIN)) == sorted([NOTE, OTHER])
        assert [note for _, note in anchors.newest(anchor, ORIGIN, 20)] == [NOTE, OTHER]
        for note in (NOTE, OTHER):
            with pytest.raises(LedgerForked):
                anchors.write(anchor, ORIGIN, note)

    def test_a_lock_holds_against_its_owner(self, bucket: Bucket) -> None:
        before = datetime.now(UTC)
        anchors.write(bucket.anchor(retention_days=7), ORIGIN, NOTE)
        (version,) = bucket.versions()
        found = bucket.owner.head_object(Bucket=bucket.name, Key=KEY, VersionId=version["VersionId"])
        assert found["ObjectLockMode"] == "COMPLIANCE"
        until = found["ObjectLockRetainUntilDate"] - timedelta(days=7)
        assert before - timedelta(seconds=1) <= until <= datetime.now(UTC)
        for bypass in ({}, {"BypassGovernanceRetention": True}):
            with pytest.raises(ClientError):
                bucket.owner.delete_object(Bucket=bucket.name, Key=KEY, VersionId=version["VersionId"], **bypass)
        shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=1)}
        about = {"Bucket": bucket.name, "Key": KEY, "VersionId": version["VersionId"]}
        with pytest.raises(ClientError):
            bucket.owner.put_object_retention(**about, Retention=shorter)
        assert bucket.anchor().notes(ORIGIN) == [NOTE]

    def test_governance_is_a_lock_too(self, bucket: Bucket) -> None:
        anchors.write(bucket.anchor(mode="governance"), ORIGIN, NOTE)
        (version,) = bucket.versions()
        with pytest.raises(ClientError):
            bucket.owner.delete_object(Bucket=bucket.name, Key=KEY, VersionId=version["VersionId"])

    def test_many_checkpoints_are_listed_and_read_in_parts(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3, "_PAGE", 2)
        monkeypatch.setattr(s3, "_AHEAD", 2)
        anchor, made = bucket.anchor(), notes_at(1, 2, 3, 4, 5)
        for note in made:
            anchors.write(anchor, ORIGIN, note)
        names = [anchors.name_of(note) for note in made]
        for _ in range(3):
            bucket.owner.put_object(Bucket=bucket.name, Key=KEY.replace(NAME, names[1]), Body=b"more")
        assert (anchor.names(ORIGIN), anchor.names(ORIGIN, 4)) == (names, names[3:])
        assert anchor.read(ORIGIN, names[1]) == [made[1], "more", "more", "more"]
        assert sorted(anchor.notes(ORIGIN)) == sorted([*made, "more", "more", "more"])

    def test_nothing_is_written_to_a_bucket_that_does_not_lock(self, server: HttpServer) -> None:
        with new_bucket(server, locks=False) as plain:
            anchor = plain.anchor()
            (finding,) = anchor.findings(ORIGIN)
            assert (finding.ok, "no versions and no object lock" in finding.detail) == (False, True)
            assert "put-bucket-versioning" in finding.fix
            with pytest.raises(Transient, match=r"no object lock.*put-object-lock-configuration"):
                anchors.write(anchor, ORIGIN, NOTE)
            assert plain.owner.list_objects_v2(Bucket=plain.name).get("KeyCount", 0) == 0

    def test_what_did_not_arrive_is_not_taken_for_written(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # As when S3 answers that another one is just writing the same name, and that one fails.
        monkeypatch.setattr(s3.S3Anchor, "_add", lambda *_: None)
        with pytest.raises(Transient, match="was not written"):
            anchors.write(bucket.anchor(), ORIGIN, NOTE)

    def test_a_bucket_that_is_not_there_is_named(self, bucket: Bucket) -> None:
        anchor = s3.S3Anchor("s3://no-such-bucket-here", bucket.settings())
        with pytest.raises(Transient, match=r"s3://no-such-bucket-here: .*there is no such bucket"):
            anchor.names(ORIGIN)
        (finding,) = anchor.findings(ORIGIN)
        assert (finding.ok, "no such bucket" in finding.detail) == (False, True)
        assert finding.fix == "aws s3api create-bucket --bucket no-such-bucket-here --object-lock-enabled-for-bucket"

    def test_credentials_that_are_not_accepted_are_said_and_not_shown(self, bucket: Bucket) -> None:
        refused(bucket, access_key_id="UNKNOWN", secret_access_key=SECRET)

    @pytest.mark.long
    def test_an_endpoint_that_hangs_is_given_up_within_seconds(self, bucket: Bucket) -> None:
        hangs(bucket, "stall")


def refused(bucket: Bucket, **wrong: str) -> None:
    """Credentials that are not accepted are a failure that may pass, and are said without being shown."""
    anchor = bucket.anchor(**wrong)
    with pytest.raises(Transient, match="the credentials are not accepted") as raised:
        anchors.write(anchor, ORIGIN, NOTE)
    assert raised.value.exit_code == 3
    assert raised.value.__cause__ is None
    assert SECRET not in f"{raised.value} {raised.value!r} {bucket.settings(**wrong)}"


def hangs(bucket: Bucket, fault: str) -> None:
    """An endpoint of which nothing comes any more, on a connection that was good."""
    proxy = Proxy(bucket.server.url)
    try:
        anchor = bucket.anchor(endpoint=proxy.url)
        anchors.write(anchor, ORIGIN, NOTE)
        getattr(proxy, fault)()
        begun = time.monotonic()
        with pytest.raises(Transient, match=bucket.place):
            anchor.names(ORIGIN)
        took = time.monotonic() - begun
        proxy.restore()
        assert anchor.notes(ORIGIN) == [NOTE]
    finally:
        proxy.close()
    assert took < GIVEN_UP_S
