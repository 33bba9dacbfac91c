"""Signing keys: where they come from, and the type that never shows them.

A key's text is PKCS #8 in PEM, or the form that signed notes use beside their verifier keys:
``PRIVATE+KEY+name+key id+base64(1, seed)``.
"""

from __future__ import annotations

import os
import stat
from base64 import b64encode
from pathlib import Path
from typing import Final, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from worker_sync.core.errors import ConfigError
from worker_sync.ledger.note import ED25519, Verifier, is_key_name, key_id, strict_base64

#: The private key's file in a state directory.
KEY_FILE: Final = "ledger.key"

_PREFIX: Final = "PRIVATE+KEY+"
_SEED_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
#: What a group may not do with a key of root's that is handed to it.
_MORE_THAN_READ: Final = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO


class Ed25519Signer:
    """Signs with a key in memory. `reveal()` is the only way to see it; it can't be pickled or copied."""

    __slots__ = ("_key", "name", "public_key")

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        if not is_key_name(name):
            raise ConfigError("a signing key's name is not empty and has no spaces and no +")
        self.name = name
        self.public_key = key.public_key().public_bytes_raw()
        self._key = key

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.public_key)

    @property
    def verifier_key(self) -> str:
        return str(Verifier(self.name, self.public_key))

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def reveal(self) -> str:
        """The private key as text, for the place where it is kept."""
        seed = b64encode(ED25519 + self._key.private_bytes_raw()).decode()
        return f"{_PREFIX}{self.name}+{self.key_id.hex()}+{seed}"

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.name}+{self.key_id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not to be pickled or copied")


def generate(name: str) -> Ed25519Signer:
    """A new key. Raises ConfigError for a name that a key can't have."""
    return Ed25519Signer(name, Ed25519PrivateKey.generate())


def signer_from_text(text: str, name: str | None = None) -> Ed25519Signer:
    """Reads either form of a private key; PEM has no name, so it needs `name`. Raises ConfigError."""
    text = text.strip()
    if text.startswith(_PREFIX):
        signer = _from_note_form(text.removeprefix(_PREFIX))
        if name not in (None, signer.name):
            raise ConfigError(f"the signing key is named {signer.name}, not {name}")
        return signer
    if name is None:
        raise ConfigError("a signing key in PEM needs a name")
    return Ed25519Signer(name, _from_pem(text))


def signer_from_environment(variable: str, name: str | None = None) -> Ed25519Signer:
    """Reads a private key from an environment variable. Raises ConfigError."""
    text = os.environ.get(variable)
    if not text:
        raise ConfigError(f"the environment variable {variable} holds no signing key")
    return signer_from_text(text, name)


def signer_from_file(path: Path, name: str | None = None) -> Ed25519Signer:
    """Reads a private key from a file that its owner alone can read, or which root hands to a group of ours. Raises
    ConfigError."""
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if is_open(found.st_mode, found.st_uid, os.geteuid()):
                raise ConfigError(f"the signing key {path} is open to others than its owner; run: chmod 600 {path}")
            text = file.read()
    except OSError as error:
        raise ConfigError(f"the signing key {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no signing key: it is PEM or PRIVATE+KEY+...") from None
    return signer_from_text(text, name)


def is_open(mode: int, owner: int, user: int) -> bool:
    """Whether a key's file is open to more than it may be to `user`. As for PostgreSQL's keys: what is root's may be
    read by a group, so that secrets can be mounted for who is not root; what is one's own by nobody else."""
    return bool(mode & (_MORE_THAN_READ if owner == 0 != user else _OTHERS))


def signer_of(text: str | None, name: str | None, state_dir: Path) -> Ed25519Signer:
    """The key that a configuration means: its text, or else that of KEY_FILE in `state_dir`. Raises ConfigError with
    what to do where there is none."""
    if text is not None:
        return signer_from_text(text, name)
    path = state_dir / KEY_FILE
    if not path.exists():
        raise ConfigError(f"there is no signing key {path}; run: worker-sync audit keys new {path}")
    return signer_from_file(path, name)


def ensure_key(state_dir: Path, name: str) -> bool:
    """Make KEY_FILE in `state_dir` unless it is there; True when it was made now. Raises ConfigError."""
    path = state_dir / KEY_FILE
    if path.exists():
        return False
    state_dir.mkdir(parents=True, exist_ok=True)
    write_key(path, generate(name))
    return True


def write_key(path: Path, signer: Ed25519Signer) -> None:
    """Keep a key in a new file for its owner alone. Raises ConfigError, also where there is a file."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{signer.reveal()}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"the signing key {path} can't be written: {error.strerror}") from None


def _from_note_form(text: str) -> Ed25519Signer:
    name, _, rest = text.partition("+")
    identifier, _, encoded = rest.partition("+")
    material = strict_base64(encoded)
    if not is_key_name(name) or material is None or material[:1] != ED25519 or len(material) != 1 + _SEED_BYTES:
        raise ConfigError("not a signing key: it is PRIVATE+KEY+NAME+KEY ID+BASE64 for Ed25519")
    signer = Ed25519Signer(name, Ed25519PrivateKey.from_private_bytes(material[1:]))
    if signer.key_id.hex() != identifier:
        raise ConfigError(f"the signing key of {name} is damaged: it has another id")
    return signer


def _from_pem(text: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("not a signing key: it is an unencrypted Ed25519 key in PEM, or PRIVATE+KEY+...") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("the signing key is not for Ed25519")
    return key
