"""Workers that are killed while they park: no letter is lost, none is written twice, everything else arrives once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

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
