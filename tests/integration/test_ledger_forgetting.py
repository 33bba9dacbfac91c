"""Two people have somebody forgotten, and every proof stays valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from connectors.ledger import forgetting
from connectors.ledger.filters import Wanted
from connectors.ledger.proving import prove_entry
from connectors.ledger.reader import LedgerReader
from connectors.ledger.revealing import FORGOTTEN, Revealer
from connectors.ledger.sink import LedgerSink
from tests.integration.ledger_rig import fenced, read
from tests.integration.ledger_tampering import Trail, superuser
from tests.integration.test_ledger_personal import ANN, KEY, customers, dump, insert, master, opened, rows
from tests.unit.ledger.ledgers import OLD, verifier
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.findings import Kind

BOB = ("bob@example.org", "Bob", "Basel")


@pytest.fixture
def ledger(target_db: str) -> Iterator[LedgerSink]:
    with opened(target_db) as sink:
        sink.prepare()
        fenced(sink)
        sink.apply(customers(1, insert(ANN), insert(BOB)))
        yield sink


def whom(url: str) -> str:
    return master(url).subject_id("shop", "customers", ANN[0])


def request(url: str, by: str = "anna") -> int:
    return forgetting.request(url, "shop", "public.customers", whom(url), by)


def revealed(url: str) -> list[object]:
    with LedgerReader(url) as reader:
        revealer = Revealer(reader, KEY)
        names = [revealer.reveal(entry)["after"]["name"] for entry in read(url) if entry["kind"] == "change"]
    assert revealer.unreadable == 0
    return names


def test_proofs_stay_valid_and_values_are_unreadable(ledger: LedgerSink, target_db: str, tmp_path: Path) -> None:
    trail = Trail(target_db, tmp_path)
    trail.sign()
    before = rows(target_db, "SELECT number, leaf, entry FROM worker_sync_ledger.entries ORDER BY number")
    with LedgerReader(target_db) as reader:
        proof = prove_entry(reader, 1, [verifier(OLD)])
    number = request(target_db)
    assert revealed(target_db) == [ANN[1], BOB[1]]
    done = forgetting.approve(target_db, number, "bob")
    trail.sign(force=True)
    assert revealed(target_db) == [FORGOTTEN, BOB[1]]
    after = rows(target_db, "SELECT number, leaf, entry FROM worker_sync_ledger.entries ORDER BY number")
    assert after[: len(before)] == before
    with LedgerReader(target_db) as reader:
        again = prove_entry(reader, 1, [verifier(OLD)])
        of_subject = [n for n, _ in reader.find(Wanted(subject=whom(target_db)))]
        assert reader.changes_of(whom(target_db)) == 0
    assert (proof.holds, again.holds, again.entry) == (True, True, proof.entry)
    assert of_subject == [1, number, done.number]
    assert trail.verified().intact == len(after)
    assert trail.verified().ok
    assert trail.exported(tmp_path / "export").ok
    assert ANN[0] not in dump(target_db)


def test_both_steps_stand_in_the_ledger(ledger: LedgerSink, target_db: str) -> None:
    number = request(target_db)
    done = forgetting.approve(target_db, number, "bob")
    asked, forgotten = read(target_db)[-2:]
    of = {"source": "shop", "table": "public.customers", "subject": whom(target_db), "generation": "1"}
    kept = of.keys() | {"kind", "by", "request", "requested_by"}
    assert {n: v for n, v in asked.items() if n in kept} == {"kind": "forget-requested", "by": "anna", **of}
    assert {n: v for n, v in forgotten.items() if n in kept} == {
        "kind": "forgotten", "by": "bob", "requested_by": "anna", "request": str(number), **of,
    }  # fmt: skip
    assert done.number == int(forgotten["number"])


@pytest.mark.parametrize("name", ["anna", "Anna", " anna "])
def test_who_asked_can_not_approve(ledger: LedgerSink, target_db: str, name: str) -> None:
    number = request(target_db)
    with pytest.raises(ConfigError, match="another person"):
        forgetting.approve(target_db, number, name)
    assert revealed(target_db) == [ANN[1], BOB[1]]
    assert [entry["kind"] for entry in read(target_db)].count("forgotten") == 0


def test_a_request_is_answered_once(ledger: LedgerSink, target_db: str) -> None:
    number, second = request(target_db), request(target_db)
    forgetting.approve(target_db, number, "bob")
    for asked in (number, second):
        with pytest.raises(ConfigError, match="destroyed already"):
            forgetting.approve(target_db, asked, "bob")
    with pytest.raises(ConfigError, match="nothing is kept"):
        request(target_db)


def test_an_old_request_does_not_forget_who_came_back(ledger: LedgerSink, target_db: str) -> None:
    number, second = request(target_db), request(target_db)
    forgetting.approve(target_db, number, "bob")
    ledger.apply(customers(3, insert(ANN)))
    with pytest.raises(ConfigError, match="destroyed already"):
        forgetting.approve(target_db, second, "bob")
    assert revealed(target_db) == [FORGOTTEN, BOB[1], ANN[1]]


def test_other_entries_and_altered_ones_are_no_requests(ledger: LedgerSink, target_db: str) -> None:
    number = request(target_db)
    for other in (0, 1, 999):
        with pytest.raises(ConfigError, match="is no request"):
            forgetting.approve(target_db, other, "bob")
    with superuser(target_db) as connection:
        connection.execute(
            'UPDATE worker_sync_ledger.entries SET entry = replace(entry, \'"by":"anna"\', \'"by":"eve"\')'
        )
    with pytest.raises(ConfigError, match="was altered"):
        forgetting.approve(target_db, number, "bob")


def test_a_failed_approval_leaves_the_key(ledger: LedgerSink, target_db: str) -> None:
    number = request(target_db)
    with psycopg.connect(target_db) as connection:
        connection.execute("ALTER TABLE worker_sync_ledger.entries ADD CONSTRAINT never CHECK (kind <> 'forgotten')")
    with pytest.raises(Exception, match="never"):
        forgetting.approve(target_db, number, "bob")
    assert revealed(target_db) == [ANN[1], BOB[1]]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM worker_sync_ledger.subject_entries WHERE number = 2",
        "UPDATE worker_sync_ledger.subject_entries SET generation = 2 WHERE number = 2",
        "UPDATE worker_sync_ledger.subject_entries SET subject = 'x' WHERE number = 2",
    ],
)
def test_an_entry_that_is_hidden_from_the_search_is_altered(
    ledger: LedgerSink, target_db: str, tmp_path: Path, statement: str
) -> None:
    trail = Trail(target_db, tmp_path)
    trail.sign()
    with superuser(target_db) as connection:
        connection.execute(statement.encode())
    report = trail.verified()
    assert [(finding.kind, finding.first) for finding in report.findings] == [(Kind.ALTERED, 2)]


def test_a_swap_of_two_values_is_altered(ledger: LedgerSink, target_db: str, tmp_path: Path) -> None:
    trail = Trail(target_db, tmp_path)
    trail.sign()
    one, other = (entry["after"]["name"]["encrypted"] for entry in read(target_db)[1:3])
    with superuser(target_db) as connection:
        for number, old, new in ((1, one, other), (2, other, one)):
            query = "UPDATE worker_sync_ledger.entries SET entry = replace(entry, %s, %s) WHERE number = %s"
            connection.execute(query, (old, new, number))
    assert set(trail.verified().counts) == {Kind.ALTERED}
    with LedgerReader(target_db) as reader:
        revealer = Revealer(reader, KEY)
        for number in (1, 2):
            found = reader.entry(number)
            assert found is not None
            assert revealer.reveal(json.loads(found[1]))["after"]["name"] == {"unreadable": True}
    assert revealer.unreadable == 2
