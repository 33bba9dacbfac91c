"""What becomes of dead letters once a person has decided: replaying, discarding, purging.

A task is sent again, a message goes back to its queue, the keys of changes are asked for at the capture of their
source. What has happened is recorded after it was done: a crash between repeats it and loses nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from celery import Celery
from kombu.exceptions import OperationalError

from tasks import messages
from tasks.letters import decode_arguments
from worker_sync.core import spans
from worker_sync.core.errors import ConfigError, Permanent, Unreachable, WorkerSyncError
from worker_sync.core.settings import Settings
from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import PAGE, DeadLetter, LetterKind, LetterStatus, Wanted
from worker_sync.store.signals import SignalKind

DAY_S: Final = 86_400.0
#: Days that resolved letters are kept unless said otherwise.
KEPT_DAYS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one letter. `outcome`: `sent` again, `asked` of the capture by signal number `signal`,
    `discarded`, or `failed` as `detail` says."""

    letter: DeadLetter
    outcome: str
    detail: str = ""
    signal: int | None = None


def found(store: ControlStore, wanted: Wanted) -> Iterator[DeadLetter]:
    """All letters that are wanted, page by page."""
    after = 0
    while page := store.dead_letters.find(wanted, after):
        yield from page
        after = page[-1].id


def parked(store: ControlStore, numbers: Iterable[int]) -> list[DeadLetter]:
    """The parked letters of these numbers. Raises ConfigError for a number that is none."""
    wanted = sorted(set(numbers))
    letters = list(found(store, Wanted(ids=wanted)))
    missing = set(wanted) - {letter.id for letter in letters}
    if missing:
        raise ConfigError(f"no parked letter has the number {', '.join(map(str, sorted(missing)))}")
    return letters


def replay(
    app: Celery, settings: Settings, store: ControlStore, letters: Sequence[DeadLetter], by: str
) -> list[Decided]:
    """Try the work of parked letters again. `by` is recorded as who decided it. Raises Unreachable when the broker or
    the store can't be reached; what was done until then is recorded."""
    done = [_replay_one(app, store, letter, by) for letter in letters if letter.kind is not LetterKind.CHANGE]
    return done + _ask(settings, store, letters)


def discard(
    settings: Settings, store: ControlStore, letters: Sequence[DeadLetter], by: str, note: str
) -> list[Decided]:
    """Give parked work up. `by` and `note` are recorded; later changes of a discarded change's key are let through."""
    sources = {name: pipeline.source for name, pipeline in settings.pipelines.items()}
    taken = store.dead_letters.discard([letter.id for letter in letters], sources, by, note)
    missed = [letter.id for letter in letters if letter.id not in taken]
    now = {letter.id: letter for letter in found(store, Wanted(ids=missed, status=None))} if missed else {}
    return [
        _discarded(settings, letter, taken[letter.id]) if letter.id in taken else _meanwhile(letter, now.get(letter.id))
        for letter in letters
    ]


def _meanwhile(letter: DeadLetter, now: DeadLetter | None) -> Decided:
    """What became of a letter that was not parked any more, perhaps by this very call, whose answer was lost."""
    if now is None:
        return Decided(letter, "failed", "it was removed meanwhile")
    outcome = "discarded" if now.status is LetterStatus.DISCARDED else "failed"
    return Decided(now, outcome, f"{now.status} meanwhile by {now.resolved_by}")


def _discarded(settings: Settings, letter: DeadLetter, signal: int | None) -> Decided:
    if signal is not None:
        return Decided(letter, "discarded", f"signal {signal}", signal)
    if letter.kind is LetterKind.CHANGE and letter.pipeline not in settings.pipelines:
        return Decided(letter, "discarded", f"no capture lets its key go: no pipeline {letter.pipeline} is configured")
    return Decided(letter, "discarded")


def purge(store: ControlStore, older_than_s: float) -> int:
    """Remove letters that were resolved longer ago than that; returns how many."""
    total = 0
    while removed := store.dead_letters.purge(older_than_s):
        total += removed
        if removed < PAGE:
            break
    return total


