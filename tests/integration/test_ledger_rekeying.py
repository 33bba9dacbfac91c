"""Another key takes over while trails are recorded: added, used, and the old one removed."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from connectors.base import Outcome
from connectors.ledger import forgetting, rekeying
from connectors.ledger.evidence import Stated, Wanted, make_pack
from connectors.ledger.reader import LedgerReader
from connectors.ledger.revealing import FORGOTTEN, Revealer
from connectors.ledger.sink import LedgerSink
from tests.fixtures.eventually import eventually
from tests.integration.ledger_rig import read
from tests.integration.ledger_tampering import Trail
from tests.integration.test_ledger_evidence import EVER
from tests.integration.test_ledger_key_slots import SLOTS, waiting
from tests.integration.test_ledger_personal import (
    ANN,
    KEY,
    SECRET,
    customers,
    dump,
    insert,
    ledger,
    master,
    opened,
    rows,
)
from tests.unit.ledger.ledgers import OLD, ORIGIN, verifier
from worker_sync.core.errors import ConfigError, Halt, State
from worker_sync.ledger.evidence_check import check_pack
from worker_sync.ledger.key_slot import PersonalKey
from worker_sync.ledger.verify import Trust

__all__ = ["ledger"]

NEXT_SECRET = "the next key of 32 characters, or even more"
NEXT = PersonalKey(NEXT_SECRET)
THIRD = PersonalKey("a third key of 32 characters, or even more")
#: The turn of who changes slots.
TURN = "SELECT pg_advisory_xact_lock(1462979184)"


def add(url: str, new: PersonalKey = NEXT, existing: PersonalKey = KEY) -> rekeying.Added:
    return rekeying.add(url, new, existing, "anna", "the existing key")


def live(url: str) -> set[str]:
    return {slot for slot, _, is_live in rows(url, SLOTS) if is_live}


def revealed(url: str, key: PersonalKey) -> list[object]:
    with LedgerReader(url) as reader:
        revealer = Revealer(reader, key)
        return [revealer.reveal(entry)["after"]["name"] for entry in read(url) if entry["kind"] == "change"]


@pytest.fixture
def used(ledger: LedgerSink) -> LedgerSink:
    """A ledger with an entry that KEY opens."""
    ledger.apply(customers(1, insert(ANN)))
    return ledger


def test_a_key_takes_over_from_another_and_no_trail_stops(used: LedgerSink, target_db: str) -> None:
    before = master(target_db).reveal()
    add(target_db)
    used.apply(customers(2, insert(ANN)))
    with opened(target_db, NEXT) as later:
        later.apply(customers(3, insert(ANN)))
        assert revealed(target_db, KEY) == revealed(target_db, NEXT) == [ANN[1]] * 3
        rekeying.remove(target_db, KEY.slot, NEXT, "bob")
        # A worker that has the master open goes on, and so does one with the new key.
        assert used.apply(customers(4, insert(ANN))) == Outcome.APPLIED
        later.apply(customers(5, insert(ANN)))
        used.close()
        with pytest.raises(Halt) as caught:
            used.apply(customers(6, insert(ANN)))
        assert later.apply(customers(6, insert(ANN))) == Outcome.APPLIED
    assert caught.value.state == State.PREFLIGHT_FAILED
    assert f"ledger.personal_key was removed from this ledger: its key slot {KEY.slot}" in caught.value.detail
    assert "personal-keys list" in caught.value.recovery
    assert "worker-sync resume PIPELINE" in caught.value.recovery
    assert revealed(target_db, NEXT) == [ANN[1]] * 6
    sealed = [entry["after"]["name"] for entry in read(target_db) if entry["kind"] == "change"]
    assert {(value["subject"], value["generation"]) for value in sealed} == {
        (master(target_db, NEXT).subject_id("shop", "customers", ANN[0]), "1")
    }
    assert master(target_db, NEXT).reveal() == before
    assert rows(target_db, "SELECT count(*) FROM worker_sync_ledger.subjects") == [(1,)]


def test_keys_rotate_three_times_under_a_running_recording(ledger: LedgerSink, target_db: str) -> None:
    keys = [KEY, NEXT, THIRD, PersonalKey("a fourth key of 32 characters, and more")]
    sinks = [ledger]
    recorded, enough = 0, threading.Event()

    def record() -> None:
        nonlocal recorded
        while not enough.is_set():
            assert sinks[-1].apply(customers(recorded + 1, insert(ANN))) == Outcome.APPLIED
            recorded += 1

    def goes_on() -> None:
        upto = recorded + 5
        eventually(lambda: recorded > upto or recorder.done(), 60, "the recording goes on")
        assert not recorder.done(), recorder.result()

    with ThreadPoolExecutor(1) as pool:
        recorder = pool.submit(record)
        try:
            for old, new in pairwise(keys):
                goes_on()
                add(target_db, new, old)
                goes_on()
                sinks.append(opened(target_db, new))
                goes_on()
                rekeying.remove(target_db, old.slot, new, "bob")
                goes_on()
        finally:
            enough.set()
            recorder.result(60)
            for sink in sinks:
                sink.close()
    assert live(target_db) == {keys[-1].slot}
    assert revealed(target_db, keys[-1]) == [ANN[1]] * recorded
    kinds = [entry["kind"] for entry in read(target_db)]
    assert kinds.count("change") == recorded
    assert kinds.count("personal-key-added") == kinds.count("personal-key-removed") == 3


def test_each_step_is_an_entry_that_every_verifier_takes(used: LedgerSink, target_db: str, tmp_path: Path) -> None:
    trail = Trail(target_db, tmp_path)
    added = add(target_db)
    removed = rekeying.remove(target_db, KEY.slot, NEXT, "bob")
    entries = {int(entry["number"]): entry for entry in read(target_db)}
    told = [{n: v for n, v in entries[at].items() if n != "recorded_at"} for at in (added.number or 0, removed)]
    assert told == [
        {"kind": "personal-key-added", "slot": NEXT.slot, "by": "anna", "number": str(added.number)},
        {"kind": "personal-key-removed", "slot": KEY.slot, "by": "bob", "number": str(removed)},
    ]
    trail.sign()
    assert trail.verified().ok
    assert trail.exported(tmp_path / "export").ok
    with LedgerReader(target_db) as reader:
        wanted = Wanted(ORIGIN, EVER, Trust([verifier(OLD)], [], ORIGIN), [OLD])
        pack = make_pack(reader, tmp_path / "pack", wanted, lambda: Stated({}, {}))
    assert pack.exit_code == 0
    assert (pack.facts.entries["personal-key-added"], pack.facts.entries["personal-key-removed"]) == (1, 1)
    assert check_pack(tmp_path / "pack", [verifier(OLD)]).exit_code == 0
    kept = dump(target_db) + "".join(
        path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()
    )
    opened_master = master(target_db, NEXT).reveal()
    assert not [text for text in (SECRET, NEXT_SECRET, opened_master.hex()) if text in kept]


def test_a_key_that_has_its_slot_is_not_added_again(used: LedgerSink, target_db: str) -> None:
    assert add(target_db).number is not None
    before = read(target_db), rows(target_db, "TABLE worker_sync_ledger.personal_keys")
    assert add(target_db) == rekeying.Added(NEXT.slot, None)
    assert add(target_db, KEY, NEXT) == rekeying.Added(KEY.slot, None)
    assert (read(target_db), rows(target_db, "TABLE worker_sync_ledger.personal_keys")) == before


def test_a_removed_key_never_comes_back(used: LedgerSink, target_db: str) -> None:
    add(target_db)
    rekeying.remove(target_db, KEY.slot, NEXT, "bob")
    with pytest.raises(ConfigError, match=r"this key was removed, .* and never comes back; add another one"):
        add(target_db, KEY, NEXT)
    for existing in (KEY, THIRD):
        with pytest.raises(ConfigError, match=r"^Configuration error: the existing key .*personal-keys list"):
            add(target_db, PersonalKey("x" * 32), existing)
    assert live(target_db) == {NEXT.slot}


def test_a_key_can_be_added_before_anything_personal_is_recorded(ledger: LedgerSink, target_db: str) -> None:
    add(target_db)
    assert live(target_db) == {KEY.slot, NEXT.slot}
    ledger.apply(customers(1, insert(ANN)))
    assert revealed(target_db, NEXT) == [ANN[1]]


def test_what_can_not_be_removed_is_said(used: LedgerSink, target_db: str) -> None:
    def refused(slot: str, configured: PersonalKey | None, *, force: bool = False) -> str:
        with pytest.raises(ConfigError) as caught:
            rekeying.remove(target_db, slot, configured, "bob", force=force)
        return caught.value.detail

    assert "has no key slot nosuch; see: worker-sync audit personal-keys list" in refused("nosuch", KEY)
    assert "is the last one" in refused(KEY.slot, KEY, force=True)
    add(target_db)
    assert "is that of the key which this configuration uses" in refused(KEY.slot, KEY)
    assert "ledger.personal_key is not set" in refused(KEY.slot, None)
    assert f"its own would be {THIRD.slot}" in refused(KEY.slot, THIRD)
    assert live(target_db) == {KEY.slot, NEXT.slot}
    rekeying.remove(target_db, KEY.slot, KEY, "bob", force=True)
    assert "was removed already, at 20" in refused(KEY.slot, NEXT)
    add(target_db, THIRD, NEXT)
    assert "was removed from this ledger" in refused(NEXT.slot, KEY)
    rekeying.remove(target_db, THIRD.slot, NEXT, "bob")
    assert "is the last one" in refused(NEXT.slot, NEXT, force=True)


def test_of_two_removals_of_the_last_two_slots_at_once_one_is_refused(used: LedgerSink, target_db: str) -> None:
    add(target_db)
    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(target_db) as connection:
            connection.execute(TURN.encode())
            done = [
                pool.submit(rekeying.remove, target_db, slot, None, "bob", force=True) for slot in (KEY.slot, NEXT.slot)
            ]
            eventually(waiting(target_db, 2), 60, "both wait for their turn")
        (refused,) = [error for one in done if (error := one.exception(60))]
    assert isinstance(refused, ConfigError)
    assert "is the last one" in refused.detail
    assert len(live(target_db)) == 1


def test_without_its_entry_no_step_is_done(used: LedgerSink, target_db: str) -> None:
    add(target_db)
    with psycopg.connect(target_db) as connection:
        query = (
            "ALTER TABLE worker_sync_ledger.entries ADD CONSTRAINT never CHECK (kind NOT LIKE 'personal-%') NOT VALID"
        )
        connection.execute(query)
    with pytest.raises(Exception, match="never"):
        add(target_db, THIRD)
    with pytest.raises(Exception, match="never"):
        rekeying.remove(target_db, KEY.slot, NEXT, "bob")
    assert live(target_db) == {KEY.slot, NEXT.slot}
    assert used.apply(customers(2, insert(ANN))) == Outcome.APPLIED


def test_somebody_is_forgotten_whatever_key_is_used(used: LedgerSink, target_db: str) -> None:
    add(target_db)
    whom = master(target_db, NEXT).subject_id("shop", "customers", ANN[0])
    number = forgetting.request(target_db, "shop", "public.customers", whom, "anna")
    forgetting.approve(target_db, number, "bob")
    assert revealed(target_db, KEY) == revealed(target_db, NEXT) == [FORGOTTEN]
    with opened(target_db, NEXT) as later:
        later.apply(customers(2, insert(ANN)))
    assert json.dumps(revealed(target_db, KEY)) == json.dumps([FORGOTTEN, ANN[1]])
