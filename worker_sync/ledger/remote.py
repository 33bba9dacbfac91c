"""Signers whose private key is elsewhere: each signature is verified before anybody gets it."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from worker_sync.core.errors import ConfigError, Transient
from worker_sync.ledger.note import NoteError, Verifier, is_key_name

#: Seconds that a program may take for a signature.
PROGRAM_S: Final = 10.0

_SIGNATURE_BYTES: Final = 64
_PEM: Final = "-----BEGIN PUBLIC KEY-----"


class RemoteSigner(ABC):
    """Signs where the key is, and holds what comes back against the public key."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    @property
    def name(self) -> str:
        return self._verifier.name

    @property
    def public_key(self) -> bytes:
        return self._verifier.public_key

    @property
    def key_id(self) -> bytes:
        return self._verifier.key_id

    @property
    def verifier_key(self) -> str:
        return str(self._verifier)

    def sign(self, message: bytes) -> bytes:
        """See `note.Signer`. Raises Transient where the key can't be had now, ConfigError for a signature of another
        key."""
        signature = self._sign(message)
        if not self._verifier.verifies(message, signature):
            raise ConfigError(f"{self}: what came back is no signature of {self._verifier}; see ledger.public_key")
        return signature

    @abstractmethod
    def _sign(self, message: bytes) -> bytes:
        """A signature by the key. Raises Transient."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    @abstractmethod
    def __str__(self) -> str:
        """What messages call it."""


class ProgramSigner(RemoteSigner):
    """Runs a program for each signature: the message on its standard input, 64 bytes or their base64 on its output."""

    def __init__(self, command: Sequence[str], verifier: Verifier, timeout_s: float = PROGRAM_S) -> None:
        super().__init__(verifier)
        self._command, self._timeout_s = list(command), timeout_s

    def _sign(self, message: bytes) -> bytes:
        code, out = self._run(message)
        if code:
            raise Transient(f"{self} ended with exit code {code}; it is to write a signature of standard input")
        found = _signature(out)
        if found is None:
            raise Transient(f"{self} wrote {len(out)} bytes; a signature is 64, or their base64")
        return found

    def _run(self, message: bytes) -> tuple[int, bytes]:
        """The program's exit code and output. What it says on standard error goes where ours does."""
        try:
            # A session of its own: what it starts ends with it.
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise Transient(f"{self} can't be run: {error.strerror}") from None
        with process:
            try:
                out, _ = process.communicate(message, self._timeout_s)
            except subprocess.TimeoutExpired:
                _end(process)
                raise Transient(f"{self} took more than {self._timeout_s:g} seconds") from None
            except BaseException:
                _end(process)
                raise
        return process.returncode, out

    def __str__(self) -> str:
        # Its arguments are for the program alone.
        return f"the program {self._command[0]}"


def verifier_of(public_key: str, name: str | None) -> Verifier:
    """The public key of a configuration: a verifier key, or PEM, which has no name and needs `name`. Raises
    ConfigError."""
    text = public_key.strip()
    if not text.startswith(_PEM):
        try:
            found = Verifier.parse(text)
        except NoteError as error:
            raise ConfigError(f"ledger.public_key: {error}") from None
        if name not in (None, found.name):
            raise ConfigError(f"ledger.public_key is named {found.name}, not {name}; see ledger.key_name")
        return found
    if name is None:
        raise ConfigError("a public key in PEM needs a name; set ledger.key_name")
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError("ledger.public_key is no public key in PEM") from None
    return _named(name, key, "ledger.public_key")


def verifier_from_der(der: bytes, name: str, what: str) -> Verifier:
    """The public key that `what` gave, as DER. Raises ConfigError."""
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{what} is no key that is known here") from None
    return _named(name, key, what)


def _named(name: str, key: object, what: str) -> Verifier:
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{what} is not for Ed25519")
    if not is_key_name(name):
        raise ConfigError("ledger.key_name is not empty and has no spaces and no +")
    return Verifier(name, key.public_bytes_raw())


def _signature(out: bytes) -> bytes | None:
    """64 bytes as they are, or as base64 with or without a line break; None for all else."""
    if len(out) == _SIGNATURE_BYTES:
        return out
    try:
        found = b64decode(out.strip(), validate=True)
    except (Base64Error, ValueError):
        return None
    return found if len(found) == _SIGNATURE_BYTES else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started. Once it is waited for, its number may be that of others."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
