"""The section `ledger`: what it refuses, with the way out, and what it hides."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from connectors.ledger.places import opened_anchors
from tasks.ledger import make_signing_key, signing_key
from tests.unit.ledger.ledgers import OLD
from worker_sync.core.errors import ConfigError
from worker_sync.core.ledger_section import Ledger
from worker_sync.core.settings import Settings, parse
from worker_sync.core.settings_file import SettingsError

RETENTION = {"retention_days": 3650}


def ledger(**section: Any) -> Ledger:
    return settings(Path("/config"), **section).ledger


def settings(folder: Path, **section: Any) -> Settings:
    document = {
        "control": "postgresql://h/control",
        "databases": {"shop": {"url": "memory://shop"}},
        "audit": {"shop": {"tables": ["*"]}},
        "ledger": section,
    }
    return parse(document, where="test", folder=folder)


def problems(**section: Any) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        ledger(**section)
    return [str(problem) for problem in raised.value.problems]


def test_anchors_are_directories_below_the_file_and_buckets_as_they_are() -> None:
    found = ledger(anchors=["second", "/third", "s3://bucket/a/b"], s3=RETENTION)
    assert found.anchors == ("/config/second", "/third", "s3://bucket/a/b")
    assert found.s3 is not None
    assert (found.s3.mode, found.s3.retention_days) == ("compliance", 3650)


@pytest.mark.parametrize("place", ["s3://", "s3://B", "s3://bucket?x=1", "s3://user:pass@bucket/x", "s3://bucket/a#b"])
def test_what_is_no_bucket_is_refused(place: str) -> None:
    assert problems(anchors=[place], s3=RETENTION) == [
        "ledger.anchors[0]: not a bucket; write s3://bucket or s3://bucket/prefix"
    ]


@pytest.mark.parametrize("place", ["gs://bucket", "https://example.org/x", ""])
def test_another_kind_of_anchor_is_refused(place: str) -> None:
    assert "no such anchor; write a directory, s3://bucket" in problems(anchors=[place])[0]


def test_a_bucket_needs_to_be_told_how_long_it_locks() -> None:
    assert problems(anchors=["s3://bucket"]) == [
        "ledger: anchors on S3 need s3: how long they stay locked, as in s3: {retention_days: 3650}"
    ]
    assert problems(anchors=["s3://bucket"], s3={}) == ["ledger.s3.retention_days: is missing; add it"]
    assert "retention_days" in problems(anchors=["s3://bucket"], s3={"retention_days": 0})[0]


@pytest.mark.parametrize("service", ["s3", "kms"])
def test_an_endpoint_has_no_credentials_and_a_key_has_two_parts(service: str) -> None:
    base = RETENTION if service == "s3" else {}
    for endpoint in ("https://user:secret@host", "ftp://host", "host:9000"):
        (problem,) = problems(**{service: base | {"endpoint": endpoint}})
        assert "not an endpoint; write https://host:port" in problem
        assert "secret" not in problem
    (problem,) = problems(**{service: base | {"access_key_id": "A"}})
    assert "access_key_id and secret_access_key go together" in problem


def test_a_key_is_in_one_place_and_elsewhere_it_has_a_name() -> None:
    assert "exclude each other" in problems(key=OLD.reveal(), key_command=["sign"], public_key=OLD.verifier_key)[0]
    assert "key_command needs public_key" in problems(key_command=["sign"])[0]
    assert "needs key_name" in problems(key="awskms:///alias/ledger")[0]
    assert "remove it" in problems(key=OLD.reveal(), public_key=OLD.verifier_key)[0]
    assert "remove it" in problems(public_key=OLD.verifier_key)[0]
    for text in ("awskms://host/alias/ledger", "gcpkms://projects/x", "awskms:///", "not-a-key-and-secret"):
        (problem,) = problems(key=text)
        assert "no private key (PRIVATE+KEY+... or PEM" in problem
        assert "secret" not in problem
    assert "a key in PEM needs key_name" in problems(key="-----BEGIN PRIVATE KEY-----\n")[0]


def test_a_key_that_is_elsewhere_is_told_from_one_that_is_here() -> None:
    arn = "arn:aws:kms:eu-central-1:123456789012:key/0d990263-018e-4e65-a703-eff731de951e"
    assert ledger(key=f"awskms:///{arn}", key_name="shop").kms_key == arn
    found = ledger(key="awskms:///alias/ledger", public_key=OLD.verifier_key)
    assert (found.kms_key, found.has_local_key) == ("alias/ledger", False)
    found = ledger(key_command=["sign", "--slot", "1"], public_key=OLD.verifier_key)
    assert (found.kms_key, found.has_local_key) == (None, False)
    assert ledger(key=OLD.reveal()).has_local_key
    assert ledger().has_local_key


def test_secret_keys_are_among_what_logs_hide_and_names_of_keys_are_not() -> None:
    access = {"access_key_id": "A", "secret_access_key": "one secret"}
    found = ledger(
        key="awskms:///alias/ledger",
        key_name="shop",
        kms=access,
        s3=access | RETENTION | {"secret_access_key": "another secret"},
    )
    assert found.secrets() == {"one secret", "another secret"}
    assert "secret'" not in f"{found}"
    assert "one secret" not in f"{found} {found!r}"
    assert ledger(key=OLD.reveal()).secrets() == {OLD.reveal()}


@pytest.mark.parametrize(
    "section",
    [
        {"key": OLD.reveal()},
        {"key": "awskms:///alias/ledger", "key_name": "shop"},
        {"key_command": ["sign"], "public_key": OLD.verifier_key},
    ],
)
def test_no_key_is_made_where_there_is_one_elsewhere(section: dict[str, Any], tmp_path: Path) -> None:
    assert make_signing_key(settings(tmp_path, **section)) is False
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_made_once_where_none_is_configured(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert [make_signing_key(found), make_signing_key(found)] == [True, False]
    assert signing_key(found).name == found.ledger.origin


def test_without_the_library_the_way_to_install_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.config", None)
    found = settings(tmp_path, anchors=["s3://bucket"], s3=RETENTION, key="awskms:///alias/a", key_name="shop")
    with pytest.raises(ConfigError, match=r"run: pip install 'worker-sync\[aws\]'"), opened_anchors(found.ledger):
        raise AssertionError("an anchor without its library")
    with pytest.raises(ConfigError, match=r"run: pip install 'worker-sync\[aws\]'"):
        signing_key(found)
