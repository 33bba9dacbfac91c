"""Tasks that fail for good: what is parked, when, and what a person can do about it."""

from __future__ import annotations

import getpass
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import deciding, messages
from tasks.letters import decode_arguments
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.test_tasks import execute
from tests.integration.worker_rig import Rig, worker_rig
from worker_sync.core.settings import load
from worker_sync.store.dead_letters import Letter, LetterKind, LetterStatus
from worker_sync.store.signals import SignalKind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PIPELINE = "shop-to-reporting"


@pytest.fixture
def rig(postgres: str, target_db: str, redis_url: str, tmp_path: Path) -> Iterator[Rig]:
    with (
        new_database(postgres, "control") as control_url,
        worker_rig(tmp_path, control_url, target_db, redis_url) as rig,
    ):
        yield rig


def change(number: int, table: str = "public.items", pipeline: str = PIPELINE) -> Letter:
    return Letter(
        identity=f"{pipeline}/{table}/{number}",
        kind=LetterKind.CHANGE,
        payload=b"secret row",
        error_type="TargetRejected",
        error="The target refused the change",
        pipeline=pipeline,
        shard=0,
        table=table,
        key=f"[{number}]",
        position=f"{number:04d}",
        ordinal=1,
        op="c",
    )


def test_a_task_that_fails_for_good_is_parked_with_its_arguments_before_it_is_acknowledged(rig: Rig) -> None:
    worker = rig.worker()
    number = rig.send("trial.fails", "permanent", detail="refused")
    rig.send("trial.fails", "unexpected")
    rig.send("trial.fails", "fenced")
    eventually(lambda: len(rig.letters()) == 2 and rig.waiting() == 0)
    first, second = rig.letters()
    assert (first.identity, first.kind, first.task, first.attempts) == (
        f"task:{number}",
        LetterKind.TASK,
        "trial.fails",
        1,
    )
    assert (first.error_type, first.error) == ("TargetRejected", "The target refused the change: refused")
    assert first.trace == number
    assert second.error_type == "KeyError"
    payload = rig.control.dead_letters.payload(first.id)
    assert payload is not None
    assert decode_arguments(payload) == (["permanent"], {"detail": "refused"})
    assert "action=parked" in worker.text()


def test_a_task_that_outlasts_its_hard_time_limit_is_parked_and_can_be_replayed(rig: Rig) -> None:
    rig.change({"worker": {"pool": "prefork", "concurrency": 1}})
    worker = rig.worker(queues="default,dead_letter")
    said = rig.directory / "said"
    number = rig.app.send_task("trial.sleeps", (str(said), 1, 600.0), queue="default", time_limit=1).id
    rig.send("trial.sleeps", str(said), 2, 0.0)
    eventually(lambda: "end 2" in said.read_text() if said.exists() else False, 60, "the next one is done")

    eventually(lambda: "action=put-aside " in worker.text(), 60, "it is put aside")
    rig.app.send_task("dead_letters.drain")
    (letter,) = eventually(rig.letters, 60, "the letter")
    assert (letter.identity, letter.task, letter.queue) == (f"message:{number}:0:0", "trial.sleeps", "default")
    assert letter.error_type == "TimeLimitExceeded"
    payload = rig.control.dead_letters.payload(letter.id)
    assert payload is not None
    messages.replay(payload, rig.app)
    eventually(lambda: said.read_text().count("begin 1") == 2, 60, "it is tried again")


def test_a_transient_failure_is_parked_once_its_tries_are_used_up(rig: Rig) -> None:
    rig.worker()
    rig.send("trial.fails", "transient")
    eventually(lambda: rig.letters() and rig.waiting() == 0)
    [letter] = rig.letters()
    assert (letter.error_type, letter.attempts) == ("Transient", 3)


def test_the_seconds_of_a_budget_count_from_the_first_try(rig: Rig) -> None:
    rig.worker()
    tried = rig.directory / "tried"
    rig.send("trial.fails_briefly", str(tried))
    eventually(lambda: rig.letters() and rig.waiting() == 0, 60)
    moments = [float(line.split()[1]) for line in tried.read_text().splitlines()]
    assert len(moments) > 3
    assert 2.5 < moments[-1] - moments[0] < 10  # three seconds, on a slow machine too


def test_what_is_sent_again_every_second_floods_no_letters(rig: Rig) -> None:
    worker = rig.worker()
    for _ in range(5):
        rig.send("trial.beats")
    eventually(lambda: worker.text().count("action=task-failed") == 5 and rig.waiting() == 0)
    assert rig.letters() == []


