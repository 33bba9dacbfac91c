"""Workers that are killed while they park: no letter is lost, none is written twice, everything else arrives once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.failpoints import DECISIONS, PARKING
from tests.faults.harness import System, execute, marks_in, running_system
from tests.faults.load import fill
from worker_sync.core.parking import key_text
from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import DeadLetter, LetterStatus, Wanted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 50
LOCK = 7_700
POISON = "CHECK (name <> 'poison')"
#: Whoever changes the parked keys of a shard waits for whoever has the lock.
GATE = (
    (
        "CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NEW; END $$"
    ),
    (
        "CREATE TRIGGER gate BEFORE UPDATE ON worker_sync.watermarks FOR EACH ROW "
        "WHEN (NEW.parked IS DISTINCT FROM OLD.parked) EXECUTE FUNCTION public.gate()"
    ),
    "ALTER TABLE worker_sync.watermarks ENABLE ALWAYS TRIGGER gate",
)
AT_THE_GATE = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
BAD = (1010, 1500, 1990)


@pytest.fixture
def simple(tables: str, target_db: str, control_db: str, redis_url: str, tmp_path: Path) -> Iterator[System]:
    """PostgreSQL into PostgreSQL, loaded, with a rule in the target that its source does not have."""
    capture = {"batch_changes": 4000}
    with running_system(tmp_path, tables, {"reporting": target_db}, control_db, redis_url, capture) as system:
        fill(system.source, ROWS)
        system.capture()
        loader = system.worker()
        system.until(system.loaded, "the snapshots are applied", 90)
        loader.kill()
        execute(target_db, f"ALTER TABLE items ADD CONSTRAINT harmless {POISON}")
        yield system


def poison(system: System) -> None:
    """A thousand changes in one transaction, three of them bad."""
    bad = ", ".join(map(str, BAD))
    execute(
        system.source,
        f"INSERT INTO items SELECT n, CASE WHEN n IN ({bad}) THEN 'poison' ELSE 'fine' END, n, 'b' "
        "FROM generate_series(1001, 2000) n",
    )


def letters(system: System, status: LetterStatus | None = LetterStatus.PARKED) -> list[DeadLetter]:
    with ControlStore(system.control) as store:
        return store.dead_letters.find(Wanted(status=status))


def parked(system: System) -> set[str]:
    return {key_text(key) for mark in marks_in(system.targets["reporting"], "reporting") for _, key in mark.parked}


def arrived(system: System) -> int:
    ((count,),) = execute(system.targets["reporting"], "SELECT count(*) FROM items WHERE id > 1000")
    return int(count)


def parked_exactly(system: System) -> None:
    """What was bad is parked, once, and all the rest has arrived."""
    system.until(lambda: parked(system) == {f"[{key}]" for key in BAD}, "the bad rows are parked", 90)
    assert [letter.key for letter in letters(system)] == [f"[{key}]" for key in BAD]
    assert arrived(system) == 1000 - len(BAD)
    assert system.status("reporting")["state"] == "running"


def heals(system: System) -> None:
    """Verification names the parked rows, and is clean after a replay."""
    told = system.cli("verify", "reporting")
    assert told.code == 1
    assert "parked keys that differ: 3" in told.out
    execute(system.targets["reporting"], "ALTER TABLE items DROP CONSTRAINT harmless")
    execute(system.source, "UPDATE items SET amount = 7 WHERE id = 1010", "DELETE FROM items WHERE id = 1500")
    with ControlStore(system.control) as store:
        number = store.signals.send("source", "replay", "reporting", "public.items", [f"[{key}]" for key in BAD])

        def replayed() -> bool:
            found = store.signals.get(number)
            return found is not None and found.result == "done"

        system.until(replayed, "the replay is applied", 90)
    assert letters(system) == []
    assert {letter.status for letter in letters(system, None)} == {LetterStatus.REPLAYED}
    system.assert_same()


def test_a_worker_killed_between_the_letters_and_the_rest_parks_once(simple: System) -> None:
    target = simple.targets["reporting"]
    execute(target, *GATE)
    worker = simple.worker()
    with psycopg.connect(target) as connection:
        connection.execute(f"SELECT pg_advisory_lock({LOCK})".encode())
        poison(simple)
        simple.until(lambda: execute(target, AT_THE_GATE), "the letters are written and the apply is under way", 90)
        assert len(letters(simple)) == len(BAD)
        assert arrived(simple) == 0
        worker.kill()
    simple.worker()
    parked_exactly(simple)
    heals(simple)


def test_a_worker_killed_after_parking_parks_nothing_again(simple: System) -> None:
    worker = simple.worker()
    poison(simple)
    simple.until(lambda: parked(simple), "the bad rows are parked", 90)
    worker.kill()
    simple.worker()
    execute(
        simple.source, "UPDATE items SET amount = 1 WHERE id = 1990", "INSERT INTO items VALUES (3000, 'x', 1, 'y')"
    )
    simple.until(lambda: arrived(simple) == 1000 - len(BAD) + 1, "the next row arrives", 90)
    # A change of a parked key waits behind it.
    assert [letter.key for letter in letters(simple)] == [*(f"[{key}]" for key in BAD), "[1990]"]
    heals(simple)


@pytest.mark.long
def test_two_workers_and_a_capture_that_is_killed_park_once(simple: System) -> None:
    simple.worker()
    simple.worker()
    poison(simple)
    simple.until(lambda: letters(simple), "the first letters are written", 90)
    simple.roles[0].kill()
    simple.capture()
    parked_exactly(simple)
    heals(simple)


def decides(system: System, command: str) -> None:
    """Until nothing is parked, whatever of the decision was carried out before."""
    asked = system.cli("dead-letters", command, "--all", *(["--yes"] if command == "discard" else []))
    assert asked.code == 0 or "nothing to" in asked.text, asked.text
    system.until(lambda: letters(system) == [] and parked(system) == set(), "nothing is parked", 90)


@pytest.mark.long
@pytest.mark.parametrize("name", [point.name for point in PARKING])
def test_a_worker_that_dies_at_a_step_of_parking_parks_once(simple: System, name: str) -> None:
    (point,) = (point for point in PARKING if point.name == name)
    poison(simple)
    simple.strike(point.name, "worker", "--queues", "sync", "--grace", "1")
    simple.worker()
    parked_exactly(simple)
    heals(simple)


@pytest.mark.long
@pytest.mark.parametrize("name", [point.name for point in DECISIONS])
def test_a_decision_that_dies_at_a_step_is_carried_out_when_it_is_tried_again(simple: System, name: str) -> None:
    (point,) = (point for point in DECISIONS if point.name == name)
    simple.worker()
    poison(simple)
    parked_exactly(simple)
    execute(simple.targets["reporting"], "ALTER TABLE items DROP CONSTRAINT harmless")
    execute(simple.source, "UPDATE items SET amount = 7 WHERE id = 1010", "DELETE FROM items WHERE id = 1500")
    simple.until(lambda: len(letters(simple)) == len(BAD) + 2, "the later changes wait behind the bad ones", 90)
    if point.role == "capture":
        simple.roles[0].kill()
        assert simple.cli("dead-letters", "replay", "--all").code == 0
        simple.strike(point.name, "capture", "source")
        simple.capture()
        simple.until(lambda: letters(simple) == [] and parked(simple) == set(), "it is replayed by the next one", 90)
    else:
        simple.strike(point.name, "dead-letters", point.role, "--all", *(["--yes"] if point.role == "discard" else []))
        decides(simple, point.role)
    # No key is withheld by anybody: what is written from now on arrives.
    execute(simple.source, "UPDATE items SET amount = 9 WHERE id IN (1010, 1990)", "DELETE FROM items WHERE id = 1011")
    simple.assert_same()
    assert {letter.status for letter in letters(simple, None)} == {
        LetterStatus.DISCARDED if point.role == "discard" else LetterStatus.REPLAYED
    }
