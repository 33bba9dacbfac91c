"""The signing key in AWS KMS: the emulator's, which signs as Amazon's does."""

from __future__ import annotations

import time

import pytest

from connectors.aws.signer import KmsSigner
from tests.fixtures.fix_proxy import Proxy
from tests.fixtures.fix_s3 import KmsKey, new_kms_key
from tests.fixtures.s3_servers import Emulator
from tests.unit.ledger.ledgers import OLD, verifier
from worker_sync.core.errors import ConfigError, Transient
from worker_sync.ledger.note import Verifier, open_note, sign

NAME = "ledger.example/shop"


@pytest.mark.parametrize("by", ["alias", "arn"])
def test_a_key_in_kms_signs_notes_and_never_leaves(by: str, kms_key: KmsKey) -> None:
    signer = KmsSigner(getattr(kms_key, by), NAME, kms_key.access())
    trusted = Verifier.parse(signer.verifier_key)
    assert (trusted.name, trusted.public_key, trusted.key_id) == (NAME, signer.public_key, signer.key_id)
    assert open_note(sign("text\n", [signer, OLD]), [trusted]).verified[0].name == NAME


def test_a_key_whose_public_key_is_given_is_asked_for_nothing_else(kms_key: KmsKey) -> None:
    known = Verifier.parse(KmsSigner(kms_key.alias, NAME, kms_key.access()).verifier_key)
    nowhere = kms_key.access(endpoint="http://127.0.0.1:1")
    assert KmsSigner(kms_key.alias, None, nowhere, known).verifier_key == str(known)
    with pytest.raises(Transient, match=f"the key awskms:///{kms_key.alias}: "):
        KmsSigner(kms_key.alias, None, nowhere, known).sign(b"message")


def test_a_signature_of_another_key_than_the_configured_one_is_refused(kms_key: KmsKey) -> None:
    with pytest.raises(ConfigError, match=r"no signature of .*see ledger\.public_key"):
        KmsSigner(kms_key.alias, None, kms_key.access(), verifier(OLD)).sign(b"message")


def test_a_key_of_another_kind_is_refused_with_the_kind_that_is_needed(emulator: Emulator) -> None:
    with (
        new_kms_key(emulator, "ECC_NIST_P256") as key,
        pytest.raises(
            ConfigError, match="is of the spec ECC_NIST_P256; make one with --key-spec ECC_NIST_EDWARDS25519"
        ),
    ):
        KmsSigner(key.alias, NAME, key.access())


def test_a_key_that_is_not_there_or_disabled_may_come_back(kms_key: KmsKey) -> None:
    with pytest.raises(Transient, match="there is no such key"):
        KmsSigner("alias/none", NAME, kms_key.access())
    signer = KmsSigner(kms_key.alias, NAME, kms_key.access())
    kms_key.owner.disable_key(KeyId=kms_key.arn)
    with pytest.raises(Transient, match="the key is disabled"):
        signer.sign(b"message")
    kms_key.owner.enable_key(KeyId=kms_key.arn)
    assert len(signer.sign(b"message")) == 64


def test_credentials_that_are_not_accepted_are_said_and_not_shown(kms_key: KmsKey) -> None:
    access = kms_key.access(access_key_id="UNKNOWN", secret_access_key="not-the-right-one-0123456789")
    with pytest.raises(Transient, match="the credentials are not accepted") as raised:
        KmsSigner(kms_key.alias, NAME, access)
    assert "not-the-right-one" not in f"{raised.value!r} {raised.value.__cause__} {access}"


@pytest.mark.long
def test_a_service_that_hangs_is_given_up_within_seconds(kms_key: KmsKey) -> None:
    proxy = Proxy(kms_key.server.url)
    try:
        signer = KmsSigner(kms_key.alias, NAME, kms_key.access(endpoint=proxy.url))
        proxy.stall()
        begun = time.monotonic()
        with pytest.raises(Transient, match="the key awskms:///"):
            signer.sign(b"message")
        assert time.monotonic() - begun < 20
        proxy.restore()
        assert len(signer.sign(b"message")) == 64
    finally:
        proxy.close()


def test_what_is_too_long_for_kms_is_said(kms_key: KmsKey) -> None:
    with pytest.raises(ConfigError, match="at most 4096 bytes"):
        KmsSigner(kms_key.alias, NAME, kms_key.access()).sign(bytes(4097))
