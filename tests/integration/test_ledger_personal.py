"""Personal data in a real ledger: sealed before it is recorded, and nowhere in plain text."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from connectors.base import Outcome
from connectors.ledger.sink import LedgerSink
from connectors.ledger.subjects import EXCLUDE
from tests.integration.ledger_rig import ORDERS, TEXT, at, batch, fenced, read
from worker_sync.core.change import Batch, Change, Op
from worker_sync.core.errors import Halt, State
from worker_sync.core.position import Position
from worker_sync.core.schema import Column, TableName, TableSchema
from worker_sync.ledger.envelope import MasterKey, Place, Subject, is_sealed
from worker_sync.ledger.key_slot import PersonalKey
from worker_sync.ledger.personal import Personal, PersonalColumns

Entry = dict[str, Any]
SECRET = "a personal key of 32 or more characters"
KEY = PersonalKey(SECRET)
CUSTOMERS = TableSchema(
    TableName("public", "customers"),
    (Column("email", TEXT, False), Column("name", TEXT), Column("city", TEXT)),
    ("email",),
    "postgresql",
)
PERSONAL = Personal(KEY, {("shop", "public.customers"): PersonalColumns("email", ("email", "name"), "customers")})
ANN = ("ann@example.org", "Ann Oldname", "Bern")
PLAIN = ("ann@example.org", "Oldname", "bob@example.org")


def customers(first: int, *transactions: list[Change], **more: Any) -> Batch:
    return batch(first, *transactions, tables={1: CUSTOMERS, 2: ORDERS}, **more)


def insert(row: tuple[Any, ...], ordinal: int = 1) -> list[Change]:
    return [Change(ordinal, Op.INSERT, 1, None, None, row)]


def opened(url: str, key: PersonalKey = KEY) -> LedgerSink:
    return LedgerSink("ledger", f"ledger+{url}", Personal(key, PERSONAL.tables))


@pytest.fixture
def ledger(target_db: str) -> Iterator[LedgerSink]:
    with opened(target_db) as sink:
        sink.prepare()
        fenced(sink)
        yield sink


def rows(url: str, query: str, *values: Any) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode(), values or None).fetchall()


def dump(url: str) -> str:
    """All data of the database, as text."""
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname LIKE 'worker_sync%'"
        ).fetchall()
        pieces = []
        for (name,) in names:
            with connection.cursor().copy(f"COPY (TABLE {name}) TO STDOUT".encode()) as copy:
                pieces += [bytes(block).decode() for block in copy]
    return "".join(pieces)


def master(url: str, key: PersonalKey = KEY) -> MasterKey:
    """The ledger's master, opened by itself as the format says."""
    ((wrapped,),) = rows(url, "SELECT wrapped_master FROM worker_sync_ledger.personal_keys WHERE slot = %s", key.slot)
    return key.unwrap(wrapped)


def plain(url: str, entry: Entry, side: Any) -> Entry:
    """A side of an entry, opened with the keys that are there."""
    opener = master(url)
    keys = {
        (who, str(generation)): opener.unwrap(Subject(who, generation), wrapped)
        for who, generation, wrapped in rows(
            url, "SELECT id, generation, wrapped_key FROM worker_sync_ledger.subjects WHERE wrapped_key IS NOT NULL"
        )
    }
    return {
        name: keys[v["subject"], v["generation"]].open(v, Place(entry["id"], entry["table"], name, side))
        if is_sealed(v)
        else v
        for name, v in entry[side].items()
    }


def test_personal_values_are_sealed_and_open_again(ledger: LedgerSink, target_db: str) -> None:
    bob = ("bob@example.org", "Ann Oldname", "Bern")
    order = Change(2, Op.INSERT, 2, None, None, (7, "new", "n"))
    assert ledger.apply(customers(1, [*insert(ANN), order])) == Outcome.APPLIED
    ledger.apply(
        customers(2, [Change(1, Op.UPDATE, 1, ANN[:1], ANN, bob), Change(2, Op.DELETE, 1, bob[:1], None, None)])
    )
    _, made, other, moved, deleted = read(target_db)
    assert plain(target_db, made, "after") == {"email": ANN[0], "name": ANN[1], "city": "Bern"}
    assert (plain(target_db, moved, "before"), plain(target_db, moved, "after")) == (
        {"email": ANN[0], "name": ANN[1], "city": "Bern"},
        {"email": bob[0], "name": bob[1], "city": "Bern"},
    )
    assert other["after"] == {"id": "7", "state": "new", "note": "n"}
    assert moved["changed"] == ["email"]
    assert made["after"]["name"] != moved["before"]["name"]
    assert made["key"] == moved["key"] == {"email": master(target_db).keyed("shop", "public.customers", ANN[0])}
    assert deleted["key"] == {"email": master(target_db).keyed("shop", "public.customers", bob[0])}
    ann, robert = (master(target_db).subject_id("shop", "customers", email) for email in (ANN[0], bob[0]))
    found = rows(target_db, "SELECT subject, number, generation FROM worker_sync_ledger.subject_entries ORDER BY 2, 1")
    assert found == sorted([(ann, 1, 1), (ann, 3, 1), (robert, 3, 1), (robert, 4, 1)], key=lambda row: (row[1], row[0]))
    assert not [text for text in PLAIN if text in dump(target_db)]
    assert SECRET not in dump(target_db)


