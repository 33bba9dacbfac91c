"""Changes of a table without key, kept in order while the table is being copied; on disk beyond some megabytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

import msgspec

from worker_sync.core.change import Change, TransactionInfo

#: What is kept in memory, in bytes; more goes into a temporary file.
IN_MEMORY: Final = 4 << 20

_SIZE: Final = Struct(">I")

Sees = Callable[[TransactionInfo], bool]


class _Entry(msgspec.Struct, array_like=True, gc=False):
    """Consecutive changes of one transaction. `read` is the last transaction that had been read completely before."""

    read: str
    info: TransactionInfo
    changes: list[Change]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Entry).decode


class Withheld:
    """A queue of changes that outgrows memory. Used by one thread."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by `close`
        self._read_at = self._write_at = 0
        #: The oldest entry, if it was read from the file.
        self._head: _Entry | None = None

    def close(self) -> None:
        self._file.close()

    def add(self, read: str, info: TransactionInfo, changes: Sequence[Change]) -> None:
        """Append changes of one transaction."""
        data = _encode(_Entry(read, info, list(changes)))
        self._file.seek(self._write_at)
        self._file.write(_SIZE.pack(len(data)))
        self._file.write(data)
        self._write_at += _SIZE.size + len(data)

    @property
    def hold(self) -> str | None:
        """The position from which on the log is needed for what is kept here; None when nothing is."""
        entry = self._first()
        return None if entry is None else entry.read

    def forget(self, sees: Sees) -> None:
        """Drop the oldest changes up to the first that a snapshot does not see: every later one sees them too."""
        while (entry := self._first()) is not None and sees(entry.info):
            self._head = None

    def take(self, limit: int, sees: Sees) -> list[Change]:
        """The oldest changes that the snapshot does not see, about `limit` of them; none when all were taken."""
        found: list[Change] = []
        while len(found) < limit and (entry := self._first()) is not None:
            self._head = None
            if not sees(entry.info):
                found.extend(entry.changes)
        return found

    def _first(self) -> _Entry | None:
        if self._head is None and self._read_at < self._write_at:
            self._file.seek(self._read_at)
            (size,) = _SIZE.unpack(self._file.read(_SIZE.size))
            self._head = _decode(self._file.read(size))
            self._read_at += _SIZE.size + size
            if self._read_at == self._write_at:
                self._read_at = self._write_at = 0
                self._file.seek(0)
                self._file.truncate()
        return self._head
