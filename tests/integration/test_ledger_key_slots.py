"""One master for a ledger, whoever makes it at the same time, and slots that can be removed and not be changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from connectors.ledger.reader import LedgerReader
from connectors.ledger.revealing import Revealer
from connectors.ledger.sink import LedgerSink
from tests.fixtures.eventually import eventually
from tests.integration.ledger_rig import fenced, read
from tests.integration.test_ledger_personal import (
    ANN,
    KEY,
    PERSONAL,
    SECRET,
    customers,
    dump,
    insert,
    ledger,
    master,
    opened,
    rows,
)
from tests.integration.test_ledger_schema import finding
from worker_sync.core.errors import ConfigError, Halt, State
from worker_sync.ledger.envelope import MasterKey
from worker_sync.ledger.key_slot import PersonalKey
from worker_sync.ledger.personal import Personal

__all__ = ["ledger"]

OTHER = PersonalKey("another key of 32 characters, or more")
SLOTS = "SELECT slot, is_first, wrapped_master IS NOT NULL FROM worker_sync_ledger.personal_keys ORDER BY slot"
REMOVE = "UPDATE worker_sync_ledger.personal_keys SET wrapped_master = NULL, removed_at = now() WHERE slot = %s"
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""


def add_slot(url: str, key: PersonalKey) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO worker_sync_ledger.personal_keys (slot, is_first, wrapped_master) VALUES (%s, false, %s)",
            (key.slot, key.wrap(master(url))),
        )


def waiting(url: str, count: int) -> Callable[[], bool]:
    return lambda: bool(rows(url, WAITING) == [(count,)])


@contextmanager
def first_slot_uncommitted(url: str, key: PersonalKey, master_key: MasterKey) -> Iterator[psycopg.Connection[Any]]:
    """Somebody is about to make the first slot; what is done with it is done to the connection."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO worker_sync_ledger.personal_keys (slot, is_first, wrapped_master) VALUES (%s, true, %s)",
            (key.slot, key.wrap(master_key)),
        )
        yield connection


def test_the_first_change_with_personal_data_makes_the_first_slot(ledger: LedgerSink, target_db: str) -> None:
    assert rows(target_db, SLOTS) == []
    ledger.apply(customers(1, insert(ANN)))
    assert rows(target_db, SLOTS) == [(KEY.slot, True, True)]
    stored = dump(target_db)
    assert not [text for text in (SECRET, master(target_db).reveal().hex()) if text in stored]
    with opened(target_db) as again:
        again.apply(customers(2, insert(ANN)))
    assert rows(target_db, SLOTS) == [(KEY.slot, True, True)]


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_eight_recorders_of_a_new_ledger_agree_on_one_master(ledger: LedgerSink, target_db: str, ending: str) -> None:
    sources = [f"s{number}" for number in range(8)]
    columns = PERSONAL.tables["shop", "public.customers"]
    personal = Personal(KEY, {(source, "public.customers"): columns for source in sources})

    def record(source: str) -> None:
        with LedgerSink("ledger", f"ledger+{target_db}", personal) as sink:
            fenced(sink, f"audit.{source}")
            sink.apply(customers(1, insert(ANN), trail=f"audit.{source}"))

    begun = MasterKey.generate()
    with ThreadPoolExecutor(8) as pool:
        with first_slot_uncommitted(target_db, KEY, begun) as connection:
            done = [pool.submit(record, source) for source in sources]
            # All of them have seen that there is no slot.
            eventually(waiting(target_db, 8), 60, "all recorders wait")
            getattr(connection, ending)()
        for one in done:
            one.result(60)
    assert rows(target_db, SLOTS) == [(KEY.slot, True, True)]
    found = master(target_db)
    assert (found.reveal() == begun.reveal()) == (ending == "commit")
    recorded = [entry for entry in read(target_db) if entry["kind"] == "change"]
    assert {entry["after"]["name"]["subject"] for entry in recorded} == {
        found.subject_id(source, "customers", ANN[0]) for source in sources
    }
    with LedgerReader(target_db) as reader:
        revealer = Revealer(reader, KEY)
        assert [revealer.reveal(entry)["after"]["name"] for entry in recorded] == [ANN[1]] * 8


