"""What beats claim, send and remember, with a real control store; brokers and processes are in test_beat.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
from kombu.exceptions import OperationalError

from beat_schedule import Entry, describe
from tasks.firing import Firing
from tests.fixtures.eventually import eventually
from worker_sync.store import ControlStore
from worker_sync.store.schedule import Claim, Run, RunStatus

OFTEN = Entry("x.often", every_s=0.2)
MINUTELY = Entry("x.minutely", crontab="* * * * *", timezone="UTC")
NIGHTLY = Entry("x.nightly", crontab="0 2 * * *", timezone="Europe/Berlin")


@pytest.fixture
def store(target_db: str) -> Iterator[ControlStore]:
    with ControlStore(target_db) as store:
        store.migrate()
        yield store


class Beat:
    """A beat whose broker is a list."""

    def __init__(self, url: str, entries: dict[str, Entry], lease_s: float = 5.0) -> None:
        self.sent: list[Claim] = []
        self.broken = False
        self.before: Callable[[], object] = lambda: None
        self.firing = Firing(entries, ControlStore(url), self._publish, lease_s=lease_s)

    def _publish(self, claim: Claim, entry: Entry) -> None:
        self.before()
        if self.broken:
            raise OperationalError("connection refused")
        self.sent.append(claim)

    def step(self) -> float:
        return self.firing.step()

    def close(self) -> None:
        self.firing.close()


@pytest.fixture
def beat_of(target_db: str) -> Iterator[Callable[..., Beat]]:
    made: list[Beat] = []

    def make(lease_s: float = 5.0, **entries: Entry) -> Beat:
        made.append(Beat(target_db, entries, lease_s))
        return made[-1]

    yield make
    for beat in made:
        beat.close()


def execute(url: str, statement: str, *values: object) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode(), values)


def was_seen_last(url: str, entry: Entry, name: str, ago: timedelta) -> None:
    """A beat has known the entry since so long ago, and has not fired it since."""
    execute(
        url,
        "INSERT INTO worker_sync_control.schedule_entries VALUES (%s, %s, clock_timestamp() - %s)",
        name,
        describe(entry),
        ago,
    )


def statuses(store: ControlStore, entry: str) -> list[tuple[str, str]]:
    return [(run.scheduled_for.strftime("%H:%M"), run.status.value) for run in store.schedule.newest(entry, 5000)]


def run_of(store: ControlStore, claim: Claim) -> Run:
    found = store.schedule.get(claim.entry, claim.scheduled_for)
    assert found is not None
    return found


def test_a_new_entry_begins_with_its_next_time(store: ControlStore, beat_of: Callable[..., Beat]) -> None:
    beat = beat_of(minutely=MINUTELY, nightly=NIGHTLY)
    beat.step()
    assert beat.sent == []


def test_a_due_entry_is_sent_once_and_recorded(store: ControlStore, beat_of: Callable[..., Beat]) -> None:
    beat = beat_of(often=OFTEN)
    eventually(lambda: beat.step() and len(beat.sent) >= 4)
    times = [claim.scheduled_for for claim in beat.sent]
    assert len(set(times)) == len(times)
    assert times == sorted(times)
    assert {run_of(store, claim).status for claim in beat.sent} == {RunStatus.PUBLISHED}


def test_of_several_missed_times_the_newest_is_sent_and_the_others_are_recorded_as_skipped(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    was_seen_last(target_db, MINUTELY, "minutely", timedelta(minutes=5, seconds=1))
    beat = beat_of(minutely=MINUTELY)
    beat.step()
    beat.step()
    runs = store.schedule.newest("minutely", 10)
    assert len(beat.sent) in (1, 2)  # 2: a minute began meanwhile
    missed = [run for run in runs if run.scheduled_for <= beat.sent[0].scheduled_for]
    # In 301 seconds there are 5 full minutes, or 6 when one of them has just begun.
    assert len(missed) in (5, 6)
    assert [run.status.value for run in missed] == ["published", *["skipped"] * (len(missed) - 1)]
    gaps = {later.scheduled_for - sooner.scheduled_for for later, sooner in pairwise(missed)}
    assert gaps == {timedelta(minutes=1)}


def test_a_nightly_run_that_was_missed_is_caught_up_once_whatever_number_of_beats_starts(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    was_seen_last(target_db, NIGHTLY, "nightly", timedelta(hours=24))
    first = beat_of(nightly=NIGHTLY)
    first.step()
    assert len(first.sent) == 1
    first.close()
    second = beat_of(nightly=NIGHTLY)
    second.step()
    assert second.sent == []
    assert len(store.schedule.newest("nightly", 10)) == 1


def test_an_interval_that_was_missed_does_not_burst(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    hourly = Entry("x.hourly", every_s=3600.0)
    was_seen_last(target_db, hourly, "hourly", timedelta(days=30))
    beat = beat_of(hourly=hourly)
    beat.step()
    beat.step()
    assert len(beat.sent) == 1
    assert len(store.schedule.newest("hourly", 10)) == 1


def test_what_the_broker_did_not_take_is_sent_again_by_the_same_beat(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    was_seen_last(target_db, NIGHTLY, "nightly", timedelta(hours=24))
    beat = beat_of(nightly=NIGHTLY)
    beat.broken = True
    beat.step()
    beat.step()
    assert [status for _, status in statuses(store, "nightly")] == ["claimed"]
    beat.broken = False
    beat.step()
    beat.step()
    assert len(beat.sent) == 1
    assert [status for _, status in statuses(store, "nightly")] == ["published"]


def test_of_times_that_pass_while_the_broker_is_away_only_the_newest_is_sent(
    store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    beat = beat_of(often=OFTEN)
    beat.broken = True
    eventually(lambda: beat.step() and len(store.schedule.newest("often", 10)) >= 4)
    beat.broken = False
    beat.step()
    assert len(beat.sent) == 1
    found = [run.status for run in store.schedule.newest("often", 10)]
    assert set(found[1:]) == {RunStatus.SKIPPED}


def test_what_a_dead_beat_claimed_and_did_not_send_is_sent_by_the_next_one(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    was_seen_last(target_db, NIGHTLY, "nightly", timedelta(hours=24))
    dead = beat_of(nightly=NIGHTLY)
    dead.broken = True
    dead.step()
    dead.close()
    heir = beat_of(nightly=NIGHTLY)
    heir.step()
    assert len(heir.sent) == 1
    assert heir.sent[0].token == run_of(store, heir.sent[0]).token


def test_a_beat_that_lost_its_lease_neither_claims_nor_sends(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    """Another leads; whatever the old one believes, the store gives it nothing."""
    old = beat_of(often=OFTEN)
    eventually(lambda: old.step() and old.sent)
    execute(target_db, "UPDATE worker_sync_control.leases SET token = token + 1, holder = 'heir'")
    claimed, sent = len(store.schedule.newest("often", 1000)), len(old.sent)
    eventually(lambda: old.firing._held is None or old.step() == 0, 10)
    assert len(old.sent) == sent
    assert len(store.schedule.newest("often", 1000)) == claimed
    token = store.leases.holding("beat")
    assert token is not None
    assert token.holder == "heir"


def test_a_beat_that_slept_through_its_lease_while_it_sent_sends_nothing_more(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    """Two runs are claimed; during the first publish the beat is paused, and another takes over both."""
    other = Entry("x.other", every_s=3600.0)
    for name, entry in (("nightly", NIGHTLY), ("other", other)):
        was_seen_last(target_db, entry, name, timedelta(days=1))
    sleeper, heir = beat_of(lease_s=1.0, nightly=NIGHTLY, other=other), beat_of(nightly=NIGHTLY, other=other)

    def sleep() -> None:
        execute(target_db, "UPDATE worker_sync_control.leases SET expires_at = clock_timestamp(), holder = 'x'")
        eventually(lambda: heir.step() and len(heir.sent) == 2)
        held = sleeper.firing._held
        assert held is not None
        eventually(lambda: held.left_s == 0)

    sleeper.before = sleep
    sleeper.step()
    assert len(sleeper.sent) == 1  # the publish that had begun; a worker leaves it out
    assert len(heir.sent) == 2
    assert {run_of(store, claim).token for claim in heir.sent} == {heir.sent[0].token}
    assert sleeper.sent[0].token < heir.sent[0].token


def test_a_run_whose_entry_left_the_schedule_is_not_sent(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    was_seen_last(target_db, NIGHTLY, "nightly", timedelta(hours=24))
    old = beat_of(nightly=NIGHTLY)
    old.broken = True
    old.step()
    old.close()
    new = beat_of(often=OFTEN)
    eventually(lambda: new.step() and new.sent)
    assert {claim.entry for claim in new.sent} == {"often"}
    assert [status for _, status in statuses(store, "nightly")] == ["skipped"]


def test_an_entry_with_another_rhythm_has_missed_nothing(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    was_seen_last(target_db, NIGHTLY, "nightly", timedelta(days=3))
    beat = beat_of(nightly=Entry("x.nightly", crontab="0 2 * * *", timezone="UTC"))
    beat.step()
    assert beat.sent == []


def test_one_entry_that_can_not_be_sent_does_not_stop_the_others(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    other = Entry("x.other", every_s=3600.0)
    for name, entry in (("nightly", NIGHTLY), ("other", other)):
        was_seen_last(target_db, entry, name, timedelta(days=1))
    beat = beat_of(nightly=NIGHTLY, other=other)
    raised: list[bool] = []

    def fail_once() -> None:
        if not raised:
            raised.append(True)
            raise ValueError("no such queue")

    beat.before = fail_once
    beat.step()
    assert len(beat.sent) == 1
    beat.step()
    assert {claim.entry for claim in beat.sent} == {"nightly", "other"}


def test_of_many_beats_that_race_each_time_is_sent_once(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    beats = [beat_of(often=OFTEN, lease_s=1.0) for _ in range(4)]
    stop = threading.Event()

    def work(beat: Beat) -> None:
        while not stop.is_set():
            beat.step()
            if beat.sent and len(beat.sent) % 3 == 0:
                beat.close()  # gives the lease away

    threads = [threading.Thread(target=work, args=(beat,)) for beat in beats]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: sum(len(beat.sent) for beat in beats) >= 15, 40)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    times = [claim.scheduled_for for beat in beats for claim in beat.sent]
    assert len(times) == len(set(times))


def test_old_runs_are_removed_and_the_newest_of_an_entry_stays(target_db: str, store: ControlStore) -> None:
    def insert(entry: str, ago: timedelta, status: str = "finished") -> None:
        execute(
            target_db,
            "INSERT INTO worker_sync_control.schedule_runs (entry, scheduled_for, task, status, token)"
            " VALUES (%s, clock_timestamp() - %s, 'x', %s, 1)",
            entry,
            ago,
            status,
        )

    for days in range(40, 50):
        insert("yearly", timedelta(days=days))
    for seconds in range(20):
        insert("often", timedelta(seconds=seconds))
    insert("stuck", timedelta(days=90), "claimed")
    insert("stuck", timedelta(days=80))
    assert store.schedule.purge(older_than_s=30 * 86400.0, most=10) == 9 + 10
    assert len(store.schedule.newest("yearly", 100)) == 1
    assert len(store.schedule.newest("often", 100)) == 10
    assert [run.status for run in store.schedule.newest("stuck", 10)] == [RunStatus.FINISHED, RunStatus.CLAIMED]


def test_a_run_by_hand_does_not_count_as_one_that_was_due(
    target_db: str, store: ControlStore, beat_of: Callable[..., Beat]
) -> None:
    was_seen_last(target_db, NIGHTLY, "nightly", timedelta(hours=24))
    claim = store.schedule.claim_by_hand("nightly", "x.nightly")
    store.schedule.published(claim)
    beat = beat_of(nightly=NIGHTLY)
    beat.step()
    assert len(beat.sent) == 1
    assert isinstance(beat.sent[0].scheduled_for, datetime)


def test_the_first_word_about_a_run_stands(store: ControlStore) -> None:
    claim = store.schedule.claim_by_hand("nightly", "x.nightly")
    store.schedule.ended(claim, RunStatus.FINISHED)
    store.schedule.published(claim)
    store.schedule.ended(claim, RunStatus.FAILED, "late")
    run = run_of(store, claim)
    assert (run.status, run.error, run.published_at is not None) == (RunStatus.FINISHED, "", True)
