"""Signed notes (c2sp.org/signed-note) with Ed25519: text, an empty line, and one line for each signature."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

#: A note with more signatures is refused; the format asks for at least 16.
MAX_SIGNATURES: Final = 100
ED25519: Final = b"\1"
#: What a key is asked to sign to see that it can. It is no note's text, which ends with a newline.
PROBE: Final = b"worker-sync: this is no checkpoint"

_KEY_ID_BYTES: Final = 4
_PUBLIC_KEY_BYTES: Final = 32
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_LINE: Final = re.compile(r"— (\S+) ([A-Za-z0-9+/]+=*)")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")


class NoteError(ValueError):
    """A note, or a key of one, that can't be accepted."""


class MalformedNote(NoteError):
    """It doesn't have the format."""


class BadSignature(NoteError):
    """A signature of a known key is wrong: the text was altered, or never signed."""


class Untrusted(NoteError):
    """No signature is of a known key."""


class Signer(Protocol):
    """Who signs notes: a key in memory, or one that a key management service keeps."""

    @property
    def name(self) -> str: ...

    @property
    def public_key(self) -> bytes:
        """The public Ed25519 key, 32 bytes."""

    @property
    def key_id(self) -> bytes:
        """Four bytes; see `key_id`."""

    @property
    def verifier_key(self) -> str:
        """The public key as others are given it; see `Verifier`."""

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature over `message`, 64 bytes. Raises Transient where the key is elsewhere and away."""


@dataclass(frozen=True, slots=True)
class Signature:
    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"— {self.name} {b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public Ed25519 key with its name."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, verifier_key: str) -> Verifier:
        """From ``name+key id+base64``. Raises NoteError for all else, also where the id isn't the key's."""
        name, _, rest = verifier_key.partition("+")
        identifier, _, encoded = rest.partition("+")
        material = strict_base64(encoded)
        if not is_key_name(name) or not _KEY_ID.fullmatch(identifier) or material is None:
            raise NoteError("not a verifier key: it is NAME+KEY ID+BASE64")
        if material[:1] != ED25519 or len(material) != 1 + _PUBLIC_KEY_BYTES:
            raise NoteError(f"the verifier key of {name} is not for Ed25519")
        verifier = cls(name, material[1:])
        if verifier.key_id.hex() != identifier:
            raise NoteError(f"the verifier key of {name} is damaged: it has another id")
        return verifier

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.public_key)

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(ED25519 + self.public_key).decode()}"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Note:
    """A note's text, and its signatures: verified ones of known keys, and the others, which say nothing."""

    text: str
    verified: tuple[Signature, ...] = ()
    unverified: tuple[Signature, ...] = ()


def key_id(name: str, public_key: bytes) -> bytes:
    """What names an Ed25519 key beside its name: the first 4 bytes of SHA-256(name, newline, 1, public key)."""
    return sha256(name.encode() + b"\n" + ED25519 + public_key).digest()[:_KEY_ID_BYTES]


def is_key_name(name: str) -> bool:
    """Whether a key may have this name: not empty, without spaces, control characters and plus signs."""
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name) and _is_unicode(name)


def sign(text: str, signers: Iterable[Signer]) -> str:
    """The note of `text`, which ends in a newline, signed by each. Raises NoteError."""
    if not _is_unicode(text):
        raise MalformedNote("a note has no lone surrogates")
    message = text.encode()
    made = [Signature(signer.name, signer.key_id, signer.sign(message)) for signer in signers]
    note = f"{text}\n{''.join(map(str, made))}"
    if split(note) != (text, tuple(made)):
        raise MalformedNote("this text, or the name of one of its keys, can't stand in a note")
    return note


def open_note(note: str, verifiers: Iterable[Verifier]) -> Note:
    """`note` with the signatures of `verifiers` verified; others are ignored, also under a known name or id.

    Raises MalformedNote, BadSignature for a wrong signature of a known key, Untrusted where no signature is of one.
    """
    text, signatures = split(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified: dict[tuple[str, bytes], Signature] = {}
    unverified: dict[Signature, None] = {}
    for signature in signatures:
        identity = (signature.name, signature.key_id)
        if (verifier := known.get(identity)) is None:
            unverified[signature] = None
        elif not verifier.verifies(text.encode(), signature.signature):
            raise BadSignature(f"the signature of {signature.name}+{signature.key_id.hex()} is wrong")
        else:
            verified[identity] = signature
    if not verified:
        raise Untrusted("no signature is of a trusted key")
    return Note(text, tuple(verified.values()), tuple(unverified))


def split(note: str) -> tuple[str, tuple[Signature, ...]]:
    """The text and the signatures of a note, nothing verified. Raises MalformedNote."""
    if _CONTROL.search(note) or not _is_unicode(note):
        raise MalformedNote("a note has no control characters but newlines")
    text, separator, block = note.rpartition("\n\n")
    if not separator or not text or not block.endswith("\n"):
        raise MalformedNote("a note is text, an empty line and signatures")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedNote(f"a note has at most {MAX_SIGNATURES} signatures")
    return f"{text}\n", tuple(_signature(line) for line in lines)


def _signature(line: str) -> Signature:
    match = _LINE.fullmatch(line)
    data = strict_base64(match[2]) if match else None
    if match is None or data is None or len(data) <= _KEY_ID_BYTES or not is_key_name(match[1]):
        raise MalformedNote("a line below the text of a note is no signature")
    return Signature(match[1], data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def strict_base64(text: str) -> bytes | None:
    """What `text` stands for; None unless it is the one encoding of it."""
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None
    return data if b64encode(data).decode() == text else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def trusted(verifier_keys: Sequence[str]) -> list[Verifier]:
    """The keys that a caller trusts. Raises NoteError for one that is none."""
    return [Verifier.parse(key.strip()) for key in verifier_keys]
