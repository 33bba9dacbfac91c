"""Refused changes are parked, everything else flows on, and a replay brings the rows as they are by then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from connectors.base import Mark
from connectors.registry import open_sink
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig, rig, rows_of, same, settings_for
from worker_sync.composition.workspace import Workspace
from worker_sync.core.parking import key_text
from worker_sync.core.settings import Settings
from worker_sync.store.dead_letters import DeadLetter, LetterStatus, Wanted
from worker_sync.store.pipelines import Status

log = logging.getLogger(__name__)

TABLE = "CREATE TABLE items (id bigint PRIMARY KEY, name text, amount numeric)"
CHECK = "ALTER TABLE items ADD CONSTRAINT short CHECK (length(name) < 9)"
MEND = "ALTER TABLE items DROP CONSTRAINT short"
BAD = "much too long"


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def marks(settings: Settings) -> dict[int, Mark]:
    database = settings.database("target")
    with open_sink("target", database.url.reveal()) as sink:
        return sink.marks("p")


def parked(settings: Settings) -> set[str]:
    return {key_text(key) for mark in marks(settings).values() for _, key in mark.parked}


def letters(made: Rig, status: LetterStatus | None = LetterStatus.PARKED) -> list[DeadLetter]:
    return made.store.dead_letters.find(Wanted(status=status, pipeline="p"))


def ask(made: Rig, kind: str, *keys: str, table: str = "public.items") -> Callable[[], str | None]:
    """Send a request; what came of it, once that is known."""
    number = made.store.signals.send("source", kind, "p", table, list(keys) or None)

    def result() -> str | None:
        found = made.store.signals.get(number)
        assert found is not None
        return found.result

    return result


def finished(result: Callable[[], str | None]) -> str:
    return eventually(lambda: result() or "", 60, "the request is finished")


@dataclass(frozen=True)
class Engine:
    """A target that refuses some rows until its cause is mended. `bad` is the name or amount of a refused row."""

    url: str
    refuse: Callable[[], object]
    mend: Callable[[], object]
    bad: str


def _mysql(url: str) -> Engine:
    from tests.fixtures.fix_mysql import run

    return Engine(
        url,
        lambda: run(url, "ALTER TABLE items MODIFY name varchar(9)"),
        lambda: run(url, "ALTER TABLE items MODIFY name longtext"),
        f"'{BAD}', 1",
    )


@pytest.fixture(params=["postgresql", "mysql", "mongodb"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "mysql":
        return _mysql(request.getfixturevalue("mariadb_target"))
    if request.param == "mongodb":
        # Decimal128 ends at 34 digits; here the row is mended in the source.
        url = request.getfixturevalue("mongo_target")
        return Engine(url, lambda: None, lambda: None, f"'x', {'1234567890' * 4}")
    url = request.getfixturevalue("target_db")
    return Engine(url, lambda: execute(url, CHECK), lambda: execute(url, MEND), f"'{BAD}', 1")


def arrived(settings: Settings) -> int:
    return sum(mark.changes for mark in marks(settings).values())


def verified(settings: Settings, control: str) -> bool:
    from worker_sync.cli.verify import run

    told = settings.model_copy(update={"control": type(settings.database("source").url)(control)})
    with Workspace(told) as space:
        return run(space, "p", 60, quiet=True).ok


@pytest.mark.slow
def test_three_bad_rows_of_a_thousand_changes_are_parked_and_a_replay_heals(
    source_db: str, engine: Engine, control_db: str
) -> None:
    execute(source_db, TABLE, "INSERT INTO items VALUES (0, 'first', 1)")
    settings = settings_for(source_db, engine.url, ["public.*"])
    with rig(settings, control_db) as made:
        made.start(stay=True)
        eventually(lambda: arrived(settings) == 1, 60)
        engine.refuse()
        with psycopg.connect(source_db) as connection:
            for number in range(1, 997):
                values = engine.bad if number in (10, 500, 700, 990) else "'fine', 1"
                connection.execute(f"INSERT INTO items VALUES ({number}, {values})".encode())
            # Later changes: one of a parked key, two of others, one of them a row that is bad for a moment only.
            connection.execute("UPDATE items SET name = name || '!' WHERE id = 10")
            connection.execute("DELETE FROM items WHERE id = 700")
            connection.execute("UPDATE items SET name = 'other' WHERE id = 11")
            connection.execute("INSERT INTO items VALUES (1000, 'last', 1)")
        started = time.monotonic()
        eventually(lambda: parked(settings) == {"[10]", "[500]", "[990]"}, 60)
        log.info("parking took %.2f s from commit to watermark", time.monotonic() - started)
        found = [(letter.key, letter.op, letter.attempts) for letter in letters(made)]
        assert found == [("[10]", "c", 1), ("[500]", "c", 1), ("[990]", "c", 1), ("[10]", "u", 0)]
        assert not any(word in letter.error for letter in letters(made) for word in (BAD, "1234567890"))
        assert arrived(settings) == 1 + 1000 - 4
        assert made.store.pipelines.get("p").status is Status.RUNNING
        # More of them, and of others.
        execute(source_db, "UPDATE items SET name = 'again' WHERE id = 990", "INSERT INTO items VALUES (1001, 'x', 1)")
        eventually(lambda: arrived(settings) == 1 + 1000 - 4 + 1, 60)
        assert len(letters(made)) == 5
        assert not verified(settings, control_db)
        engine.mend()
        if engine.url.startswith("mongodb"):
            execute(source_db, "UPDATE items SET amount = 2 WHERE amount > 2")
        execute(source_db, "UPDATE items SET name = 'mended' WHERE id = 990", "DELETE FROM items WHERE id = 500")
        assert finished(ask(made, "replay", "[10]", "[500]", "[990]")) == "done"
        assert letters(made) == []
        assert {letter.status for letter in letters(made, None)} == {LetterStatus.REPLAYED}
        assert parked(settings) == set()
        execute(source_db, "UPDATE items SET name = 'after' WHERE id = 10")
        assert verified(settings, control_db)
        made.stop()


def start_with_parked(made: Rig, source: str, target: str, *keys: int) -> None:
    """A running pipeline with rows 1 to 20 of which `keys` are parked."""
    execute(source, TABLE, "INSERT INTO items SELECT n, 'old', n FROM generate_series(1, 20) n")
    made.start(stay=True)
    eventually(lambda: arrived(made.settings) == 20, 60)
    execute(target, CHECK, "CREATE UNIQUE INDEX ON items (amount)")
    for key in keys:
        execute(source, f"UPDATE items SET name = '{BAD}' WHERE id = {key}")
    eventually(lambda: parked(made.settings) == {f"[{key}]" for key in keys}, 60)


def test_a_replay_that_is_refused_again_keeps_the_key_parked_and_says_so(
    source_db: str, target_db: str, control_db: str
) -> None:
    settings = settings_for(source_db, target_db, ["public.*"])
    with rig(settings, control_db) as made:
        start_with_parked(made, source_db, target_db, 3, 4)
        execute(source_db, "UPDATE items SET name = 'short' WHERE id = 4")
        assert finished(ask(made, "replay", "[3]", "[4]")) == "1 of 2 keys are still parked"
        assert parked(settings) == {"[3]"}
        (letter,) = letters(made)
        assert (letter.key, letter.attempts, letter.error_type) == ("[3]", 2, "TargetRejected")
        assert rows_of(target_db, "SELECT name FROM items WHERE id IN (3, 4) ORDER BY id") == [("old",), ("short",)]
        execute(target_db, MEND)
        # All that is parked of the pipeline, without naming it.
        assert finished(ask(made, "replay")) == "done"
        eventually(lambda: same(source_db, target_db, "items"), 30)
        assert letters(made) == []
        made.stop()


def test_a_replay_amid_traffic_on_its_keys_never_goes_back_in_time(
    source_db: str, target_db: str, control_db: str
) -> None:
    settings = settings_for(source_db, target_db, ["public.*"])
    with rig(settings, control_db) as made:
        start_with_parked(made, source_db, target_db, 3, 4, 5, 6)
        execute(target_db, MEND)
        done = ask(made, "replay")
        number = 100
        with psycopg.connect(source_db, autocommit=True) as connection:
            while done() is None:
                number += 1
                connection.execute(f"UPDATE items SET name = 'n{number}' WHERE id IN (3, 7)".encode())
                connection.execute(b"DELETE FROM items WHERE id = 4")
                connection.execute(f"INSERT INTO items VALUES (4, 'n{number}', {number})".encode())
                connection.execute(f"UPDATE items SET id = {number} WHERE id = 5".encode())
                connection.execute(f"UPDATE items SET id = 5 WHERE id = {number}".encode())
                connection.execute(b"DELETE FROM items WHERE id = 6")
        # Keys that the rows had for a moment were held with them: they stay parked until their own replay.
        while letters(made):
            finished(ask(made, "replay"))
        assert parked(settings) == set()
        eventually(lambda: same(source_db, target_db, "items"), 30)
        made.stop()


def test_a_released_key_flows_again_from_there_on(source_db: str, target_db: str, control_db: str) -> None:
    settings = settings_for(source_db, target_db, ["public.*"])
    with rig(settings, control_db) as made:
        start_with_parked(made, source_db, target_db, 3, 4)
        wanted = Wanted(pipeline="p", key="[3]")
        discarded = [letter.id for letter in made.store.dead_letters.find(wanted)]
        made.store.dead_letters.resolve(discarded, LetterStatus.DISCARDED, "somebody", "not needed")
        assert finished(ask(made, "release", "[3]")) == "done"
        assert parked(settings) == {"[4]"}
        assert rows_of(target_db, "SELECT name FROM items WHERE id = 3") == [("old",)]
        execute(source_db, "UPDATE items SET name = 'newer' WHERE id = 3")
        eventually(lambda: rows_of(target_db, "SELECT name FROM items WHERE id = 3") == [("newer",)], 30)
        assert [letter.key for letter in letters(made)] == ["[4]"]
        (old,) = letters(made, LetterStatus.DISCARDED)
        assert (old.resolved_by, old.note) == ("somebody", "not needed")
        made.stop()


@pytest.mark.slow
def test_parked_keys_move_with_the_number_of_shards(source_db: str, target_db: str, control_db: str) -> None:
    settings = settings_for(source_db, target_db, ["public.*"], shards=1)
    keys = range(1, 9)
    with rig(settings, control_db) as made:
        start_with_parked(made, source_db, target_db, *keys)
        for shards in (3, 2):
            made.stop()
            made.settings.pipelines["p"] = settings.pipelines["p"].model_copy(update={"shards": shards})
            made.start(stay=True)
            eventually(lambda shards=shards: made.store.checkpoints.load("source").lanes.keys() == {  # type: ignore[misc, union-attr]
                f"p/{number}" for number in range(shards)
            }, 60)  # fmt: skip
            assert parked(settings) == {f"[{key}]" for key in keys}
            before = len(letters(made))
            execute(source_db, "UPDATE items SET amount = -amount WHERE id < 9")
            eventually(lambda before=before: len(letters(made)) == before + 8, 60)  # type: ignore[misc]
        execute(target_db, MEND)
        assert finished(ask(made, "replay")) == "done"
        eventually(lambda: same(source_db, target_db, "items"), 30)
        assert (parked(settings), letters(made)) == (set(), [])
        made.stop()


def test_a_truncate_lets_the_keys_of_all_shards_go(source_db: str, target_db: str, control_db: str) -> None:
    settings = settings_for(source_db, target_db, ["public.*"], shards=3)
    with rig(settings, control_db) as made:
        start_with_parked(made, source_db, target_db, *range(1, 9))
        execute(source_db, "TRUNCATE items", "INSERT INTO items SELECT n, 'new', n FROM generate_series(1, 20) n")
        eventually(lambda: same(source_db, target_db, "items"), 60)
        eventually(lambda: not letters(made), 60)
        assert parked(settings) == set()
        made.stop()


@pytest.mark.slow
@pytest.mark.parametrize("table", ["public.items", None])
def test_a_resync_makes_what_was_parked_void(
    source_db: str, target_db: str, control_db: str, table: str | None
) -> None:
    settings = settings_for(source_db, target_db, ["public.*"])
    with rig(settings, control_db) as made:
        start_with_parked(made, source_db, target_db, 3, 4)
        execute(source_db, "UPDATE items SET name = 'short' WHERE id = 3")
        number = made.store.signals.send("source", "resync", "p", table)
        eventually(lambda: (s := made.store.signals.get(number)) is not None and s.result == "done", 60)
        # Row 4 is still refused: it is parked anew, as the copy reads it, and its letters say so.
        eventually(lambda: parked(settings) == {"[4]"}, 30)
        eventually(lambda: {letter.key for letter in letters(made)} == {"[4]"}, 30)
        assert rows_of(target_db, "SELECT name FROM items WHERE id = 3") == [("short",)]
        execute(target_db, MEND)
        assert finished(ask(made, "replay")) == "done"
        eventually(lambda: same(source_db, target_db, "items"), 30)
        made.stop()


@pytest.mark.slow
def test_a_bad_row_of_a_copy_is_parked_and_replayed_while_the_copy_goes_on(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE, "INSERT INTO items SELECT n, 'old', n FROM generate_series(1, 3000) n")
    execute(source_db, f"UPDATE items SET name = '{BAD}' WHERE id IN (5, 2500)")
    execute(target_db, TABLE, CHECK)
    settings = settings_for(source_db, target_db, ["public.*"], {"snapshot_rows": 50})
    with rig(settings, control_db) as made:
        made.start(stay=True)
        eventually(lambda: "[5]" in parked(settings), 60)
        execute(source_db, "UPDATE items SET name = 'short' WHERE id = 5")
        assert finished(ask(made, "replay", "[5]")) == "done"
        eventually(lambda: arrived(settings) >= 2999 and parked(settings) == {"[2500]"}, 60)
        eventually(
            lambda: all(state.done for mark in marks(settings).values() for state in mark.snapshots.values()), 60
        )
        execute(target_db, MEND)
        assert finished(ask(made, "replay")) == "done"
        eventually(lambda: same(source_db, target_db, "items"), 30)
        assert letters(made) == []
        made.stop()


def test_a_key_that_cannot_be_read_stays_parked(source_db: str, target_db: str, control_db: str) -> None:
    settings = settings_for(source_db, target_db, ["public.*"])
    with rig(settings, control_db) as made:
        start_with_parked(made, source_db, target_db, 3)
        assert finished(ask(made, "replay", "[3,4]")) == "done"
        assert finished(ask(made, "replay", "[3]", table="public.nothing")) == "done"
        assert finished(ask(made, "replay", "nonsense")) == "done"
        assert parked(settings) == {"[3]"}
        assert made.store.pipelines.get("p").status is Status.RUNNING
        made.stop()


def test_a_watermark_table_of_before_is_brought_up_to_date(source_db: str, target_db: str, control_db: str) -> None:
    settings: Any = settings_for(source_db, target_db, ["public.*"])
    with rig(settings, control_db) as made:
        execute(source_db, TABLE)
        made.start(stay=True)
        eventually(lambda: marks_there(settings), 60)
        # Under a running system, as when workers of a new version meet a capture of the old one.
        execute(target_db, "ALTER TABLE worker_sync.watermarks DROP COLUMN parked")
        execute(source_db, "INSERT INTO items VALUES (1, 'x', 1)")
        eventually(lambda: same(source_db, target_db, "items"), 60)
        made.stop()


def marks_there(settings: Settings) -> bool:
    try:
        return bool(marks(settings))
    except psycopg.Error:
        return False
