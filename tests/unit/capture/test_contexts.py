"""Which context each change of a transaction has."""

from __future__ import annotations

from worker_sync.capture.contexts import Author, Contexts
from worker_sync.core.change import Change, Message, Piece, Session, SessionMark, TransactionInfo, divided
from worker_sync.core.markers import CONTEXT


def _changes(first: int, last: int) -> list[Change]:
    return [Change(ordinal, "c", 1, None, None, (ordinal,)) for ordinal in range(first, last + 1)]


def _piece(commit: str, first: int, last: int, *messages: Message, ends: bool = True) -> Piece:
    return Piece(TransactionInfo(commit, 0), _changes(first, last), ends, 10, list(messages))


def _said(context: str, after: int = 0) -> Message:
    return Message(CONTEXT, context.encode(), after)


def _runs(contexts: Contexts, piece: Piece) -> list[tuple[str, int, int]]:
    parts = contexts.parts(piece)
    return [(author.context, part[0].ordinal, part[-1].ordinal) for author, part in parts if part]


def test_without_a_message_changes_have_no_context() -> None:
    assert _runs(Contexts(), _piece("1", 1, 3)) == [("", 1, 3)]


def test_a_context_holds_for_the_changes_behind_it() -> None:
    piece = _piece("1", 1, 9, _said("ann", 2), _said("bob", 5))
    assert _runs(Contexts(), piece) == [("", 1, 2), ("ann", 3, 5), ("bob", 6, 9)]


def test_the_last_of_several_before_a_change_counts() -> None:
    assert _runs(Contexts(), _piece("1", 1, 2, _said("ann"), _said("bob"))) == [("bob", 1, 2)]


def test_a_context_holds_over_all_pieces_of_its_transaction_and_ends_with_it() -> None:
    contexts = Contexts()
    assert _runs(contexts, _piece("1", 1, 3, _said("ann"), ends=False)) == [("ann", 1, 3)]
    assert _runs(contexts, _piece("1", 4, 6, _said("bob", 5))) == [("ann", 4, 5), ("bob", 6, 6)]
    assert _runs(contexts, _piece("2", 1, 1)) == [("", 1, 1)]


def test_a_message_at_the_end_of_a_piece_is_about_the_next() -> None:
    contexts = Contexts()
    assert _runs(contexts, _piece("1", 1, 3, _said("ann", 3), ends=False)) == [("", 1, 3)]
    assert _runs(contexts, _piece("1", 4, 4)) == [("ann", 4, 4)]


def test_other_messages_say_nothing() -> None:
    assert _runs(Contexts(), _piece("1", 1, 1, Message("worker_sync.marker", b"x"))) == [("", 1, 1)]


def test_what_is_no_text_is_kept_readable() -> None:
    piece = _piece("1", 1, 1, Message(CONTEXT, b"\xff"))
    assert _runs(Contexts(), piece) == [("\\xff", 1, 1)]


def test_sessions_and_contexts_change_apart_from_each_other() -> None:
    web, cron = Session("shop", application_name="web"), Session("cron")
    contexts = Contexts()
    first = _piece("1", 1, 6, _said("ann", 1), _said("bob", 4), ends=False)
    first.sessions = [SessionMark(web), SessionMark(cron, 4)]
    found = [(author, len(changes)) for author, changes in contexts.parts(first)]
    assert found == [(Author("", web), 1), (Author("ann", web), 3), (Author("bob", cron), 2)]
    second = _piece("1", 7, 9)
    second.sessions = [SessionMark(None, 8)]
    found = [(author, len(changes)) for author, changes in contexts.parts(second)]
    assert found == [(Author("bob", cron), 2), (Author("bob", None), 1)]
    assert [author for author, _ in contexts.parts(_piece("2", 1, 1))] == [Author("", None)]


def test_marks_are_divided_with_the_changes_that_they_are_about() -> None:
    marks = [SessionMark(None, after) for after in (0, 2, 3)]
    assert divided(marks, 3) == (marks[:2], marks[2:])