def test_a_letter_that_cannot_be_written_keeps_its_task_going_round(rig: Rig) -> None:
    worker = rig.worker()
    execute(rig.control_url, "ALTER SCHEMA worker_sync_control RENAME TO away")
    rig.send("trial.fails", "permanent")
    eventually(lambda: worker.text().count("action=retry") >= 2, 30)
    eventually(lambda: rig.waiting() == 1)
    execute(rig.control_url, "ALTER SCHEMA away RENAME TO worker_sync_control")
    eventually(lambda: rig.letters() and rig.waiting() == 0, 60)


def test_a_killed_worker_parks_a_task_once_only(rig: Rig) -> None:
    worker = rig.worker()
    number = rig.send("trial.fails", "permanent")
    eventually(rig.letters)
    worker.kill()
    # A Redis that hasn't noticed yet would hand the next message to the dead.
    eventually(lambda: rig.waiting_clients() == 0)
    # After an hour Redis delivers once more what was not acknowledged, under the same number.
    rig.app.send_task("trial.fails", ("permanent",), task_id=number, queue="default")
    rig.worker()
    eventually(lambda: [letter.attempts for letter in rig.letters()] == [2], 30)


def test_a_task_whose_cause_is_mended_is_replayed_by_name_of_the_user(rig: Rig) -> None:
    rig.worker()
    done = rig.directory / "done"
    rig.send("trial.mends", str(done), 7)
    [letter] = eventually(rig.letters)
    done.touch()
    shown = rig.cli("dead-letters", "show", str(letter.id))
    assert (shown.code, "trial.mends" in shown.out, f"replay {letter.id}" in shown.out) == (0, True, True)
    replayed = rig.program("dead-letters", "replay", str(letter.id), "--json")
    assert (replayed.code, [one["outcome"] for one in replayed.json["letters"]]) == (0, ["sent"]), replayed.err
    eventually(lambda: done.read_text() == "7\n")
    [now] = rig.letters(ids=[letter.id], status=None)
    assert now.status is LetterStatus.REPLAYED
    assert now.resolved_by.startswith(f"{getpass.getuser()}@")
    again = rig.cli("dead-letters", "replay", str(letter.id))
    assert (again.code, "no parked letter" in again.err) == (2, True)


def test_a_replayed_task_that_fails_again_is_a_letter_of_its_own(rig: Rig) -> None:
    rig.worker()
    rig.send("trial.fails", "permanent")
    [letter] = eventually(rig.letters)
    assert rig.program("dead-letters", "replay", "--task", "trial.fails", "--all").code == 0
    [fresh] = eventually(rig.letters)
    assert fresh.id > letter.id


def test_letters_are_replayed_and_discarded_from_a_python_shell(rig: Rig) -> None:
    rig.worker("--name=trial", queues="default,dead_letter,cleanup")
    rig.send("trial.fails", "permanent")
    [letter] = eventually(rig.letters)
    rig.send("dead_letters.discard", [letter.id], queue="dead_letter", by="ann", note="a trial")
    [now] = eventually(lambda: rig.letters(ids=[letter.id], status=LetterStatus.DISCARDED))
    assert (now.resolved_by, now.note) == ("ann", "a trial")
    done = rig.directory / "done"
    rig.send("trial.mends", str(done), 7)
    [other] = eventually(rig.letters)
    done.touch()
    rig.send("dead_letters.replay", [other.id], queue="dead_letter")
    eventually(lambda: done.read_text() == "7\n")
    rig.send("dead_letters.purge", 0, queue="cleanup")
    eventually(lambda: rig.letters(status=None) == [])


def test_the_keys_of_changes_are_asked_for_table_by_table(rig: Rig) -> None:
    rig.control.dead_letters.park([change(1), change(2), change(3, "public.tags"), change(9, pipeline="gone")])
    done = rig.cli("dead-letters", "replay", "--kind", "change", "--all", "--json")
    assert done.code == 1  # nobody captures for the pipeline that is gone
    outcomes = [(one["key"], one["outcome"]) for one in done.json["letters"]]
    assert outcomes == [("[1]", "asked"), ("[2]", "asked"), ("[3]", "asked"), ("[9]", "failed")]
    asked = [(one.kind, one.pipeline, one.table, one.keys) for one in rig.control.signals.pending("shop")]
    assert asked == [
        (SignalKind.REPLAY, PIPELINE, "public.items", ["[1]", "[2]"]),
        (SignalKind.REPLAY, PIPELINE, "public.tags", ["[3]"]),
    ]
    # Only the capture knows when they are healed.
    assert len(rig.letters()) == 4


