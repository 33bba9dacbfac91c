"""What a trail records is told by the trail: nobody takes a table out of it, or keeps a column back, without a mark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.ledger.reader import LedgerReader
from connectors.ledger.verification import verify_tables
from tests.fixtures import fix_mysql
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.integration.capture_rig import Rig, rig, same
from tests.integration.partition_moves import execute
from tests.integration.test_audit import TRAIL, changes, entries, settings_for
from tests.unit.ledger.ledgers import OLD, verifier
from worker_sync.ledger.findings import Kind
from worker_sync.ledger.verify import Trust

BOTH = ["public.items", "public.orders"]
TABLES = (
    "CREATE TABLE items (id int PRIMARY KEY, note text)",
    "CREATE TABLE orders (id int PRIMARY KEY, note text)",
)


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def started(running: Rig, source: str, control: str, *tables: Any, sync_to: str = "") -> None:
    """Go on with another configuration."""
    running.stop()
    running.settings = settings_for(source, control, list(tables), sync_to)
    running.delivery.use(running.settings)
    running.start()


def told(control: str) -> list[tuple[Any, ...]]:
    return [(one["added"], one["removed"], one["narrowed"]) for one in entries(control) if one["kind"] == "scope"]


def gaps(control: str) -> list[str]:
    return [one["reason"] for one in entries(control) if one["kind"] == "gap"]


def recorded(control: str) -> list[tuple[str, Any]]:
    return [(one["table"], one["key"]) for one in entries(control) if one["kind"] == "change"]


def until_told(control: str, count: int) -> None:
    eventually(lambda: len(told(control)) == count, 60, f"the trail has said {count} times what it records")


def test_a_table_that_leaves_and_comes_back_leaves_a_gap(source_db: str, control_db: str) -> None:
    execute(source_db, *TABLES)
    with rig(settings_for(source_db, control_db, BOTH), control_db) as running:
        running.start()
        until_told(control_db, 1)
        execute(source_db, "INSERT INTO orders VALUES (1)")
        changes(control_db, 1)
        started(running, source_db, control_db, "public.items")
        until_told(control_db, 2)
        execute(source_db, "UPDATE orders SET note = 'unseen'", "INSERT INTO items VALUES (1)")
        changes(control_db, 2)
        started(running, source_db, control_db, *BOTH)
        until_told(control_db, 3)
        execute(source_db, "INSERT INTO orders VALUES (2)")
        found = changes(control_db, 3)
        started(running, source_db, control_db, *BOTH)
        execute(source_db, "INSERT INTO orders VALUES (3)")
        changes(control_db, 4)
    assert [entry["table"] for entry in found] == ["public.orders", "public.items", "public.orders"]
    assert told(control_db) == [(BOTH, [], []), ([], ["public.orders"], []), (["public.orders"], [], [])]
    assert gaps(control_db) == ["public.orders is recorded no more"]


def test_a_table_that_was_out_while_the_trail_was_paused_leaves_a_gap(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, *TABLES)
    with rig(settings_for(source_db, control_db, BOTH, sync_to=target_db), control_db) as running:
        running.start()
        until_told(control_db, 1)
        running.store.pipelines.pause(TRAIL, "test")
        started(running, source_db, control_db, "public.items", sync_to=target_db)
        for item in (1, 2):
            execute(source_db, f"INSERT INTO items VALUES ({item})")
            eventually(lambda: same(source_db, target_db, "items"), 60, "the capture reads the log without the table")
            execute(source_db, f"INSERT INTO orders VALUES ({1 - item})")
        running.store.pipelines.resume(TRAIL)
        started(running, source_db, control_db, *BOTH, sync_to=target_db)
        until_told(control_db, 2)
        execute(source_db, "INSERT INTO orders VALUES (2)")
        eventually(lambda: ("public.orders", {"id": "2"}) in recorded(control_db), 60, "it is recorded again")
        started(running, source_db, control_db, *BOTH, sync_to=target_db)
        execute(source_db, "INSERT INTO orders VALUES (3)")
        eventually(lambda: ("public.orders", {"id": "3"}) in recorded(control_db), 60, "it goes on")
        running.stop()
    assert ("public.orders", {"id": "0"}) not in recorded(control_db)
    assert gaps(control_db) == ["public.orders was out of the trail for a while"]
    assert told(control_db) == [(BOTH, [], []), (["public.orders"], [], [])]


def test_verification_reports_it(source_db: str, control_db: str) -> None:
    execute(source_db, *TABLES)
    with rig(settings_for(source_db, control_db, BOTH), control_db) as running:
        running.start()
        until_told(control_db, 1)
        started(running, source_db, control_db, "public.items")
        until_told(control_db, 2)
        running.stop()
    with LedgerReader(control_db) as reader:
        report = verify_tables(reader, Trust([verifier(OLD)]))
    assert [(found.first, found.last) for found in report.findings if found.kind is Kind.GAP] == [(2, 2)]
    assert (entries(control_db)[2]["kind"], report.counts[Kind.GAP]) == ("gap", 1)


def test_a_column_that_is_kept_back_leaves_a_gap(source_db: str, control_db: str) -> None:
    execute(source_db, *TABLES)
    with rig(settings_for(source_db, control_db, ["public.orders"]), control_db) as running:
        running.start()
        until_told(control_db, 1)
        started(running, source_db, control_db, {"name": "public.orders", "columns": {"exclude": ["note"]}})
        until_told(control_db, 2)
        started(running, source_db, control_db, "public.orders")
        until_told(control_db, 3)
        running.stop()
    assert told(control_db)[1:] == [([], [], ["public.orders"]), ([], [], [])]
    assert gaps(control_db) == ["note of public.orders not, or not in clear"]


def test_a_new_table_that_the_rules_mean_is_told_when_it_is_recorded(source_db: str, control_db: str) -> None:
    execute(source_db, TABLES[0])
    with rig(settings_for(source_db, control_db, ["public.*"]), control_db) as running:
        running.start()
        until_told(control_db, 1)
        execute(source_db, TABLES[1])
        until_told(control_db, 2)
        execute(source_db, "INSERT INTO orders VALUES (1)")
        changes(control_db, 1)
        running.stop()
    assert told(control_db) == [(["public.items"], [], []), (["public.orders"], [], [])]
    assert gaps(control_db) == []


def test_a_table_that_was_dropped_is_told_once(source_db: str, control_db: str) -> None:
    execute(source_db, *TABLES)
    with rig(settings_for(source_db, control_db, ["public.*"]), control_db) as running:
        running.start()
        until_told(control_db, 1)
        execute(source_db, "DROP TABLE orders")
        eventually(lambda: entries(control_db)[-1]["kind"] == "schema", 60, "its end is recorded")
        started(running, source_db, control_db, "public.*")
        execute(source_db, "INSERT INTO items VALUES (1)")
        changes(control_db, 1)
        running.stop()
    assert [entry["kind"] for entry in entries(control_db)] == ["begin", "scope", "schema", "change"]


def test_the_log_of_mysql_has_it_too(either_source: str, control_db: str) -> None:
    for table in ("items", "orders"):
        fix_mysql.run(either_source, f"CREATE TABLE {table} (id int PRIMARY KEY)")
    with rig(settings_for(either_source, control_db, ["items", "orders"]), control_db) as running:
        running.start()
        until_told(control_db, 1)
        started(running, either_source, control_db, "items")
        until_told(control_db, 2)
        fix_mysql.run(either_source, "INSERT INTO orders VALUES (1)")
        fix_mysql.run(either_source, "INSERT INTO items VALUES (1)")
        assert [entry["table"].rpartition(".")[2] for entry in changes(control_db, 1)] == ["items"]
        running.stop()
    assert [[name.rpartition(".")[2] for name in removed] for _, removed, _ in told(control_db)] == [[], ["orders"]]
    assert len(gaps(control_db)) == 1
