"""Who makes changes, and why: what applications write into transactions for the ledger, and what the server knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from worker_sync.core import markers
from worker_sync.core.change import Change, Message, Piece, Session, SessionMark


class Author(NamedTuple):
    """What the application said, empty for nothing, and the server's session, None where it is not known."""

    context: str = ""
    session: Session | None = None


UNKNOWN = Author()


class Contexts:
    """Divides the pieces of one source's transactions by author. What is told holds for the changes behind it, up
    to what is told next of its transaction, or to that transaction's end."""

    def __init__(self) -> None:
        self._author = UNKNOWN

    def parts(self, piece: Piece) -> Iterator[tuple[Author, list[Change]]]:
        """The piece's changes in order, each run of them with its author."""
        at = 0
        for mark in _marks(piece):
            until = _behind(piece.changes, at, mark.after)
            if until > at:
                yield self._author, piece.changes[at:until]
            self._author, at = _told(self._author, mark), until
        yield self._author, piece.changes[at:]
        if piece.last:
            self._author = UNKNOWN


def _marks(piece: Piece) -> list[Message | SessionMark]:
    said: list[Message | SessionMark] = [message for message in piece.messages if message.prefix == markers.CONTEXT]
    return sorted([*said, *piece.sessions], key=attrgetter("after")) if piece.sessions else said


def _told(author: Author, mark: Message | SessionMark) -> Author:
    if isinstance(mark, SessionMark):
        return author._replace(session=mark.session)
    return author._replace(context=mark.content.decode(errors="backslashreplace"))


def _behind(changes: Sequence[Change], at: int, after: int) -> int:
    """Where the changes begin that were made after so many."""
    while at < len(changes) and changes[at].ordinal <= after:
        at += 1
    return at
