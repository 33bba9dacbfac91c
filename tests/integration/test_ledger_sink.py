"""The ledger as a target, in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from connectors.base import Outcome
from connectors.ledger import appender
from connectors.ledger.sink import LedgerSink
from connectors.registry import open_sink
from tests.integration.ledger_rig import (
    IDENTITY,
    ORDERS,
    TRAIL,
    at,
    batch,
    changes,
    fenced,
    inserts,
    opened,
    read,
)
from worker_sync.core.alteration import Alteration
from worker_sync.core.change import Change, Op
from worker_sync.core.errors import ConfigError, Fenced, Halt, State
from worker_sync.core.parking import Plan
from worker_sync.core.position import BEGINNING, Position
from worker_sync.core.schema import Column, TableName, TableSchema
from worker_sync.core.table_scope import TableScope
from worker_sync.core.values import UNCHANGED


@pytest.fixture
def ledger(target_db: str) -> Iterator[LedgerSink]:
    with opened(target_db) as sink:
        sink.prepare()
        fenced(sink)
        yield sink


def kinds(url: str) -> list[str]:
    return [entry["kind"] for entry in read(url)]


# The apply rule.


def test_a_batch_is_recorded_with_its_watermark(ledger: LedgerSink, target_db: str) -> None:
    assert ledger.apply(batch(1, inserts(1, 2), [], inserts(3))) == Outcome.APPLIED
    assert changes(target_db) == [f"shop:{at(1).commit}:1", f"shop:{at(1).commit}:2", f"shop:{at(3).commit}:1"]
    mark = ledger.marks(TRAIL)[0]
    assert (mark.position, mark.changes, mark.batches) == (at(3), 3, 1)
    assert mark.committed_at == 1_769_860_800_000_003


def test_a_batch_without_changes_moves_the_watermark_alone(ledger: LedgerSink, target_db: str) -> None:
    assert ledger.apply(batch(1, [])) == Outcome.APPLIED
    assert ledger.marks(TRAIL)[0].position == at(1)
    assert kinds(target_db) == ["begin"]


def test_the_same_batch_twice_changes_nothing(ledger: LedgerSink, target_db: str) -> None:
    ledger.apply(batch(1, inserts(1)))
    before = ledger.marks(TRAIL), read(target_db)
    assert ledger.apply(batch(1, inserts(1))) == Outcome.DUPLICATE
    assert (ledger.marks(TRAIL), read(target_db)) == before


def test_batches_of_another_time_change_nothing(ledger: LedgerSink, target_db: str) -> None:
    fenced(ledger, epoch=2)
    assert ledger.apply(batch(2, inserts(2), epoch=2)) == Outcome.EARLY
    assert ledger.apply(batch(1, inserts(1), epoch=1)) == Outcome.STALE
    assert ledger.apply(batch(1, inserts(1), epoch=3)) == Outcome.EARLY
    assert ledger.apply(batch(1, inserts(1), trail="audit.nobody")) == Outcome.EARLY
    assert kinds(target_db) == ["begin"]


def test_of_an_overlapping_batch_only_the_rest_is_recorded(ledger: LedgerSink, target_db: str) -> None:
    whole = batch(1, inserts(1, 3))
    middle = Position(at(1).commit, 2)
    cut = batch(1, inserts(1, 2), upto=middle, split=True)
    assert ledger.apply(cut) == Outcome.APPLIED
    assert ledger.apply(whole) == Outcome.APPLIED
    assert changes(target_db) == [f"shop:{at(1).commit}:{n}" for n in (1, 2, 3)]
    assert ledger.marks(TRAIL)[0].changes == 3


def test_a_fenced_epoch_and_another_server_are_refused(ledger: LedgerSink, target_db: str) -> None:
    fenced(ledger, epoch=2)
    with pytest.raises(Fenced):
        fenced(ledger, epoch=1)
    with pytest.raises(Halt) as caught:
        ledger.fence(TRAIL, 0, 3, "server-2", BEGINNING)
    assert caught.value.state == State.IDENTITY_CHANGED
    assert kinds(target_db) == ["begin"]


# What is recorded.


def test_every_operation_is_recorded(ledger: LedgerSink, target_db: str) -> None:
    old, new = (1, "new", "a"), (1, "paid", UNCHANGED)
    bag = TableSchema(TableName("public", "log"), ORDERS.columns, (), "postgresql")
    one = [
        Change(1, Op.INSERT, 1, None, None, old),
        Change(2, Op.UPDATE, 1, None, old, new),
        Change(3, Op.UPDATE, 1, None, None, new),
        Change(4, Op.DELETE, 1, (1,), old, None),
        Change(5, Op.TRUNCATE, 1, None, None, None),
        Change(6, Op.UPDATE, 2, (), old, (1, "paid", None)),
    ]
    ledger.apply(batch(1, one, tables={1: ORDERS, 2: bag}, context='{"actor":"ann\\u0000","order":12.50}'))
    _, *entries = read(target_db)
    assert [entry["operation"] for entry in entries] == ["insert", "update", "update", "delete", "truncate", "update"]
    assert [entry["key"] for entry in entries] == [{"id": "1"}] * 4 + [None, None]
    assert [entry["changed"] for entry in entries] == [None, ["state"], None, None, None, ["note", "state"]]
    assert entries[1]["after"]["note"] == {"unchanged": True}
    assert entries[2]["before"] == {"missing": True}
    assert entries[0]["context"] == {"actor": "ann\0", "order": "12.50"}


def test_rows_that_are_read_again_are_recorded_as_such(ledger: LedgerSink, target_db: str) -> None:
    again = [Change(1, Op.READ, 1, None, None, (1, "new", None))]
    upto = Position("", 0, 1)
    released = batch(1, again, sections=[], upto=upto, released=[("public.orders", (1,))])
    assert ledger.apply(released) == Outcome.APPLIED
    assert [entry.get("operation") for entry in read(target_db)] == [None, "read"]
    assert ledger.apply(batch(1, [], upto=Position("", 0, 2), after=upto, released=[("t", None)])) == Outcome.APPLIED


def test_an_alteration_is_an_entry(ledger: LedgerSink, target_db: str) -> None:
    wider = TableSchema(ORDERS.table, (*ORDERS.columns, Column("extra", ORDERS.columns[1].type)), ORDERS.key)
    altered = batch(1, [], alteration=Alteration(ORDERS, wider), tables={}, upto=Position("", 0, 1))
    assert ledger.apply(altered) == Outcome.APPLIED
    assert ledger.apply(altered) == Outcome.DUPLICATE
    entry = read(target_db)[-1]
    assert (entry["kind"], entry["text"]) == ("schema", "public.orders: column extra (text) was added")


def test_a_key_that_no_index_could_hold_is_recorded(ledger: LedgerSink, target_db: str) -> None:
    table = TableSchema(ORDERS.table, ORDERS.columns, ("note",))
    long = "".join(chr(0x4E00 + n % 20_000) for n in range(0, 400_000, 7))
    ledger.apply(batch(1, [Change(1, Op.INSERT, 1, None, None, (1, "a", long))], tables={1: table}))
    assert read(target_db)[-1]["key"] == {"note": long}


def test_an_entry_that_is_too_large_halts(ledger: LedgerSink, target_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "MAX_ENTRY_BYTES", 10_000)
    large = [Change(1, Op.INSERT, 1, None, None, (1, "a", "x" * 10_000))]
    with pytest.raises(Halt, match=r"public\.orders, key \[\"1\"\], has \d+ bytes"):
        ledger.apply(batch(1, large))
    assert ledger.apply(batch(1, inserts(1))) == Outcome.APPLIED
    assert kinds(target_db) == ["begin", "change"]


def test_an_entry_of_many_megabytes_is_recorded(ledger: LedgerSink, target_db: str) -> None:
    large = "\\\n\t" * 4_000_000
    ledger.apply(batch(1, [Change(1, Op.INSERT, 1, None, None, (1, "a", large))]))
    assert read(target_db)[-1]["after"]["note"] == large


def test_more_than_a_tile_of_entries_has_its_subtrees(ledger: LedgerSink, target_db: str) -> None:
    for number in range(1, 4):
        ledger.apply(batch(number, inserts(number, 300)))
    assert len(read(target_db)) == 901


# Trails begin, and say so.


def test_a_new_trail_begins_with_an_entry(ledger: LedgerSink, target_db: str) -> None:
    fenced(ledger, "audit.other")
    fenced(ledger, epoch=2)
    begun = [(entry["kind"], entry["source"], entry["identity"], entry["position"]) for entry in read(target_db)]
    assert begun == [("begin", name, IDENTITY, str(BEGINNING)) for name in ("shop", "other")]


def test_a_forgotten_trail_goes_on_behind_a_gap(ledger: LedgerSink, target_db: str) -> None:
    ledger.apply(batch(1, inserts(1, 2)))
    ledger.forget(TRAIL)
    assert ledger.marks(TRAIL) == {}
    mark = ledger.fence(TRAIL, 0, 1, IDENTITY, at(9))
    entry = read(target_db)[-1]
    assert mark.position == at(9)
    assert (entry["kind"], entry["from"], entry["to"]) == ("gap", f"{at(1).commit}/2/0", str(at(9)))
    assert entry["reason"] == "recording began anew: what committed in between is not recorded"


def test_a_trail_says_what_it_records_when_that_is_another_thing(ledger: LedgerSink, target_db: str) -> None:
    orders, items = TableScope("public.orders"), TableScope("public.items")
    for tables in ([orders, items], [items, orders], [orders], [orders], [orders, items]):
        ledger.record_scope(TRAIL, 1, tables)
    ledger.apply(batch(1, inserts(1)))
    ledger.record_scope(TRAIL, 1, [TableScope("public.orders", ("note",)), items])
    begin, first, gap, less, more, change, hidden, narrowed = read(target_db)
    assert (begin["kind"], change["kind"]) == ("begin", "change")
    assert (first["added"], first["removed"]) == (["public.items", "public.orders"], [])
    assert (less["added"], less["removed"]) == ([], ["public.items"])
    assert (more["added"], more["removed"]) == (["public.items"], [])
    assert (gap["kind"], gap["reason"]) == ("gap", "public.items is recorded no more")
    assert (gap["identity"], gap["from"], gap["to"]) == (IDENTITY, str(BEGINNING), None)
    assert (hidden["from"], hidden["reason"]) == (str(at(1)), "note of public.orders not, or not in clear")
    assert (narrowed["position"], narrowed["narrowed"]) == (str(at(1)), ["public.orders"])


def test_a_table_that_was_out_of_a_trail_without_a_word_leaves_a_gap(ledger: LedgerSink, target_db: str) -> None:
    both, one = [TableScope("public.items"), TableScope("public.orders")], [TableScope("public.orders")]
    for tables, returned in ((both, ()), (both, ["public.items"]), (one, ()), (both, ["public.items"])):
        ledger.record_scope(TRAIL, 1, tables, returned)
    assert kinds(target_db) == ["begin", "scope", "gap", "scope", "gap", "scope", "scope"]
    gap, back = read(target_db)[2:4]
    assert (gap["reason"], back["added"]) == ("public.items was out of the trail for a while", ["public.items"])


def test_a_trail_that_was_forgotten_goes_on_behind_what_it_records(ledger: LedgerSink, target_db: str) -> None:
    ledger.record_scope(TRAIL, 1, [TableScope("public.orders"), TableScope("public.items")])
    ledger.apply(batch(1, inserts(1)))
    ledger.record_scope(TRAIL, 1, [TableScope("public.orders")])
    ledger.forget(TRAIL)
    ledger.fence(TRAIL, 0, 1, IDENTITY, at(9))
    ledger.record_scope(TRAIL, 1, [TableScope("public.orders")])
    assert kinds(target_db) == ["begin", "scope", "change", "gap", "scope", "gap"]
    assert (read(target_db)[-1]["from"], read(target_db)[-1]["to"]) == (str(at(1)), str(at(9)))


def test_who_was_replaced_says_nothing_of_what_is_recorded(ledger: LedgerSink, target_db: str) -> None:
    fenced(ledger, epoch=2)
    for epoch in (1, 3):
        with pytest.raises(Fenced, match="is at epoch 2"):
            ledger.record_scope(TRAIL, epoch, [TableScope("public.orders")])
    with pytest.raises(Fenced, match="is not there any more"):
        ledger.record_scope("audit.nobody", 1, [TableScope("public.orders")])
    assert kinds(target_db) == ["begin"]


def test_a_gap_says_that_the_server_is_another_one_or_that_changes_may_repeat(
    ledger: LedgerSink, target_db: str
) -> None:
    ledger.apply(batch(1, inserts(1)))
    for identity in (IDENTITY, "server-2"):
        ledger.forget(TRAIL)
        ledger.fence(TRAIL, 0, 1, identity, BEGINNING)
    again, other = read(target_db)[-2:]
    assert again["reason"].endswith("changes may stand here twice")
    assert (other["identity"], other["reason"]) == (
        "server-2",
        "the source is another server now, before it was server-1",
    )


def test_what_the_clock_says_never_goes_back(ledger: LedgerSink, target_db: str) -> None:
    with psycopg.connect(target_db) as connection:
        connection.execute("UPDATE worker_sync_ledger.head SET recorded_at = recorded_at + interval '50 days'")
    ledger.apply(batch(1, inserts(1)))
    ledger.apply(batch(2, inserts(2)))
    first, second, third = [entry["recorded_at"] for entry in read(target_db)]
    assert first[:10] < second[:10]
    assert second == third


# What a ledger refuses.


def test_no_change_is_parked_and_no_row_is_read(ledger: LedgerSink) -> None:
    made = batch(1, inserts(1))
    with pytest.raises(Halt, match="no holes"):
        ledger.apply(made, Plan(BEGINNING, "", "", made.changes))
    with pytest.raises(Halt, match="no holes"):
        ledger.park(TRAIL, 0, 1, frozenset({("public.orders", (1,))}))
    ledger.park(TRAIL, 0, 1, frozenset())
    with pytest.raises(ConfigError, match="worker-sync audit verify"):
        ledger.reader()


def test_a_table_stays_what_it_is(ledger: LedgerSink) -> None:
    assert ledger.map_table(ORDERS, "elsewhere") == ORDERS
    assert not ledger.create_table(ORDERS)


def test_entries_where_the_head_has_none_halt(ledger: LedgerSink, target_db: str) -> None:
    with psycopg.connect(target_db) as connection:
        connection.execute(
            "INSERT INTO worker_sync_ledger.entries (number, recorded_at, kind, leaf, entry) "
            "SELECT 1, recorded_at + interval '1 hour', 'change', sha256(''), '{}' FROM worker_sync_ledger.head"
        )
        connection.execute("UPDATE worker_sync_ledger.head SET recorded_at = recorded_at + interval '1 hour'")
    with pytest.raises(Halt) as caught:
        ledger.apply(batch(1, inserts(1)))
    assert caught.value.state == State.TARGET_REJECTED


def test_the_url_of_a_ledger_is_that_of_its_database(target_db: str) -> None:
    with open_sink("audit", f"ledger+{target_db}") as sink, open_sink("target", target_db) as plain:
        sink.prepare()
        sink.prepare()
        assert isinstance(sink, LedgerSink)
        assert sink.identity() == plain.identity()
        assert sink.marks(TRAIL) == {}