def test_of_an_overlapping_batch_only_the_rest_is_noted(ledger: LedgerSink, target_db: str) -> None:
    changes = [*insert(ANN, 1), *insert(("bob@example.org", "Bob", "Bern"), 2)]
    ledger.apply(customers(1, changes[:1], upto=Position(at(1).commit, 1), split=True))
    ledger.apply(customers(1, changes))
    noted = rows(target_db, "SELECT subject, number FROM worker_sync_ledger.subject_entries ORDER BY number")
    assert noted == [
        (master(target_db).subject_id("shop", "customers", "ann@example.org"), 1),
        (master(target_db).subject_id("shop", "customers", "bob@example.org"), 2),
    ]
    assert len(read(target_db)) == 3


def test_a_batch_without_personal_data_makes_no_keys(ledger: LedgerSink, target_db: str) -> None:
    ledger.apply(batch(1, [Change(1, Op.INSERT, 1, None, None, (7, "new", "n"))]))
    assert rows(target_db, "SELECT count(*) FROM worker_sync_ledger.subjects") == [(0,)]
    assert rows(target_db, "SELECT count(*) FROM worker_sync_ledger.personal_keys") == [(0,)]


def test_a_key_that_a_failed_transaction_made_is_forgotten_with_it(ledger: LedgerSink, target_db: str) -> None:
    with psycopg.connect(target_db) as connection:
        connection.execute("ALTER TABLE worker_sync_ledger.subject_entries ADD CONSTRAINT never CHECK (number < 0)")
    with pytest.raises(Halt):
        ledger.apply(customers(1, insert(ANN)))
    with psycopg.connect(target_db) as connection:
        connection.execute("ALTER TABLE worker_sync_ledger.subject_entries DROP CONSTRAINT never")
    assert rows(target_db, "SELECT count(*) FROM worker_sync_ledger.subjects") == [(0,)]
    ledger.apply(customers(1, insert(ANN)))
    assert plain(target_db, read(target_db)[1], "after")["name"] == ANN[1]


def test_who_comes_back_after_a_forgetting_gets_another_key(ledger: LedgerSink, target_db: str) -> None:
    ledger.apply(customers(1, insert(ANN)))
    with psycopg.connect(target_db) as connection:
        connection.execute("UPDATE worker_sync_ledger.subjects SET wrapped_key = NULL, forgotten_at = now()")
    ledger.apply(customers(2, insert(ANN)))
    _, before, after = read(target_db)
    assert (before["after"]["name"]["generation"], after["after"]["name"]["generation"]) == ("1", "2")
    assert plain(target_db, after, "after")["name"] == ANN[1]
    with pytest.raises(KeyError):
        plain(target_db, before, "after")


def test_another_configured_key_stops_the_trail(ledger: LedgerSink, target_db: str) -> None:
    ledger.apply(customers(1, insert(ANN)))
    with (
        opened(target_db, PersonalKey("another key of 32 characters, or more")) as other,
        pytest.raises(Halt) as caught,
    ):
        other.apply(customers(2, insert(ANN)))
    assert caught.value.state == State.PREFLIGHT_FAILED
    assert len(read(target_db)) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM worker_sync_ledger.subjects",
        "TRUNCATE worker_sync_ledger.subjects",
        "UPDATE worker_sync_ledger.subjects SET wrapped_key = 'x'",
        "UPDATE worker_sync_ledger.subjects SET generation = 7, wrapped_key = NULL, forgotten_at = now()",
        "UPDATE worker_sync_ledger.subjects SET created_at = now(), wrapped_key = NULL, forgotten_at = now()",
        "DELETE FROM worker_sync_ledger.subject_entries",
        "UPDATE worker_sync_ledger.subject_entries SET number = 7",
    ],
)
def test_keys_can_be_destroyed_and_not_be_changed(ledger: LedgerSink, target_db: str, statement: str) -> None:
    ledger.apply(customers(1, insert(ANN)))
    with psycopg.connect(target_db) as connection:
        connection.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_who_records_waits_for_who_forgets(ledger: LedgerSink, target_db: str) -> None:
    ledger.apply(customers(1, insert(ANN)))
    done = threading.Event()

    def record() -> None:
        ledger.apply(customers(2, insert(ANN)))
        done.set()

    with psycopg.connect(target_db) as connection:
        connection.execute(EXCLUDE.encode())
        connection.execute("UPDATE worker_sync_ledger.subjects SET wrapped_key = NULL, forgotten_at = now()")
        recorder = threading.Thread(target=record)
        recorder.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 1462979183"
        while rows(target_db, waiting) != [(1,)]:
            assert not done.is_set()
    recorder.join(30)
    assert done.is_set()
    assert (
        json.loads(rows(target_db, "SELECT entry FROM worker_sync_ledger.entries WHERE number = 2")[0][0])["after"][
            "name"
        ]["generation"]
        == "2"
    )
