"""Personal values in entries: sealed with a key of the subject, whose key is wrapped with one of the ledger's master.

Who destroys a subject's wrapped key makes all of its values unreadable, and no byte of an entry changes. A sealed value
is AES-256-GCM under the subject's key with a random nonce, so that equal values differ, and its place as associated
data, so that a value that was put elsewhere does not open. Its length is told in steps of PADDING bytes.

docs/reference/ledger-format.md has the exact bytes.
"""

from __future__ import annotations

import hmac
import os
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, Self, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from worker_sync.ledger.canonical import Json

#: Bytes to a multiple of which a value is filled up with spaces, which JSON skips: short values are all of one length.
PADDING: Final = 32
_KEY: Final = 32
_NONCE: Final = 12

ENCRYPTED: Final = "encrypted"
SUBJECT: Final = "subject"
GENERATION: Final = "generation"
KEYED: Final = "keyed"

#: Which of a change's two rows a value is of.
Side: TypeAlias = Literal["before", "after"]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Unopenable(Exception):
    """What is sealed was altered, stands in another place than it was sealed for, or was sealed with another key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value stands: the id of its change, the source's name of the table, and the column of one side."""

    change: str
    table: str
    column: str
    side: Side

    @property
    def bytes(self) -> bytes:
        return _encode([self.change, self.table, self.column, self.side])


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose key a value is sealed with: `id` stays, and after each forgetting another `generation`, from 1, begins."""

    id: str
    generation: int

    @property
    def bytes(self) -> bytes:
        return _encode([self.id, str(self.generation)])


@dataclass(frozen=True)
class SubjectKey:
    """The opened key of a subject. Its text shows nothing of it."""

    subject: Subject
    cipher: AESGCM

    def __repr__(self) -> str:
        return f"SubjectKey({self.subject})"

    def seal(self, value: Json, place: Place) -> dict[str, str]:
        """A value of an entry as it stands there, sealed."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self.cipher.encrypt(nonce, _padded(_encode(value)), place.bytes)
        return {
            ENCRYPTED: b64encode(sealed).decode(),
            GENERATION: str(self.subject.generation),
            SUBJECT: self.subject.id,
        }

    def open(self, sealed: dict[str, str], place: Place) -> Json:
        """The value that `seal` was given. Raises Unopenable."""
        try:
            data = b64decode(sealed[ENCRYPTED], validate=True)
            return _decode(self.cipher.decrypt(data[:_NONCE], data[_NONCE:], place.bytes))
        except (InvalidTag, NotBase64, ValueError) as error:
            raise Unopenable(f"the value of {place.column}") from error


class MasterKey:
    """The ledger's own secret, random: what wraps and what indexes is derived from it, so that both stay when
    configured keys come and go. Its text shows nothing of it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "MasterKey()"

    @classmethod
    def generate(cls) -> Self:
        """A new random one."""
        return cls(os.urandom(_KEY))

    def reveal(self) -> bytes:
        """The secret itself, to be wrapped and for nothing else."""
        return self._secret

    def subject_id(self, source: str, namespace: str, value: Json) -> str:
        """What stands for the subject that a value of an entry names: equal for equal values, and it says nothing of
        them to who lacks the key."""
        return self._indexed("subject", source, namespace, value)

    def keyed(self, source: str, table: str, value: Json) -> dict[str, str]:
        """What stands in the key of a row for a personal value, so that the row's history can be found."""
        return {KEYED: self._indexed("key", source, table, value)}

    def make(self, subject: Subject) -> bytes:
        """A new random key, wrapped."""
        nonce = os.urandom(_NONCE)
        return nonce + self._wrapping.encrypt(nonce, os.urandom(_KEY), subject.bytes)

    def unwrap(self, subject: Subject, wrapped: bytes) -> SubjectKey:
        """Raises Unopenable for a key that was altered, or wrapped with another master or for another subject."""
        try:
            key = self._wrapping.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], subject.bytes)
        except (InvalidTag, ValueError) as error:
            raise Unopenable(f"the key of the subject {subject.id}") from error
        return SubjectKey(subject, AESGCM(key))

    @cached_property
    def _wrapping(self) -> AESGCM:
        return AESGCM(derived(self._secret, b"worker-sync ledger subject keys"))

    @cached_property
    def _index(self) -> bytes:
        return derived(self._secret, b"worker-sync ledger subject index")

    def _indexed(self, purpose: str, source: str, scope: str, value: Json) -> str:
        return hmac.digest(self._index, _encode([purpose, source, scope, value]), "sha256").hex()


def derived(secret: bytes, info: bytes) -> bytes:
    """A key of 32 bytes for one purpose, which says nothing of the secret nor of those for other purposes."""
    return HKDF(SHA256(), _KEY, None, info).derive(secret)


def is_sealed(value: Json) -> bool:
    """Whether a value of an entry's row is sealed."""
    return isinstance(value, dict) and value.keys() == {ENCRYPTED, GENERATION, SUBJECT}


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // PADDING) * PADDING)
