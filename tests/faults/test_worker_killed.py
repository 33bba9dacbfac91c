"""Workers that are killed in the middle of an apply."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from tests.faults.harness import System, execute, mongo
from tests.faults.load import Load
from tests.fixtures.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND application_name = 'worker-sync'"
)


@contextlib.contextmanager
def table_held(url: str) -> Iterator[None]:
    """No apply can pass this table."""
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE items IN EXCLUSIVE MODE")
        yield


@contextlib.contextmanager
def watermark_held(url: str) -> Iterator[None]:
    """No apply can pass this pipeline's watermark document."""
    with mongo(url) as database, database.client.start_session() as session:
        eventually(lambda: takes_watermark(database, session), 60, "the watermark is ours")
        yield
        session.abort_transaction()


def takes_watermark(database: Any, session: ClientSession) -> bool:
    """In a transaction that stays open; False when an apply was faster."""
    session.start_transaction()
    try:
        database.worker_sync_watermarks.update_one({"_id.p": "catalog"}, {"$inc": {"turns": 1}}, session=session)
    except OperationFailure as error:
        session.abort_transaction()
        if error.has_error_label("TransientTransactionError"):
            return False
        raise
    return True


def waits_for_watermark(url: str) -> bool:
    with mongo(url) as database:
        found = database.client.admin.aggregate(
            [
                {"$currentOp": {}},
                {"$match": {"ns": f"{database.name}.worker_sync_watermarks", "writeConflicts": {"$gt": 0}}},
            ]
        )
        return bool(list(found))


def kill_in_the_middle(system: System, times: int) -> None:
    target = system.targets["reporting"]
    worker = system.worker()
    for _ in range(times):
        system.await_progress(50, 90)
        with table_held(target):
            system.until(lambda: execute(target, WAITING), "an apply waits for the table")
            worker.kill()
        worker = system.worker()
    system.await_progress(1, 90)


def test_workers_killed_in_the_middle_of_an_apply_lose_and_double_nothing(system: System) -> None:
    with Load(system.source):
        system.capture()
        kill_in_the_middle(system, 3)
    system.assert_same()


@pytest.mark.long
def test_workers_killed_fifteen_times_lose_and_double_nothing(system: System) -> None:
    with Load(system.source):
        system.capture()
        kill_in_the_middle(system, 15)
    system.assert_same()


def test_a_worker_killed_while_mongodb_makes_it_wait_leaves_nothing_half_done(system: System) -> None:
    target = system.targets["catalog"]
    with Load(system.source):
        system.capture()
        worker = system.worker()
        for _ in range(2):
            system.await_progress(50, 90)
            with watermark_held(target):
                system.until(lambda: waits_for_watermark(target), "an apply waits for the watermark")
                worker.kill()
            worker = system.worker()
        system.await_progress(1, 90)
    system.assert_same()


def test_one_of_two_workers_is_killed_and_the_other_goes_on(system: System) -> None:
    with Load(system.source):
        system.capture()
        workers = [system.worker(), system.worker()]
        for _ in range(2):
            system.await_progress(50, 90)
            workers.pop(0).kill()
            system.await_progress(50, 90)
            workers.append(system.worker())
        system.await_progress(1, 90)
    system.assert_same()