def test_waiting_for_a_replay_says_what_became_of_each_key(rig: Rig) -> None:
    rig.control.dead_letters.park([change(1), change(2)])
    healed, stuck = rig.letters()

    def capture() -> None:
        [signal] = eventually(lambda: rig.control.signals.pending("shop"))
        rig.control.dead_letters.resolve([healed.id], LetterStatus.REPLAYED, "capture")
        rig.control.signals.finish(signal.id, "1 of 2 keys replayed")

    thread = threading.Thread(target=capture)
    thread.start()
    done = rig.cli("dead-letters", "replay", "--all", "--wait", "--json")
    thread.join()
    outcomes = [(one["key"], one["outcome"]) for one in done.json["letters"]]
    assert (done.code, outcomes) == (1, [("[1]", "replayed"), ("[2]", "failed")])
    assert "still parked" in done.json["letters"][1]["detail"]
    late = rig.cli("dead-letters", "replay", str(stuck.id), "--wait", "--timeout", "1s")
    assert (late.code, "has not finished" in late.err) == (3, True)


def test_discarding_releases_the_keys_and_is_recorded(rig: Rig) -> None:
    rig.control.dead_letters.park([change(1), change(2)])
    first, _ = rig.letters()
    assert rig.cli("dead-letters", "discard", str(first.id), "--note", "a test row").code == 0
    [now] = rig.letters(ids=[first.id], status=None)
    assert (now.status, now.note) == (LetterStatus.DISCARDED, "a test row")
    [signal] = rig.control.signals.pending("shop")
    assert (signal.kind, signal.keys) == (SignalKind.RELEASE, ["[1]"])


def test_a_discard_says_what_has_become_of_each_letter(rig: Rig) -> None:
    rig.control.dead_letters.park([change(1), change(2), change(3), change(9, pipeline="gone")])
    letters = rig.letters()
    settings, decide = load(rig.config), rig.control.dead_letters.resolve
    decide([letters[0].id], LetterStatus.DISCARDED, "ann")  # or by this one, whose answer was lost
    decide([letters[1].id], LetterStatus.REPLAYED, "bob")
    decided = deciding.discard(settings, rig.control, letters, "ann", "")
    assert [one.outcome for one in decided] == ["discarded", "failed", "discarded", "discarded"]
    assert decided[0].detail == "discarded meanwhile by ann"
    assert decided[1].detail == "replayed meanwhile by bob"
    assert "no pipeline gone is configured" in decided[3].detail


def test_discarding_several_is_asked_for_again(rig: Rig) -> None:
    rig.control.dead_letters.park([change(1), change(2)])
    assert rig.program("dead-letters", "discard", "--all").code == 130  # nobody answered
    assert len(rig.letters()) == 2
    dry = rig.cli("dead-letters", "discard", "--all", "--dry-run")
    assert (dry.code, "2 letters would be discarded" in dry.out, len(rig.letters())) == (0, True, 2)
    assert rig.cli("dead-letters", "discard", "--all", "--yes").code == 0
    assert rig.letters() == []


def test_letters_are_listed_by_what_they_are_about(rig: Rig) -> None:
    rig.control.dead_letters.park([change(1), change(2), change(3, "public.tags")])
    listed = rig.cli("dead-letters", "list", "--table", "public.items", "--since", "1h", "--json")
    assert (listed.code, [one["key"] for one in listed.json["letters"]]) == (0, ["[1]", "[2]"])
    assert "payload" not in json.dumps(listed.json)
    assert [one["key"] for one in rig.cli("dead-letters", "list", "--key", "[3]", "--json").json["letters"]] == ["[3]"]
    few = rig.cli("dead-letters", "list", "--limit", "1", "--json").json
    assert (len(few["letters"]), few["more"]) == (1, True)
    text = rig.cli("dead-letters", "list", "--kind", "change")
    assert "Next: worker-sync dead-letters show ID" in text.out
    assert rig.cli("dead-letters", "list", "--status", "discarded").out == "No letters.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("replay", "--all"), 1, "nothing to replay"),
        (("discard", "--task", "x", "--all"), 1, "nothing to discard"),
        (("show", "99"), 1, "no letter 99"),
        (("replay",), 2, "say which letters"),
        (("replay", "1", "--all"), 2, "either numbers or filters"),
        (("replay", "99"), 2, "no parked letter has the number 99"),
        (("list", "--since", "soon"), 2, "no time"),
        (("purge", "--older-than", "soon"), 2, "no duration"),
    ],
)
def test_what_cannot_be_done_says_why(rig: Rig, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = rig.cli("dead-letters", *arguments)
    assert (done.code, says in done.err) == (code, True), done.err


def test_only_resolved_letters_are_purged(rig: Rig) -> None:
    rig.control.dead_letters.park([change(1), change(2)])
    first, _ = rig.letters()
    rig.control.dead_letters.resolve([first.id], LetterStatus.DISCARDED, "ann")
    assert rig.cli("dead-letters", "purge", "--json").json == {"removed": 0, "would_remove": 0}
    dry = rig.cli("dead-letters", "purge", "--older-than", "0s", "--dry-run", "--json")
    assert dry.json == {"removed": 0, "would_remove": 1}
    assert rig.cli("dead-letters", "purge", "--older-than", "0s", "--json").json["removed"] == 1
    assert len(rig.letters(status=None)) == 1
