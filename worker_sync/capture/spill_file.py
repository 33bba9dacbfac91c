"""Files of spilled batches: each record encrypted, authenticated and bound to its place.

A file is a header, then records. The header holds in plain text the format's name, which key it was written with, a
random salt, the epoch of the capture that wrote it and the number of its first record. Every file has a key of its
own, made from the configured key and the salt, so a record's number can be its nonce. A record is the length of its
ciphertext and the ciphertext (AES-256-GCM), with header and number as associated data: a record that was altered,
moved, or put into another file does not open.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from worker_sync.core.position import Position

MAGIC: Final = b"wsspill1"
_HEADER: Final = struct.Struct(">8s8s16sQQ")
_LENGTH: Final = struct.Struct(">I")
_SALT: Final = 16
_TAG: Final = 16
#: A record that claims to be larger is damaged.
MAX_RECORD: Final = 1 << 30


class Damaged(Exception):
    """What stands there was not written there by us, or not completely."""


class WrongKey(Exception):
    """The file was written with another key."""


class Record(msgspec.Struct, array_like=True):
    """A batch as it was cut; see `worker_sync.capture.lane.Cut`."""

    after: Position
    upto: Position
    data: bytes
    summary: str
    oldest: int | None
    #: A file of an earlier version has none.
    trace: str = ""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)


@dataclass(frozen=True, slots=True)
class Key:
    """The configured key. Its text shows nowhere."""

    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"

    @property
    def id(self) -> bytes:
        """What tells it from others and tells nothing about it."""
        return self._derived(b"", b"worker-sync spill key id", 8)

    def of_file(self, salt: bytes) -> AESGCM:
        return AESGCM(self._derived(salt, b"worker-sync spill file", 32))

    def _derived(self, salt: bytes, info: bytes, length: int) -> bytes:
        return HKDF(SHA256(), length, salt or None, info).derive(self.secret)


@dataclass(frozen=True, slots=True)
class Header:
    epoch: int
    first: int
    salt: bytes
    key_id: bytes

    def pack(self) -> bytes:
        return _HEADER.pack(MAGIC, self.key_id, self.salt, self.epoch, self.first)

    @classmethod
    def read(cls, file: BinaryIO) -> Header:
        """Raises Damaged."""
        data = file.read(_HEADER.size)
        if len(data) < _HEADER.size or data[:8] != MAGIC:
            raise Damaged("no header")
        _, key_id, salt, epoch, first = _HEADER.unpack(data)
        return cls(epoch, first, salt, key_id)


def file_name(epoch: int, first: int) -> str:
    return f"{epoch:020}-{first:020}.spill"


class FileWriter:
    """Appends records to a new file; nothing counts before `sync` has returned. Raises OSError."""

    def __init__(self, directory: Path, key: Key, epoch: int, first: int) -> None:
        header = Header(epoch, first, os.urandom(_SALT), key.id)
        self.path = directory / file_name(epoch, first)
        self.next = first
        self._aad = header.pack()
        self._cipher = key.of_file(header.salt)
        # Of one that a failed write left behind nothing counts.
        self.path.unlink(missing_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.size = 0
        try:
            self._write(self._aad)
        except OSError:
            self.abandon()
            raise

    def append(self, record: Record) -> None:
        number = self.next
        body = self._cipher.encrypt(_nonce(number), _encoder.encode(record), _associated(self._aad, number))
        self._write(_LENGTH.pack(len(body)) + body)
        self.next += 1

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._file, view)
            self.size += written
            view = view[written:]

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def abandon(self) -> None:
        """Remove a file of which nothing counts."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)


class FileReader:
    """Reads the records of one file in order, as far as they are whole. Raises OSError, Damaged and WrongKey."""

    def __init__(self, path: Path, key: Key) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self.header = Header.read(self._file)
            if self.header.key_id != key.id:
                raise WrongKey(path.name)
            if path.name != file_name(self.header.epoch, self.header.first):
                raise Damaged("it goes by another's name")
        except BaseException:
            self._file.close()
            raise
        self._aad = self.header.pack()
        self._cipher = key.of_file(self.header.salt)
        self.number = self.header.first
        self.offset = _HEADER.size

    def read(self) -> Record | None:
        """The next record; None at the file's end."""
        prefix = self._file.read(_LENGTH.size)
        if not prefix:
            return None
        if len(prefix) < _LENGTH.size:
            raise Damaged("torn")
        (length,) = _LENGTH.unpack(prefix)
        if not _TAG <= length <= MAX_RECORD:
            raise Damaged("no length of a record")
        body = self._file.read(length)
        if len(body) < length:
            raise Damaged("torn")
        try:
            plain = self._cipher.decrypt(_nonce(self.number), body, _associated(self._aad, self.number))
            record = _decoder.decode(plain)
        except (InvalidTag, msgspec.MsgspecError) as error:
            raise Damaged("altered") from error
        self.number += 1
        self.offset += _LENGTH.size + length
        return record

    def close(self) -> None:
        self._file.close()


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _associated(header: bytes, number: int) -> bytes:
    return header + number.to_bytes(8, "big")


def sync_directory(path: Path) -> None:
    """Make the names in a directory last. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
