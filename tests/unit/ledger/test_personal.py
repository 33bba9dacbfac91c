"""Personal values are sealed for their place and their subject, and what is not personal stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.ledger.test_recording import NAMES, TEXTS, VALUES, batch, changed_tables, finished, orders
from worker_sync.core.change import Change, Op
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import UNCHANGED
from worker_sync.ledger.canonical import value
from worker_sync.ledger.envelope import PADDING, MasterKey, Place, Subject, SubjectKey, Unopenable, is_sealed
from worker_sync.ledger.key_slot import PersonalKey
from worker_sync.ledger.personal import BatchSealer, Personal, PersonalColumns, sealed_for, subjects
from worker_sync.ledger.recording import prepare

SECRET = "a personal key of 32 or more characters"
KEY = PersonalKey(SECRET)
MASTER = MasterKey.generate()
PLACE = Place("shop:1:1", "public.orders", "email", "after")


def subject_key(subject: str = "s", generation: int = 1) -> SubjectKey:
    whose = Subject(subject, generation)
    return MASTER.unwrap(whose, MASTER.make(whose))


class Keys(dict[str, SubjectKey]):
    def __missing__(self, subject: str) -> SubjectKey:
        self[subject] = subject_key(subject)
        return self[subject]


def declared(subject: str, *columns: str, namespace: str = "public.orders") -> Personal:
    return Personal(KEY, {("shop", "public.orders"): PersonalColumns(subject, columns, namespace)})


def recorded(personal: Personal, table: TableSchema, *changes: Change, keys: Keys) -> list[dict[str, Any]]:
    made = batch(table, *changes)
    assert personal.touches(made)
    known = set[str]().union(*subjects(made, personal, MASTER))
    entries = [finished(entry) for entry in prepare(made, BatchSealer(personal, MASTER, "shop", keys.__getitem__))]
    assert set(keys) <= known
    return entries


def opened(entry: dict[str, Any], keys: Keys, side: Any) -> dict[str, Any]:
    return {
        name: keys[v["subject"]].open(v, Place(entry["id"], entry["table"], name, side)) if is_sealed(v) else v
        for name, v in entry[side].items()
    }


@given(VALUES, TEXTS, NAMES)
def test_what_was_sealed_opens_in_its_place_alone(given_value: Any, change: str, column: str) -> None:
    key, place, plain = subject_key(), Place(change, "t", column, "before"), value(given_value)
    sealed = key.seal(plain, place)
    assert key.open(sealed, place) == plain
    assert key.seal(plain, place) != sealed
    for other in (Place(change, "t", column, "after"), Place(change + "x", "t", column, "before")):
        with pytest.raises(Unopenable):
            key.open(sealed, other)


@given(changed_tables(), st.data())
def test_any_change_opens_to_what_it_would_be_without_sealing(made: tuple[TableSchema, Change], data: Any) -> None:
    table, change = made
    names = st.sampled_from(table.column_names)
    subject, columns = data.draw(names), data.draw(st.lists(names, min_size=1, unique=True))
    (plain,) = [finished(entry) for entry in prepare(batch(table, change))]
    keys = Keys()
    try:
        (entry,) = recorded(declared(subject, *columns), table, change, keys=keys)
    except Halt:
        assert UNCHANGED in [row[table.column_names.index(subject)] for row in (change.before, change.after) if row]
        return
    for side in ("before", "after"):
        if entry[side] not in (None, {"missing": True}):
            unsealed = {n for n in columns if not is_sealed(entry[side][n])}
            assert all(plain[side][name] in ({"unchanged": True},) for name in unsealed)
            entry[side] = opened(entry, keys, side)
    kept = entry.keys() - {"key"}
    assert {name: entry[name] for name in kept} == {name: plain[name] for name in kept}
    for name, part in (entry["key"] or {}).items():
        assert part == (
            MASTER.keyed("shop", "public.orders", plain["key"][name]) if name in columns else plain["key"][name]
        )


def test_an_update_is_sealed_for_both_its_subjects() -> None:
    old, new = ("ann", "a@x", "1"), ("bob", "b@x", UNCHANGED)
    keys = Keys()
    personal = declared("id", "id", "state", "note")
    (entry,) = recorded(personal, orders(), Change(1, Op.UPDATE, 1, ("ann",), old, new), keys=keys)
    ann, bob = (MASTER.subject_id("shop", "public.orders", name) for name in ("ann", "bob"))
    assert set(sealed_for(entry)) == {(ann, "1"), (bob, "1")}
    assert entry["after"]["note"] == {"unchanged": True}
    assert entry["changed"] == ["id", "state"]
    assert entry["key"] == {"id": MASTER.keyed("shop", "public.orders", "ann")}
    assert not {"ann", "bob", "a@x", "b@x"} & set(json.dumps(entry).split('"'))


def test_nothing_tells_null_and_short_texts_from_each_other() -> None:
    key = subject_key()
    lengths = {len(key.seal(v, PLACE)["encrypted"]) for v in (None, True, "", "a", "a" * (PADDING - 2))}
    assert len(lengths) == 1


def test_tables_of_one_namespace_share_their_subjects() -> None:
    assert MASTER.subject_id("shop", "person", "7") == MASTER.subject_id("shop", "person", "7")
    distinct = [("shop", "person", "7"), ("crm", "person", "7"), ("shop", "people", "7"), ("shop", "person", "8")]
    assert len({MASTER.subject_id(*of) for of in distinct} | {MASTER.keyed(*of)["keyed"] for of in distinct}) == 8


def test_a_key_opens_for_its_subject_and_master_alone() -> None:
    wrapped = MASTER.make(Subject("s", 1))
    others = [(MASTER, Subject("t", 1)), (MASTER, Subject("s", 2)), (MasterKey.generate(), Subject("s", 1))]
    for master, subject in others:
        with pytest.raises(Unopenable):
            master.unwrap(subject, wrapped)
    shown = repr(MASTER) + repr(MASTER.unwrap(Subject("s", 1), wrapped))
    assert MASTER.reveal().hex() not in shown
    assert repr(MASTER.reveal())[2:-1] not in shown


@pytest.mark.parametrize("damaged", ["", "!", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_damaged_values_do_not_open(damaged: str) -> None:
    with pytest.raises(Unopenable):
        subject_key().open({"encrypted": damaged}, PLACE)


def test_the_subject_of_a_row_may_stand_in_the_key_or_the_row_before() -> None:
    personal, table = declared("id", "note"), orders()
    ann = MASTER.subject_id("shop", "public.orders", "ann")
    for change in (
        Change(1, Op.UPDATE, 1, ("ann",), None, (UNCHANGED, "s", "n")),
        Change(1, Op.UPDATE, 1, None, ("ann", "s", "m"), (UNCHANGED, "s", "n")),
    ):
        (entry,) = recorded(personal, table, change, keys=Keys())
        assert entry["after"]["note"]["subject"] == ann
    with pytest.raises(Halt) as caught:
        recorded(personal, table, Change(1, Op.UPDATE, 1, None, None, (UNCHANGED, "s", "n")), keys=Keys())
    assert caught.value.state == State.UNREPRESENTABLE_VALUE


def test_a_declared_column_that_is_not_there_stops_the_trail() -> None:
    with pytest.raises(Halt) as caught:
        recorded(declared("id", "email"), orders(), Change(1, Op.INSERT, 1, None, None, (1, "s", "n")), keys=Keys())
    assert caught.value.state == State.PREFLIGHT_FAILED
    assert "email" in str(caught.value)


def test_a_subject_without_a_form_stops_the_trail_and_is_not_told() -> None:
    with pytest.raises(Halt) as caught:
        recorded(
            declared("id", "note"), orders(), Change(1, Op.INSERT, 1, None, None, ("\ud800x", "", "")), keys=Keys()
        )
    assert caught.value.state == State.UNREPRESENTABLE_VALUE
    assert "\ud800" not in str(caught.value)


def test_other_tables_and_sources_stay_as_they_are() -> None:
    personal = Personal(KEY, {("crm", "public.orders"): PersonalColumns("id", ("note",), "n")})
    change = Change(1, Op.INSERT, 1, None, None, ("ann", "s", "n"))
    made = batch(orders(), change)
    assert not personal.touches(made)
    assert subjects(made, personal, MASTER) == [set()]
    assert prepare(made, BatchSealer(personal, MASTER, "shop", Keys().__getitem__)) == prepare(made)