def purgeable(store: ControlStore, before: datetime) -> int:
    """How many letters were resolved before that."""
    everything = found(store, Wanted(status=None))
    return sum(letter.resolved_at is not None and letter.resolved_at < before for letter in everything)


# -- tasks and messages


def _replay_one(app: Celery, store: ControlStore, letter: DeadLetter, by: str) -> Decided:
    payload = store.dead_letters.payload(letter.id)
    if payload is None:
        return Decided(letter, "failed", "it was removed meanwhile")
    try:
        is_task = letter.kind is LetterKind.TASK
        detail = _send_again(app, letter, payload) if is_task else _back_to_its_queue(app, payload)
    except (ValueError, Permanent, ConfigError) as error:
        return Decided(letter, "failed", str(error))
    if not store.dead_letters.resolve([letter.id], LetterStatus.REPLAYED, by, detail):
        return Decided(letter, "sent", "somebody else has decided about it meanwhile")
    return Decided(letter, "sent", detail)


def _send_again(app: Celery, letter: DeadLetter, payload: bytes) -> str:
    args, kwargs = decode_arguments(payload)
    try:
        # A new message: were it the old one's number, its failure would be taken for the letter's.
        sent = app.send_task(letter.task, args, kwargs, ignore_result=True, headers={spans.LINK: letter.trace})
    except OperationalError as error:
        raise Unreachable(f"the broker: {error}") from error
    return f"sent as {sent.id}"


def _back_to_its_queue(app: Celery, payload: bytes) -> str:
    """Put a message that never reached our code back into the queue that it was meant for."""
    messages.replay(payload, through=app)
    return "sent"


# -- changes


def _ask(settings: Settings, store: ControlStore, letters: Sequence[DeadLetter]) -> list[Decided]:
    """One signal per table for the keys of the letters that are changes; the capture does it and records it."""
    tables: dict[tuple[str, str], list[DeadLetter]] = defaultdict(list)
    for letter in letters:
        if letter.kind is LetterKind.CHANGE:
            tables[letter.pipeline, letter.table].append(letter)
    asked: list[Decided] = []
    for (pipeline, table), group in tables.items():
        keys = list(dict.fromkeys(letter.key for letter in group))
        try:
            source = settings.pipeline(pipeline).source
        except ConfigError as error:
            asked += [Decided(letter, "failed", error.detail) for letter in group]
        else:
            number = store.signals.send(source, SignalKind.REPLAY, pipeline, table, keys=keys)
            asked += [Decided(letter, "asked", f"signal {number}", number) for letter in group]
    return asked


def settled(store: ControlStore, decided: Sequence[Decided]) -> list[Decided] | None:
    """`decided` with what became of the signals; None while one is not finished."""
    results: dict[int, str] = {}
    for number in {one.signal for one in decided if one.signal is not None}:
        signal = store.signals.get(number)
        if signal is None or signal.finished_at is None:
            return None
        results[number] = signal.result or ""
    numbers = [one.letter.id for one in decided if one.signal is not None]
    now = {letter.id: letter for letter in found(store, Wanted(ids=numbers, status=None))} if numbers else {}
    return [_settled(one, now.get(one.letter.id), results) for one in decided]


def _settled(one: Decided, now: DeadLetter | None, results: dict[int, str]) -> Decided:
    if one.signal is None:
        return one
    if now is None:
        return replace(one, outcome="failed", detail="it was removed meanwhile")
    if now.status is LetterStatus.PARKED:
        return replace(one, letter=now, outcome="failed", detail=f"still parked: {results[one.signal] or now.error}")
    return replace(one, letter=now, outcome=str(now.status), detail=results[one.signal])


def failed(decided: Sequence[Decided]) -> bool:
    return any(one.outcome == "failed" for one in decided)


def not_replayed(decided: Sequence[Decided]) -> WorkerSyncError:
    """The error that names what could not be done."""
    lines = [f"{one.letter.id}: {one.detail}" for one in decided if one.outcome == "failed"]
    return Permanent(f"letters that are as they were: {'; '.join(lines)}")
