"""The queue on disk between a lane's window and its newest batches, while a target is away.

What counts is the chain: every record begins where the one before it ended, from the watermark to the newest. What was
synced may be confirmed to the source; how far that is stands in the checkpoint, saved together with what is confirmed,
so a chain that ends before it is a loss that is noticed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from worker_sync.capture.spill_file import (
    Damaged,
    FileReader,
    FileWriter,
    Key,
    Record,
    WrongKey,
    sync_directory,
)
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.position import WHOLE, Position

#: A file is closed and another begun from this size on; files go as a whole once they are applied.
FILE_BYTES: Final = 64 * 1024 * 1024


class Full(Exception):
    """The spill may not or can't grow now."""


class Budget:
    """The bytes that all spills of a source may take."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self.used = 0

    def take(self, size: int) -> None:
        """Raises Full."""
        if self.used + size > self._max:
            raise Full(f"spill.max_bytes ({self._max}) is reached")


@dataclass(slots=True)
class _File:
    path: Path
    first: int
    size: int
    #: Where its last record ends, and the number behind it.
    upto: Position
    next: int


class Spill:
    """The spilled batches of one lane: written at the end, read at the front. Used by one thread."""

    def __init__(self, directory: Path, key: Key, epoch: int, budget: Budget) -> None:
        self.directory = directory
        self._key = key
        self._epoch = epoch
        self._budget = budget
        self._files: list[_File] = []
        self._writer: FileWriter | None = None
        self._reader: FileReader | None = None
        #: The number of the next record to write, and of the next to read.
        self._next = 0
        self._at = 0
        self.tail: Position | None = None
        #: The newest end of a transaction up to which everything is synced.
        self.whole: Position | None = None

    # -- finding what an earlier capture left

    def recover(self, mark: Position, required: Position | None) -> None:
        """Take over the chain behind the watermark. `required`: how far it reached when the checkpoint was saved.

        Raises Halt when what was confirmed to the source is not there any more.
        """
        if required is None or required <= mark:
            # Whatever is there is applied, or was never confirmed: the source's log has it.
            self.clear()
            return
        self._walk(mark)
        if self.tail is None or self.tail < required:
            reach = "nothing is there" if self.tail is None else f"what can be read ends at {self.tail}"
            raise _lost(f"{self.directory}: spilled batches from {mark} to {required} are needed, but {reach}")

    def _walk(self, mark: Position) -> None:
        """Follow the chain through the files as far as it goes."""
        paths = sorted(self.directory.glob("*.spill")) if self.directory.is_dir() else []
        for index, path in enumerate(paths):
            # A capture that was replaced may have gone on writing for a moment, and a failed write may have left
            # something: the numbers of later files win.
            end = min((_first_of(later) for later in paths[index + 1 :]), default=None)
            if not self._take_file(path, mark, end):
                return

    def _take_file(self, path: Path, mark: Position, end: int | None) -> bool:
        """True when the chain may go on in the next file."""
        try:
            reader = FileReader(path, self._key)
        except WrongKey:
            raise locked(f"{path} was written with another key than spill.key is now") from None
        except Damaged:
            return True  # an empty file of a capture that was killed; what would be missing shows in the chain
        with contextlib.closing(reader):
            if end is not None and reader.header.first >= end:
                return True
            if self._files and reader.header.first != self._next:
                return False
            return self._take_records(reader, mark, end)

    def _take_records(self, reader: FileReader, mark: Position, end: int | None) -> bool:
        found: _File | None = None
        try:
            while (end is None or reader.number < end) and (record := reader.read()) is not None:
                if not self._joins(record, mark):
                    return False
                if found is None:
                    found = _File(reader.path, reader.header.first, 0, record.upto, 0)
                    self._files.append(found)
                    if len(self._files) == 1:
                        self._at = reader.header.first
                found.upto, found.next, found.size = record.upto, reader.number, reader.offset
                self._next = reader.number
                self._note(record.upto)
        except Damaged:
            return True  # torn: the source's log has what follows, unless the chain turns out too short
        finally:
            if found is not None:
                self._budget.used += found.size
        return True

    def _joins(self, record: Record, mark: Position) -> bool:
        # Before the mark there may be files of an earlier time, whose removal did not last.
        return record.after == self.tail or record.after <= mark

    def _note(self, upto: Position) -> None:
        self.tail = upto
        if upto.ordinal == WHOLE:
            self.whole = upto

    # -- the queue

    @property
    def has_more(self) -> bool:
        """Records that were not read."""
        return self._at < self._next

    @property
    def is_empty(self) -> bool:
        return not self._files

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self._files)

    def append(self, records: Sequence[Record]) -> None:
        """Write and sync records, all of them or none. Raises Full when there is no room for them."""
        assert all(one.upto == following.after for one, following in pairwise(records))
        assert self.tail is None or records[0].after == self.tail
        self._budget.take(sum(len(record.data) for record in records))
        try:
            self._append(records)
        except OSError as error:
            self._give_up_file()
            raise Full(f"{self.directory}: {error.strerror or error}") from error

    def _append(self, records: Sequence[Record]) -> None:
        writer = self._writer or self._new_file()
        before, first = writer.size, writer.next
        for record in records:
            writer.append(record)
        writer.sync()
        if not self._files or self._files[-1].path != writer.path:
            # Before the name is sure to last, nothing in the file is.
            sync_directory(self.directory)
            self._files.append(_File(writer.path, first, 0, records[-1].upto, 0))
            before = 0
        file = self._files[-1]
        file.upto, file.next, file.size = records[-1].upto, writer.next, writer.size
        self._budget.used += writer.size - before
        self._next = writer.next
        for record in records:
            self._note(record.upto)
        if writer.size >= FILE_BYTES:
            self._close_writer()

    def _new_file(self) -> FileWriter:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._writer = FileWriter(self.directory, self._key, self._epoch, self._next)
        return self._writer

    def _give_up_file(self) -> None:
        """After a failed write nothing but what was synced before is sure. The next file continues behind that; what
        this one has beyond is cut off, for the numbers will be used again."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        kept = next((file for file in self._files if file.path == writer.path), None)
        writer.close()
        with contextlib.suppress(OSError):
            if kept is None:
                writer.path.unlink(missing_ok=True)
            else:
                os.truncate(writer.path, kept.size)

    def read_last(self, count: int) -> None:
        """Of what was written, read only the last `count` records."""
        self._close_reader()
        self._at = self._next - count

    def read(self) -> Record:
        """The next record, in order. Raises Halt when it is not there any more, Transient when the disk fails."""
        file = next(file for file in self._files if file.first <= self._at < file.next)
        try:
            if self._reader is None or self._reader.path != file.path:
                self._open_at(file)
            assert self._reader is not None
            record = self._reader.read()
        except FileNotFoundError as error:
            raise _lost(str(error)) from error
        except (Damaged, WrongKey) as error:
            raise _lost(f"{file.path}: {error}") from error
        except OSError as error:
            raise Transient(f"{file.path}: {error.strerror or error}") from error
        if record is None:
            raise _lost(f"{file.path} is cut off")
        self._at += 1
        return record

    def _open_at(self, file: _File) -> None:
        self._close_reader()
        self._reader = FileReader(file.path, self._key)
        while self._reader.number < self._at:
            if self._reader.read() is None:
                raise Damaged("cut off")

    # -- the end

    def forget(self, mark: Position) -> None:
        """Remove files whose records the watermark has passed."""
        while self._files and self._files[0].upto <= mark:
            file = self._files.pop(0)
            self._at = max(self._at, file.next)
            if self._writer is not None and self._writer.path == file.path:
                self._close_writer()
            if self._reader is not None and self._reader.path == file.path:
                self._close_reader()
            self._budget.used -= file.size
            file.path.unlink(missing_ok=True)
        if not self._files:
            self.tail = self.whole = None

    def clear(self) -> None:
        """Remove everything."""
        self.close()
        self._budget.used -= self.bytes
        self._files, self.tail, self.whole = [], None, None
        self._at = self._next
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> None:
        self._close_writer()
        self._close_reader()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def locked(detail: str) -> Halt:
    """There are spilled batches for which there is no key."""
    return Halt(
        State.SPILL_LOCKED,
        detail,
        "set spill.key to what it was, then worker-sync resume PIPELINE; or worker-sync resync PIPELINE",
    )


def _lost(detail: str) -> Halt:
    return Halt(
        State.SPILL_LOST,
        detail,
        "put the files back where they were, then worker-sync resume PIPELINE; or worker-sync resync PIPELINE",
    )


def _first_of(path: Path) -> int:
    return int(path.name[21:41])