def test_of_two_keys_that_come_first_at_once_one_makes_the_master(ledger: LedgerSink, target_db: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        with first_slot_uncommitted(target_db, OTHER, MasterKey.generate()) as connection:
            done = pool.submit(ledger.apply, customers(1, insert(ANN)))
            eventually(waiting(target_db, 1), 60, "the recorder waits")
            connection.commit()
        with pytest.raises(Halt) as caught:
            done.result(60)
    assert caught.value.state == State.PREFLIGHT_FAILED
    assert rows(target_db, SLOTS) == [(OTHER.slot, True, True)]
    with pytest.raises(psycopg.errors.UniqueViolation), first_slot_uncommitted(target_db, KEY, MasterKey.generate()):
        pass


def test_a_key_without_a_slot_is_told_which_there_are(ledger: LedgerSink, target_db: str) -> None:
    ledger.apply(customers(1, insert(ANN)))
    said = f"ledger.personal_key opens no key slot of this ledger: its own would be {OTHER.slot}, there are: {KEY.slot}"
    with opened(target_db, OTHER) as other, pytest.raises(Halt) as caught:
        other.apply(customers(2, insert(ANN)))
    assert (caught.value.state, caught.value.detail) == (State.PREFLIGHT_FAILED, said)
    assert "personal-keys list" in caught.value.recovery
    assert "worker-sync resume PIPELINE" in caught.value.recovery
    with LedgerReader(target_db) as reader, pytest.raises(ConfigError, match=f"its own would be {OTHER.slot}"):
        Revealer(reader, OTHER).reveal(read(target_db)[1])


def test_a_slot_that_was_altered_is_no_other_key(ledger: LedgerSink, target_db: str) -> None:
    with psycopg.connect(target_db) as connection:
        connection.execute(
            "INSERT INTO worker_sync_ledger.personal_keys (slot, is_first, wrapped_master) VALUES (%s, true, 'x')",
            (KEY.slot,),
        )
    with pytest.raises(Halt, match="somebody altered the slot"):
        ledger.apply(customers(1, insert(ANN)))


def test_a_key_of_a_subject_that_was_altered_stops_the_trail(ledger: LedgerSink, target_db: str) -> None:
    with psycopg.connect(target_db) as connection:
        ledger.apply(customers(1, insert(ANN)))
        connection.execute("ALTER TABLE worker_sync_ledger.subjects DISABLE TRIGGER ALL")
        connection.execute("UPDATE worker_sync_ledger.subjects SET wrapped_key = 'x'")
    with pytest.raises(Halt, match="does not open with the ledger's master"):
        ledger.apply(customers(2, insert(ANN)))


def test_check_says_whether_the_configured_key_opens_the_ledger(ledger: LedgerSink, target_db: str) -> None:
    def found(key: PersonalKey) -> tuple[bool | None, str]:
        with opened(target_db, key) as sink:
            (one,) = [found for found in sink.preflight([]) if found.check == "ledger-personal-key"]
        return one.ok, one.detail

    assert found(OTHER) == (True, f"the first change with personal data makes key slot {OTHER.slot}")
    ledger.apply(customers(1, insert(ANN)))
    assert found(KEY) == (True, f"ledger.personal_key opens key slot {KEY.slot}")
    assert (found(OTHER)[0], OTHER.slot in found(OTHER)[1]) == (False, True)
    assert finding(target_db, "ledger-tables").ok


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {}",
        "TRUNCATE {}",
        "UPDATE {} SET wrapped_master = 'x'",
        "UPDATE {} SET is_first = NOT is_first, wrapped_master = NULL, removed_at = now()",
        "UPDATE {} SET slot = 'x' || slot, wrapped_master = NULL, removed_at = now()",
        "UPDATE {} SET added_at = now(), wrapped_master = NULL, removed_at = now()",
        "UPDATE {} SET wrapped_master = NULL, removed_at = now()",
        "INSERT INTO {} TABLE {} ON CONFLICT (slot) DO UPDATE SET wrapped_master = NULL, removed_at = now()",
    ],
)
def test_slots_can_be_removed_but_one_and_not_be_changed(ledger: LedgerSink, target_db: str, statement: str) -> None:
    ledger.apply(customers(1, insert(ANN)))
    add_slot(target_db, OTHER)
    before = rows(target_db, "TABLE worker_sync_ledger.personal_keys")
    connection = psycopg.connect(target_db, options="-c session_replication_role=replica")
    with connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.replace("{}", "worker_sync_ledger.personal_keys").encode())
    assert rows(target_db, "TABLE worker_sync_ledger.personal_keys") == before


def test_a_removed_slot_stays_removed_and_the_last_one_stays(ledger: LedgerSink, target_db: str) -> None:
    ledger.apply(customers(1, insert(ANN)))
    add_slot(target_db, OTHER)
    with psycopg.connect(target_db) as connection:
        connection.execute(REMOVE, (KEY.slot,))
    for statement, slot in (
        (REMOVE, KEY.slot),
        (REMOVE.replace("NULL", "'x'").replace("now()", "NULL"), KEY.slot),
        (REMOVE, OTHER.slot),
    ):
        with psycopg.connect(target_db) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode(), (slot,))


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_of_two_that_remove_the_last_two_slots_at_once_one_is_refused(
    ledger: LedgerSink, target_db: str, isolation: str, ending: str
) -> None:
    ledger.apply(customers(1, insert(ANN)))
    add_slot(target_db, OTHER)
    snapshot = threading.Event()

    def second() -> None:
        with psycopg.connect(target_db) as connection:
            connection.execute(f"SET default_transaction_isolation = '{isolation}'".encode())
            connection.commit()
            connection.execute(SLOTS.encode())
            snapshot.set()
            connection.execute(REMOVE, (OTHER.slot,))

    with ThreadPoolExecutor(1) as pool, psycopg.connect(target_db) as connection:
        connection.execute(REMOVE, (KEY.slot,))
        removing = pool.submit(second)
        assert snapshot.wait(60)
        eventually(waiting(target_db, 1), 60, "the second waits for the first")
        getattr(connection, ending)()
        refused = _refusal(removing)
    live = {slot for slot, _, is_live in rows(target_db, SLOTS) if is_live}
    assert live == {OTHER.slot if ending == "commit" else KEY.slot}
    assert refused == (ending == "commit")


def _refusal(removing: Future[None]) -> bool:
    try:
        removing.result(60)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.SerializationFailure):
        return True
    return False
