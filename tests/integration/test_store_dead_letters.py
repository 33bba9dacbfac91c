"""Dead letters in the control store on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from tests.fixtures.eventually import eventually
from worker_sync.core.errors import WorkerSyncError
from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import DeadLetter, Letter, LetterKind, LetterStatus, Wanted
from worker_sync.store.signals import SignalKind

#: Who can't leave a request because the table of them is locked.
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND query LIKE '%worker_sync_control.signals%'"
)


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


def test_a_task_that_comes_again_by_itself_has_one_letter_until_a_person_decides(store: ControlStore) -> None:
    def failed(number: int, arguments: bytes = b"{}") -> Letter:
        kind = LetterKind.TASK
        return Letter(
            f"task:{number}", kind, arguments, "ConfigError", f"no key {number}", task="sign", trace=str(number)
        )

    store.dead_letters.park([letter(1)])
    for number in (1, 2, 3):
        store.dead_letters.park_repeated(failed(number))
    store.dead_letters.park_repeated(failed(3, b"others"))
    _, first, other = store.dead_letters.find()
    assert (first.identity, first.attempts, first.error, first.trace) == ("task:1", 3, "no key 3", "3")
    assert (other.identity, other.attempts) == ("task:3", 1)
    store.dead_letters.resolve([first.id], LetterStatus.REPLAYED, "ann")
    store.dead_letters.park_repeated(failed(4))
    assert [found.identity for found in store.dead_letters.find(Wanted(task="sign"))] == ["task:3", "task:4"]


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


def test_discarding_asks_once_per_table_for_the_keys_of_what_was_still_parked(store: ControlStore) -> None:
    store.dead_letters.park([letter(1), letter(2), replace(letter(3), table="public.others"), letter(1, "gone")])
    store.dead_letters.park([Letter("t1", LetterKind.TASK, b"{}", "Boom", "boom", task="cleanup.reports")])
    first, second, other, gone, task = numbers(store.dead_letters.find())
    store.dead_letters.resolve([second], LetterStatus.REPLAYED, "bob")
    taken = store.dead_letters.discard([first, second, other, gone, task], {"p": "shop"}, "ann", "not needed")
    items, others = store.signals.pending("shop")
    assert taken == {first: items.id, other: others.id, gone: None, task: None}
    assert (items.kind, items.pipeline, items.table, items.keys) == (SignalKind.RELEASE, "p", "public.items", ["[1]"])
    assert (others.table, others.keys) == ("public.others", ["[3]"])
    [kept] = store.dead_letters.find(Wanted(ids=[first], status=None))
    assert (kept.status, kept.resolved_by, kept.note) == (LetterStatus.DISCARDED, "ann", "not needed")
    assert store.dead_letters.discard([first], {"p": "shop"}, "bob") == {}
    assert len(store.signals.pending("shop")) == 2


def test_a_letter_is_not_discarded_before_its_release_is_left_for_the_capture(
    store: ControlStore, target_db: str
) -> None:
    store.dead_letters.park([letter(1)])
    [number] = numbers(store.dead_letters.find())
    with (
        ThreadPoolExecutor() as pool,
        ControlStore(target_db) as killed,
        psycopg.connect(target_db, autocommit=True) as watch,
        psycopg.connect(target_db) as gate,
    ):
        gate.execute("LOCK TABLE worker_sync_control.signals IN EXCLUSIVE MODE")
        assert killed.dead_letters.find()  # it is connected, so a loss is tried once more
        discarding = pool.submit(killed.dead_letters.discard, [number], {"p": "shop"}, "ann")
        for _ in range(2):
            victim = eventually(lambda: watch.execute(WAITING).fetchone(), what="the release waits")
            watch.execute("SELECT pg_terminate_backend(%s, 10000)", victim)
        with pytest.raises(WorkerSyncError):
            discarding.result(30)
    # Ended in between, as by a crash: neither is there, so the letter can be discarded again.
    assert numbers(store.dead_letters.find()) == [number]
    assert store.signals.pending("shop") == []
    assert store.dead_letters.discard([number], {"p": "shop"}, "ann").keys() == {number}
    assert [signal.keys for signal in store.signals.pending("shop")] == [["[1]"]]


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
