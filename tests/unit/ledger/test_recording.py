"""A batch becomes entries whose bytes are canonical, whatever the rows hold."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker_sync.core.alteration import alteration
from worker_sync.core.change import Batch, Change, Op, Section, Session, TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.parking import key_text
from worker_sync.core.position import BEGINNING, Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED
from worker_sync.ledger.canonical import canonical, value
from worker_sync.ledger.indexed import LONGEST, indexed, key_column
from worker_sync.ledger.prepared import Prepared
from worker_sync.ledger.recording import begin, gap, last_position, prepare

TEXT = Type(Kind.TEXT, "text")
TIME = "2026-01-31T12:00:00.000000Z"
TIME_US = 1_769_860_800_000_000
AWKWARD = '\x00\n\x1f"\\{}:,\x7f\u2028\ud7ff\ue000\uffff\U00010000\U0010ffff'
TEXTS = st.text(st.sampled_from(AWKWARD) | st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['"number":""', '"recorded_at":""', "number", ""]
)
NAMES = TEXTS | st.sampled_from(["number", "recorded_at", "kind"])
VALUES = (
    TEXTS
    | st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.binary(max_size=4)
    | st.just(UNCHANGED)
)
JSON = st.recursive(st.none() | TEXTS | st.integers(), st.lists, max_leaves=4)
SESSIONS = st.none() | st.builds(Session, TEXTS, *[st.none() | TEXTS] * 3)
CONTEXTS = TEXTS | st.dictionaries(NAMES, JSON, max_size=3).map(json.dumps)


def finished(entry: Prepared, number: int = 7) -> dict[str, Any]:
    """The entry, after a look at its bytes."""
    data = entry.finished(str(number).encode(), TIME.encode())
    parsed: dict[str, Any] = json.loads(data)
    assert canonical(parsed) == data
    assert (parsed["number"], parsed["recorded_at"]) == (str(number), TIME)
    assert indexed(parsed) == entry.indexed
    return parsed


def batch(
    table: TableSchema, *changes: Change, context: str = "", session: Session | None = None, **more: Any
) -> Batch:
    info = TransactionInfo("00000000000000ff", TIME_US, "9001")
    sections = [Section(info, len(changes), context, session)]
    fields: dict[str, Any] = {
        "sections": sections,
        "tables": {1: table},
        "changes": list(changes),
        "upto": Position(info.commit),
    }
    fields |= {"after": BEGINNING, "captured_at": TIME_US + 1, "host": "db-1"}
    return Batch("shop", "audit.shop", 0, 1, **(fields | more))


def orders(*columns: str, key: tuple[str, ...] = ("id",)) -> TableSchema:
    names = columns or ("id", "state", "note")
    return TableSchema(TableName("public", "orders"), tuple(Column(name, TEXT) for name in names), key, "postgresql")


def only(made: Batch) -> dict[str, Any]:
    (entry,) = prepare(made)
    return finished(entry)


@st.composite
def changed_tables(draw: st.DrawFn) -> tuple[TableSchema, Change]:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    key = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    row = st.tuples(*[VALUES for _ in names])
    op = draw(st.sampled_from([op.value for op in Op]))
    has_after = op in (Op.INSERT, Op.UPDATE, Op.READ)
    keys = st.tuples(*[VALUES for _ in key])
    change = Change(
        draw(st.integers(1, 1 << 40)),
        op,
        1,
        draw(keys if op == Op.DELETE else st.none() | keys),
        draw(st.none() | row) if op != Op.TRUNCATE else None,
        draw(row) if has_after else None,
    )
    return orders(*names, key=tuple(key)), change


@settings(deadline=None, max_examples=200)
@given(changed_tables(), CONTEXTS, SESSIONS, st.integers(0, 1 << 62))
def test_the_bytes_of_any_change_are_canonical(
    made: tuple[TableSchema, Change], context: str, session: Session | None, number: int
) -> None:
    table, change = made
    (entry,) = prepare(batch(table, change, context=context, session=session))
    parsed = finished(entry, number)
    assert parsed.get("session") == (None if session is None else msgspec.structs.asdict(session))
    if change.after is not None:
        assert parsed["after"] == {name: value(v) for name, v in zip(table.column_names, change.after, strict=True)}


@settings(deadline=None)
@given(st.dictionaries(NAMES, TEXTS, max_size=3))
def test_the_searched_key_is_that_of_parking(key: dict[str, str]) -> None:
    names = sorted(key, key=lambda name: name.encode("utf-16-be"))
    assert key_column(key) == key_text(tuple(key[name] for name in names))


def test_an_insert() -> None:
    change = Change(3, Op.INSERT, 1, None, None, (1, "new", None))
    assert only(batch(orders(), change, context='{"actor":"ann","ticket":12.50,"big":123456789012345678901}')) == {
        "number": "7",
        "kind": "change",
        "id": "shop:00000000000000ff:3",
        "source": "shop",
        "table": "public.orders",
        "operation": "insert",
        "key": {"id": "1"},
        "before": None,
        "after": {"id": "1", "state": "new", "note": None},
        "changed": None,
        "transaction": {"position": "00000000000000ff", "id": "9001"},
        "ordinal": "3",
        "committed_at": TIME,
        "captured_at": "2026-01-31T12:00:00.000001Z",
        "recorded_at": TIME,
        "host": "db-1",
        "actor": "ann",
        "context": {"actor": "ann", "ticket": "12.50", "big": "123456789012345678901"},
    }


def test_an_update_names_the_columns_that_changed() -> None:
    change = Change(1, Op.UPDATE, 1, (1,), (1, float("nan"), b"x"), (2, float("nan"), UNCHANGED))
    entry = only(batch(orders(), change))
    assert entry["key"] == {"id": "1"}
    assert entry["before"] == {"id": "1", "state": "NaN", "note": {"base64": "eA=="}}
    assert entry["after"] == {"id": "2", "state": "NaN", "note": {"unchanged": True}}
    assert entry["changed"] == ["id"]


def test_an_update_that_changed_nothing_says_so() -> None:
    assert only(batch(orders(), Change(1, Op.UPDATE, 1, None, (1, "a", "b"), (1, "a", "b"))))["changed"] == []


def test_of_an_update_without_its_old_row_it_is_not_known_what_changed() -> None:
    entry = only(batch(orders(), Change(1, Op.UPDATE, 1, None, None, (1, "paid", UNCHANGED))))
    assert (entry["before"], entry["changed"], entry["key"]) == ({"missing": True}, None, {"id": "1"})


def test_a_delete() -> None:
    entry = only(batch(orders(), Change(1, Op.DELETE, 1, (1,), (1, "paid", None), None)))
    assert (entry["operation"], entry["key"], entry["after"], entry["changed"]) == ("delete", {"id": "1"}, None, None)
    assert entry["before"] == {"id": "1", "state": "paid", "note": None}
    assert only(batch(orders(), Change(1, Op.DELETE, 1, (1,), None, None)))["before"] == {"missing": True}


def test_a_truncate_has_neither_key_nor_rows() -> None:
    entry = only(batch(orders(), Change(1, Op.TRUNCATE, 1, None, None, None)))
    assert (entry["key"], entry["before"], entry["after"], entry["changed"]) == (None, None, None, None)
    assert entry["operation"] == "truncate"


def test_a_table_without_a_key() -> None:
    change = Change(1, Op.UPDATE, 1, (), (1, "a", None), (1, "b", None))
    (entry,) = prepare(batch(orders(key=()), change))
    assert finished(entry)["key"] is None
    assert entry.indexed.key is None
    assert finished(entry)["changed"] == ["state"]


def test_a_key_of_several_columns_is_in_the_order_of_their_names() -> None:
    change = Change(1, Op.DELETE, 1, ("z", 5), None, None)
    (entry,) = prepare(batch(orders("state", "id", key=("state", "id")), change))
    assert finished(entry)["key"] == {"id": "5", "state": "z"}
    assert entry.indexed.key == '["5","z"]'


def test_a_key_column_that_was_not_sent_is_read_from_the_old_row() -> None:
    change = Change(1, Op.UPDATE, 1, None, (1, "a", None), (UNCHANGED, "b", None))
    assert only(batch(orders(), change))["key"] == {"id": "1"}


def test_a_row_that_was_read_belongs_to_no_transaction() -> None:
    change = Change(1, Op.READ, 1, None, None, (1, "a", None))
    entry = only(batch(orders(), change, sections=[]))
    assert (entry["operation"], entry["committed_at"], entry["transaction"]["id"]) == ("read", None, None)
    assert entry["id"] == "shop:00000000000000ff/end/0:1"


def test_a_table_is_called_as_its_source_calls_it() -> None:
    change = Change(1, Op.TRUNCATE, 1, None, None, None)
    assert only(batch(orders(), change, origins={1: "sales.orders"}))["table"] == "sales.orders"


def test_what_is_not_known_is_null() -> None:
    info = TransactionInfo("0a", 0)
    change = Change(1, Op.TRUNCATE, 1, None, None, None)
    (entry,) = prepare(batch(orders(), change, sections=[Section(info, 1)], captured_at=0, host=""))
    parsed = finished(entry)
    assert {parsed[name] for name in ("committed_at", "captured_at", "host", "actor", "context")} == {None}
    assert parsed["transaction"] == {"position": "0a", "id": None}
    assert entry.indexed.transaction == "0a"


@pytest.mark.parametrize(
    ("text", "context", "actor"),
    [
        ('{"actor": 5, "rate": NaN}', {"actor": "5", "rate": "NaN"}, "5"),
        ('{"actor": ["ann"]}', {"actor": ["ann"]}, None),
        ("{}", {}, None),
        ("ann", {"text": "ann"}, None),
        ('["ann"]', {"text": '["ann"]'}, None),
        ('{"actor": "ann", "note": "\\ud800"}', {"text": '{"actor": "ann", "note": "\\ud800"}'}, "ann"),
        ('{"actor": "\\ud800"}', {"text": '{"actor": "\\ud800"}'}, None),
        ("\ud800", {"text": "\\ud800"}, None),
        ("[" * 100_000, {"text": "[" * 100_000}, None),
        ('{"a":' + "[" * 2_000 + "]" * 2_000 + "}", {"text": '{"a":' + "[" * 2_000 + "]" * 2_000 + "}"}, None),
    ],
)
def test_a_context_never_stops_the_trail(text: str, context: object, actor: str | None) -> None:
    entry = only(batch(orders(), Change(1, Op.TRUNCATE, 1, None, None, None), context=text))
    assert (entry["context"], entry["actor"]) == (context, actor)


def test_a_session_is_nothing_that_a_context_says() -> None:
    change = Change(1, Op.TRUNCATE, 1, None, None, None)
    text = '{"session":{"session_user":"postgres"},"session_user":"postgres"}'
    assert "session" not in only(batch(orders(), change, context=text))
    entry = only(batch(orders(), change, context=text, session=Session("shop", client_addr="::1")))
    assert (entry["actor"], entry["context"]) == (None, json.loads(text))
    assert entry["session"] == {
        "session_user": "shop",
        "role": None,
        "application_name": None,
        "client_addr": "::1",
    }


def test_nul_is_kept_in_the_entry_and_escaped_in_what_is_searched() -> None:
    change = Change(1, Op.INSERT, 1, None, None, ("a\0", "b", None))
    (entry,) = prepare(batch(orders(), change, context='{"actor":"an\\u0000n"}'))
    assert finished(entry)["actor"] == "an\0n"
    assert (entry.indexed.actor, entry.indexed.key) == ("an\\u0000n", '["a\\u0000"]')


def test_a_long_key_is_searched_by_its_beginning_and_its_digest() -> None:
    keys = [
        found
        for last in "ab"
        for entry in prepare(batch(orders(), Change(1, Op.DELETE, 1, ("ж" * 10_000 + last,), None, None)))
        if finished(entry) and (found := entry.indexed.key)
    ]
    assert len(set(keys)) == 2
    assert all(len(key.encode()) <= LONGEST and key.startswith('["жж') for key in keys)


def test_an_alteration() -> None:
    change = alteration(orders("id", "state"), orders("id", "state", "note"))
    (entry,) = prepare(batch(orders(), alteration=change, sections=[], tables={}))
    parsed = finished(entry)
    assert parsed["before"] == {
        "columns": [{"name": name, "type": "text", "nullable": True} for name in ("id", "state")],
        "key": ["id"],
    }
    assert [column["name"] for column in parsed["after"]["columns"]] == ["id", "state", "note"]
    assert parsed["text"] == "public.orders: column note (text) was added"
    assert (parsed["kind"], parsed["table"]) == ("schema", "public.orders")
    assert parsed["transaction"] == {"position": "00000000000000ff", "id": None}


def test_where_recording_begins_and_where_it_has_a_gap() -> None:
    began = finished(begin("shop", "server-1", Position("0a")))
    assert {name: began[name] for name in ("kind", "source", "identity", "position")} == {
        "kind": "begin",
        "source": "shop",
        "identity": "server-1",
        "position": "0a/end/0",
    }
    after = finished(gap("shop", "server-1", last_position(began), Position("0f"), "lost"))
    assert {name: after[name] for name in ("kind", "identity", "from", "to", "reason")} == {
        "kind": "gap",
        "identity": "server-1",
        "from": "0a/end/0",
        "to": "0f/end/0",
        "reason": "lost",
    }
    assert last_position(after) == "0f/end/0"


def test_an_entry_says_up_to_where_its_trail_is_recorded() -> None:
    change = Change(3, Op.INSERT, 1, None, None, (1, "new", None))
    assert last_position(only(batch(orders(), change))) == "00000000000000ff/3/0"


def test_a_change_that_names_no_row_stops_the_trail() -> None:
    with pytest.raises(Halt, match="neither key nor row"):
        prepare(batch(orders(), Change(1, Op.DELETE, 1, None, None, None)))


@pytest.mark.parametrize("row", [(object(), None, None), ("\ud800", None, None), (1, 2), (1, 2, 3, 4)])
def test_what_has_no_form_stops_the_trail_without_telling_values(row: tuple[Any, ...]) -> None:
    with pytest.raises(Halt, match=r"public\.orders can't be recorded") as caught:
        prepare(batch(orders(), Change(1, Op.INSERT, 1, None, None, row)))
    assert caught.value.state == State.UNREPRESENTABLE_VALUE
    assert "d800" not in str(caught.value)
