"""Events put together to transactions, and these cut into pieces."""

from __future__ import annotations

from typing import Final

from connectors.mongodb.events import Event
from worker_sync.core.change import Change, Message, Piece, TransactionInfo

#: A transaction is cut once its undelivered part took this many bytes, however few its rows.
PIECE_BYTES: Final = 16 * 1024 * 1024


class Assembly:
    """The open transaction. Events of one cluster time are one transaction; `pieces` collects what is ready."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self._info: TransactionInfo | None = None
        self._changes: list[Change] = []
        self._messages: list[Message] = []
        self._ordinal = 0
        self._size = 0

    @property
    def is_open(self) -> bool:
        """Whether more of the newest transaction may come."""
        return self._info is not None

    def add(self, event: Event, limit: int) -> None:
        """Take the next event; cut before a piece has more than `limit` changes."""
        if self._info is None or event.info.commit != self._info.commit:
            self.end()
            self._info = event.info
        self._size += event.size
        if event.message is not None:
            event.message.after = self._ordinal
            self._messages.append(event.message)
        if event.change is not None:
            self._ordinal += 1
            event.change.ordinal = self._ordinal
            self._changes.append(event.change)
            if len(self._changes) > limit or (self._size > PIECE_BYTES and len(self._changes) > 1):
                self._cut()

    def end(self) -> None:
        """Nothing more of the open transaction comes."""
        if self._info is not None and (self._changes or self._messages):
            self.pieces.append(Piece(self._info, self._changes, True, self._size, self._messages))
        self._info = None
        self._changes, self._messages = [], []
        self._ordinal = self._size = 0

    def _cut(self) -> None:
        """Deliver the open transaction's changes except the newest, so that its last piece is never empty."""
        assert self._info is not None
        newest = self._changes.pop()
        self.pieces.append(Piece(self._info, self._changes, False, self._size, self._messages))
        self._changes, self._messages = [newest], []
        self._size = 0

    def take(self) -> list[Piece]:
        taken, self.pieces = self.pieces, []
        return taken
