"""Dead letters in the control store on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import DeadLetter, Letter, LetterKind, LetterStatus, Wanted


@pytest.fixture
def store(target_db: str) -> Iterator[ControlStore]:
    with ControlStore(target_db) as store:
        store.migrate()
        yield store


def letter(number: int, pipeline: str = "p") -> Letter:
    return Letter(
        identity=f"{pipeline}/public.items/{number:04d}/1",
        kind=LetterKind.CHANGE,
        payload=b"\x00\xffchange",
        error_type="TargetRejected",
        error="The target refused the change: items violates check",
        pipeline=pipeline,
        shard=0,
        table="public.items",
        key=f"[{number}]",
        position=f"{number:04d}/end/0",
        ordinal=1,
        op="c",
    )


def numbers(letters: list[DeadLetter]) -> list[int]:
    return [letter.id for letter in letters]


def test_a_letter_that_is_parked_again_keeps_its_place_and_counts_its_attempts(store: ControlStore) -> None:
    store.dead_letters.park([letter(1), letter(2)])
    store.dead_letters.park([replace(letter(1), error="another reason")])
    first, second = store.dead_letters.find()
    assert (first.key, first.attempts, first.error) == ("[1]", 2, "another reason")
    assert (second.key, second.attempts) == ("[2]", 1)
    assert store.dead_letters.payload(first.id) == b"\x00\xffchange"


def test_letters_are_parked_all_or_none(store: ControlStore) -> None:
    broken = replace(letter(2), error="\0")
    with pytest.raises(Exception, match="NUL"):
        store.dead_letters.park([letter(1), broken])
    assert store.dead_letters.find() == []


def test_what_a_person_has_decided_stays_decided(store: ControlStore) -> None:
    store.dead_letters.park([letter(1), letter(2)])
    first, second = numbers(store.dead_letters.find())
    assert store.dead_letters.resolve([first], LetterStatus.DISCARDED, "ann", "not needed") == [first]
    assert store.dead_letters.resolve([first, second], LetterStatus.REPLAYED, "bob") == [second]
    store.dead_letters.park([letter(1)])
    [kept] = store.dead_letters.find(Wanted(ids=[first], status=None))
    assert (kept.status, kept.resolved_by, kept.note, kept.attempts) == (LetterStatus.DISCARDED, "ann", "not needed", 1)
    assert store.dead_letters.find() == []


def test_letters_are_found_by_what_they_are_about(store: ControlStore) -> None:
    store.dead_letters.park([letter(1), letter(2), letter(1, "other")])
    store.dead_letters.park(
        [Letter("t1", LetterKind.TASK, b"{}", "Boom", "boom", task="cleanup.reports", queue="cleanup")]
    )
    assert [found.key for found in store.dead_letters.find(Wanted(pipeline="p"))] == ["[1]", "[2]"]
    assert len(store.dead_letters.find(Wanted(table="public.items", key="[1]"))) == 2
    assert [found.task for found in store.dead_letters.find(Wanted(kind=LetterKind.TASK))] == ["cleanup.reports"]
    everything = numbers(store.dead_letters.find())
    assert numbers(store.dead_letters.find(after=everything[1], limit=1)) == everything[2:3]
    counts = [(count.kind, count.pipeline, count.task, count.letters) for count in store.dead_letters.counts()]
    assert counts == [("change", "other", "", 1), ("change", "p", "", 2), ("task", "", "cleanup.reports", 1)]


def test_only_resolved_letters_are_purged(store: ControlStore) -> None:
    store.dead_letters.park([letter(1), letter(2)])
    first, second = numbers(store.dead_letters.find())
    store.dead_letters.resolve([first], LetterStatus.DISCARDED, "ann")
    assert store.dead_letters.purge(older_than_s=3600) == 0
    assert store.dead_letters.purge(older_than_s=0) == 1
    assert numbers(store.dead_letters.find(Wanted(status=None))) == [second]
