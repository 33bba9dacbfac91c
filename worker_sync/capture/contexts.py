"""Who says that they made a change, and why: what applications write into their transactions for the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker_sync.core import markers
from worker_sync.core.change import Change, Message, Piece


class Contexts:
    """Divides the pieces of one source's transactions by context. A context holds for the changes behind it, up to the
    next one of its transaction or that transaction's end."""

    def __init__(self) -> None:
        self._context = ""

    def parts(self, piece: Piece) -> Iterator[tuple[str, list[Change]]]:
        """The piece's changes in order, each run of them with its context as text, empty for none."""
        at = 0
        for message in piece.messages:
            if message.prefix == markers.CONTEXT:
                until = _behind(piece.changes, at, message)
                if until > at:
                    yield self._context, piece.changes[at:until]
                self._context, at = message.content.decode(errors="backslashreplace"), until
        yield self._context, piece.changes[at:]
        if piece.last:
            self._context = ""


def _behind(changes: Sequence[Change], at: int, message: Message) -> int:
    """Where the changes begin that were made after the message."""
    while at < len(changes) and changes[at].ordinal <= message.after:
        at += 1
    return at
