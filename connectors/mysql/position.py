"""Positions in the binary log as text whose order is log order.

``FILE:OFFSET:FLAG:CREATED``, all numbers of fixed width. FLAG 1: the transaction that begins at the offset, which is
known before its end is read; a stream that continues after it reads it again and leaves it out. FLAG 0: the boundary
between events at the offset, which is after every transaction that begins before it. CREATED is the time, in seconds
since 1970, at which the server began the file: a log that was reset has files with the old names and other times. It
is missing in positions that the server itself was asked for, which only are compared.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from worker_sync.core.errors import Halt, State

_WIDTHS: Final = (10, 10, 1, 10)
RESYNC: Final = "worker-sync resync PIPELINE"


class LogPosition(NamedTuple):
    """See the module; `created` is None where it is missing."""

    file: int
    offset: int
    begun: bool
    created: int | None

    def __str__(self) -> str:
        return boundary(self.file, self.offset, self.created, begun=self.begun)


def boundary(file: int, offset: int, created: int | None = None, *, begun: bool = False) -> str:
    """The text of a position."""
    text = f"{file:010}:{offset:010}:{int(begun)}"
    return text if created is None else f"{text}:{created:010}"


def parse_position(text: str) -> LogPosition:
    """Read a position. Raises Halt for text that is none."""
    parts = text.split(":")
    if len(parts) not in (3, 4) or any(
        len(part) != width or not part.isdecimal() for part, width in zip(parts, _WIDTHS, strict=False)
    ):
        raise Halt(State.POSITION_LOST, f"{text!r} is no position in a binary log", RESYNC)
    file, offset, begun, *created = map(int, parts)
    return LogPosition(file, offset, bool(begun), created[0] if created else None)


def file_number(name: str) -> int:
    """The number at the end of a log file's name."""
    return int(name.rpartition(".")[2])
