"""The signing key in AWS KMS: it signs there, and never leaves."""

from __future__ import annotations

from typing import Any, Final

from connectors.aws.client import client, translated
from worker_sync.core.errors import ConfigError
from worker_sync.core.ledger_section import AwsAccess
from worker_sync.ledger.note import Verifier
from worker_sync.ledger.remote import RemoteSigner, verifier_from_der

#: The kind of key, and how it signs: Ed25519 of the message itself, not of its hash.
KEY_SPEC: Final = "ECC_NIST_EDWARDS25519"
ALGORITHM: Final = "ED25519_SHA_512"
#: What KMS takes to sign. A checkpoint has some hundred bytes; an evidence pack's manifest is signed by its hashes.
_MOST_BYTES: Final = 4096


class KmsSigner(RemoteSigner):
    """A key of the spec ECC_NIST_EDWARDS25519, by its id, ARN or alias."""

    def __init__(self, key: str, name: str | None, access: AwsAccess, verifier: Verifier | None = None) -> None:
        """Asks for the public key unless it is given. Raises ConfigError for a key of another kind, Transient."""
        self._key, self._access = key, access
        super().__init__(verifier or self._ask(name or ""))

    def _ask(self, name: str) -> Verifier:
        found = self._call("get_public_key", KeyId=self._key)
        if found.get("KeySpec") != KEY_SPEC:
            raise ConfigError(f"{self} is of the spec {found.get('KeySpec')}; make one with --key-spec {KEY_SPEC}")
        return verifier_from_der(found["PublicKey"], name, str(self))

    def _sign(self, message: bytes) -> bytes:
        if len(message) > _MOST_BYTES:
            raise ConfigError(f"{self} signs at most {_MOST_BYTES} bytes, and this has {len(message)}")
        made = self._call("sign", KeyId=self._key, Message=message, MessageType="RAW", SigningAlgorithm=ALGORITHM)
        return bytes(made["Signature"])

    def _call(self, operation: str, **arguments: Any) -> Any:
        connection = client("kms", self._access)
        try:
            with translated(str(self)):
                return getattr(connection, operation)(**arguments)
        finally:
            connection.close()

    def __str__(self) -> str:
        return f"the key awskms:///{self._key}"
