"""MariaDB and MongoDB drop their log, read or not: what a target has not taken by then comes back from the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from connectors.mongodb.cluster import commit_of
from connectors.mongodb.source import MongoSource
from connectors.mysql.position import parse_position
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_mysql import new_mysql_database, run
from tests.integration.capture_rig import Rig, has_table, rig, rows_of, settings_for
from tests.integration.test_mongodb_source import _in, small_log
from tests.integration.test_retained_log import control_db
from tests.integration.test_spill import spilled
from worker_sync.core.sections import Spill

__all__ = ["control_db", "small_log"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KB = 1024
ROWS = 400
WINDOW = 256 * KB
#: Near as soon as the server says how long it keeps its log.
ALWAYS_NEAR = {"warn_left_s": 1e9}
SMALL = {"window_bytes": WINDOW, "batch_bytes": 32 * KB, "confirm_every_s": 0.1}


@contextmanager
def stalled(
    source: str,
    target: str,
    control: str,
    folder: Path,
    write: Callable[[int, int], None],
    table: str,
    limit: dict[str, float],
) -> Iterator[Rig]:
    """A capture that has copied a row, whose target then takes nothing, and which has more to send than may wait."""
    settings = settings_for(source, target, [table], SMALL)
    log = settings.databases["source"].retained_log.model_validate({**limit, "policy": "spill"})
    settings.databases["source"] = settings.databases["source"].model_copy(update={"retained_log": log})
    spill = Spill.model_validate({"key": "an-integration-tests-key-of-some-length", "directory": folder})
    write(0, 1)
    with rig(settings.model_copy(update={"spill": spill}), control) as made:
        made.start()
        eventually(lambda: has_table(target, table) and ids(target, table) == [0], 60, "the row is copied")
        made.delivery.open.clear()
        yield made


def ids(target: str, table: str) -> list[int]:
    column = "id" if table == "items" else "_id::text::int"
    return [number for (number,) in rows_of(target, f"SELECT {column} FROM {table} ORDER BY 1")]


def confirmed(made: Rig) -> str:
    checkpoint = made.store.checkpoints.load("source")
    assert checkpoint is not None
    return checkpoint.confirmed


def goes_on_without_its_log(
    made: Rig, target: str, table: str, folder: Path, write: Callable[[int, int], None]
) -> None:
    """Another capture, which finds nothing of the old log, and a target that is back."""
    assert spilled(folder)
    assert ids(target, table) == [0]
    made.delivery.lose_all()
    made.start()
    write(ROWS + 1, 50)
    made.delivery.open.set()
    wanted = list(range(ROWS + 51))
    eventually(lambda: ids(target, table) == wanted, 120, "everything arrives")
    eventually(lambda: spilled(folder) == [], 30, "the files are gone")


def test_mariadb_purges_what_stands_on_disk_and_nothing_is_lost(
    mariadb: str, target_db: str, control_db: str, tmp_path: Path
) -> None:
    with new_mysql_database(mariadb, "source") as source:
        run(source, "CREATE TABLE items (id int PRIMARY KEY, body text)")

        def write(first: int, rows: int) -> None:
            for number in range(first, first + rows):
                run(source, f"INSERT INTO items VALUES ({number}, REPEAT('x{number}', 1000))")

        with stalled(source, target_db, control_db, tmp_path, write, "items", {"limit_bytes": WINDOW}) as made:
            # All may be on disk, and confirmed, by the time that the last row is written.
            before = confirmed(made)
            write(1, ROWS)
            run(source, "FLUSH BINARY LOGS")
            newest = run(source, "SHOW BINARY LOGS")[-1][0]
            eventually(lambda: spilled(tmp_path) and confirmed(made) > before, 60, "it is confirmed from disk")
            run(source, "INSERT INTO items VALUES (-1, '')", "DELETE FROM items WHERE id = -1")
            number = int(newest.rpartition(".")[2])
            eventually(
                lambda: parse_position(confirmed(made)).file >= number, 60, "the newest file is all that is needed"
            )
            made.stop()

            def purged() -> bool:
                run(source, f"PURGE BINARY LOGS TO '{newest}'")
                return bool(run(source, "SHOW BINARY LOGS")[0][0] == newest)

            eventually(purged, 60, "the old log is gone")
            goes_on_without_its_log(made, target_db, "items", tmp_path, write)


@pytest.mark.long
def test_mongodb_overwrites_what_stands_on_disk_and_nothing_is_lost(
    small_log: str, target_db: str, control_db: str, tmp_path: Path
) -> None:
    source = _in(small_log, "shop")
    with MongoClient[dict[str, Any]](small_log) as client:

        def write(first: int, rows: int) -> None:
            for number in range(first, first + rows):
                client["shop"]["things"].insert_one({"_id": number, "body": f"x{number}" * 1000})

        def overwrite() -> None:
            client["other"]["filler"].insert_many([{"text": "x" * 200_000} for _ in range(5)])
            client["other"]["filler"].delete_many({})

        with stalled(source, target_db, control_db, tmp_path, write, "things", ALWAYS_NEAR) as made:
            before = confirmed(made)
            write(1, ROWS)
            with MongoSource("source", source) as asked:
                last = asked.stream_status().head

            def on_disk() -> bool:
                overwrite()  # until then the server does not say how long it keeps its log
                return bool(spilled(tmp_path)) and confirmed(made) >= last > before

            eventually(on_disk, 90, "it is confirmed from disk")

            def oldest() -> str:
                overwrite()
                [first] = client["local"]["oplog.rs"].find().sort("$natural", 1).limit(1)
                return commit_of(first["ts"])

            # The target takes nothing, and yet what is confirmed keeps ahead of what the server drops.
            eventually(lambda: oldest() > last, 90, "the log of all these rows is gone")
            made.stop()
            goes_on_without_its_log(made, target_db, "things", tmp_path, write)
