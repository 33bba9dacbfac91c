"""What of its source a trail records, from one configuration to the next."""

from __future__ import annotations

import json

import pytest

from worker_sync.core.position import Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.sections import Audit, Pipeline, trail
from worker_sync.core.selection import select
from worker_sync.core.table_scope import TableScope, scope_of
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.recording import last_position
from worker_sync.ledger.scopes import difference, scope, tables_of

TEXT = Type(Kind.TEXT, "text")
ORDERS = TableSchema(
    TableName("public", "orders"), tuple(Column(name, TEXT) for name in ("id", "state", "note")), ("id",), "postgresql"
)
ORDERS_WHOLE = TableScope("public.orders")
ITEMS = TableScope("public.items")


def made(before: list[TableScope], now: list[TableScope]) -> dict[str, object]:
    entry = scope("shop", Position("0a"), now, difference(before, now)).finished(b"7", b"2026-01-31T12:00:00.000000Z")
    parsed: dict[str, object] = json.loads(entry)
    assert canonical(parsed) == entry
    return parsed


def carried(columns: dict[str, object] | None) -> TableScope:
    rule = {"name": "public.orders"} | ({} if columns is None else {"columns": columns})
    pipeline: Pipeline = trail("shop", Audit.model_validate({"tables": [rule]}))
    [selected] = select(pipeline, [ORDERS])
    return scope_of(selected)


@pytest.mark.parametrize(
    ("columns", "left_out", "masked"),
    [
        (None, (), ()),
        ({"exclude": ["note", "state"]}, ("note", "state"), ()),
        ({"include": ["note"]}, ("state",), ()),
        ({"mask": {"note": {"method": "null"}}}, (), ("note",)),
        ({"exclude": ["state"], "mask": {"note": {"method": "redact", "text": "x"}}}, ("state",), ("note",)),
    ],
)
def test_the_columns_that_a_rule_keeps_back(
    columns: dict[str, object] | None, left_out: tuple[str, ...], masked: tuple[str, ...]
) -> None:
    assert carried(columns) == TableScope("public.orders", left_out, masked)


def test_an_entry_says_what_is_recorded_and_what_became_of_it() -> None:
    narrow = TableScope("public.orders", ("note",), ("state",))
    entry = made([ORDERS_WHOLE, TableScope("public.gone")], [narrow, ITEMS])
    assert (entry["kind"], entry["source"], last_position(entry)) == ("scope", "shop", "0a/end/0")
    assert (entry["added"], entry["removed"], entry["narrowed"]) == (
        ["public.items"],
        ["public.gone"],
        ["public.orders"],
    )
    assert tables_of(entry) == [ITEMS, narrow]


def test_only_what_is_recorded_less_falls_short() -> None:
    narrow = TableScope("public.orders", ("note",), ("state",))
    assert difference([], [ORDERS_WHOLE, ITEMS]).shortfall == ""
    assert difference([narrow], [ORDERS_WHOLE]).shortfall == ""
    assert difference([narrow], [TableScope("public.orders", ("state",), ("note",))]).shortfall == ""
    assert difference([ORDERS_WHOLE, ITEMS], [ITEMS]).shortfall == "public.orders is recorded no more"
    assert difference([ORDERS_WHOLE], [narrow]).shortfall == "note, state of public.orders not, or not in clear"


@pytest.mark.parametrize("tables", [None, "x", [1], [{}], [{"table": "a", "left_out": "b"}]])
def test_a_damaged_entry_is_refused(tables: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        tables_of({"tables": tables})
