"""Parking what a target refuses, against a model that takes changes one by one."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import Outcome
from connectors.memory import MemorySink
from connectors.memory_store import MemoryDatabase
from tasks.bisection import TooMany, find_refused
from tasks.parking import WAITING, Parker
from tests.contract.naive import apply_naively, transactions
from tests.contract.sink_target import (
    PIPELINE,
    SHARD,
    Script,
    at,
    chunk_batch,
    created,
    delete,
    fence,
    insert,
    notes,
    read_rows,
    table_schema,
    truncate,
    update,
)
from worker_sync.core import sections
from worker_sync.core.apply import changes_beyond
from worker_sync.core.change import Batch, Change, Op
from worker_sync.core.codec import decode
from worker_sync.core.errors import Permanent, TargetRejected, Transient
from worker_sync.core.parking import Plan, choose, key_text, parked_text, parse_key, parse_parked
from worker_sync.core.position import BEGINNING, Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.table_rules import TableRule
from worker_sync.core.values import Key, Row
from worker_sync.store.dead_letters import Letter

TABLE = "public.notes"


class PickySink(MemorySink):
    """Refuses every change that gives a row one of the keys `bad`, and fails once, after the rehearsals, if told to."""

    def __init__(self, url: str) -> None:
        super().__init__("target", url)
        self.bad: Collection[int] = ()
        self.crash = False
        self.rehearsals = 0

    def apply(self, batch: Batch, plan: Plan | None = None) -> str:
        mark = self.marks(PIPELINE)[SHARD]
        changes = choose(batch, mark.position, parked_text(mark.parked), plan)
        self.rehearsals += plan is not None and plan.rehearsal
        if batch.after <= mark.position < batch.upto:
            for change in changes or ():
                if change.after is not None and change.after[0] in self.bad:
                    raise TargetRejected("picky")
        if plan is not None and not plan.rehearsal and self.crash:
            self.crash = False
            raise Transient("killed")
        return super().apply(batch, plan)


class Letters:
    """What a control store would keep."""

    def __init__(self) -> None:
        self.kept: dict[str, Letter] = {}
        self.again: list[str] = []

    def park(self, letters: Collection[Letter]) -> None:
        for letter in letters:
            self.kept.setdefault(letter.identity, letter)

    def refuse(self, pipeline: str, table: str, key: str, error_type: str, error: str) -> int:
        self.again.append(key)
        return sum(letter.key == key for letter in self.kept.values())

    def changes(self, pipeline: str) -> int:
        return len(self.kept)


@pytest.fixture
def sink() -> Iterator[PickySink]:
    url = f"memory://{uuid.uuid4().hex}"
    yield PickySink(url)
    MemoryDatabase.drop(url)


@pytest.fixture
def table(sink: PickySink) -> TableSchema:
    return created(sink, notes())


def parker(sink: MemorySink, store: Letters, on_rejected: Literal["park", "halt"] = "park", **limits: int) -> Parker:
    rules: Any = [TableRule(name="public.*")]
    pipeline = sections.Pipeline(source="s", target="t", tables=rules, on_rejected=on_rejected)
    kept: Any = store
    return Parker(sink, pipeline, sections.DeadLetters(**limits), lambda: kept)


# -- text


_parts = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()


@given(st.lists(_parts, max_size=4).map(tuple))
def test_a_key_is_the_same_after_its_text(key: Key) -> None:
    text = key_text(key)
    assert parse_key(text) == key
    assert key_text(parse_key(text)) == text
    assert [type(part) for part in parse_key(text)] == [type(part) for part in key]


def test_a_key_that_is_no_text_can_be_stored() -> None:
    text = key_text(("\udc80ä", "ä"))
    assert text.encode()
    assert parse_key(text) == ("\udc80ä", "ä")
    assert key_text(("ä",)) == '["ä"]'


@pytest.mark.parametrize("text", ['{"a":1}', "1", '[{"bytes":1}]', '[{"hex":"00"}]', "[[1]]", "[", ""])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|Expecting"):
        parse_key(text)


@given(st.frozensets(st.tuples(st.text(max_size=3), st.lists(_parts, max_size=2).map(tuple)), max_size=5))
def test_a_set_of_parked_keys_has_one_text(parked: frozenset[tuple[str, Key]]) -> None:
    text = parked_text(parked)
    assert {(table, key_text(key)) for table, key in parse_parked(text)} == {(t, key_text(k)) for t, k in parked}
    assert parked_text(sorted(parse_parked(text), key=repr)) == text
    assert parse_parked(None) == parse_parked("") == frozenset()


# -- the model


def _model(
    script: list[list[Change]], bad: Collection[int]
) -> tuple[dict[Key, Row], list[tuple[int, int, Key]], set[Key]]:
    """The target's rows, where letters come from, and the held keys, of changes taken one by one."""
    rows: dict[Key, Row] = {}
    letters: list[tuple[int, int, Key]] = []
    held: set[Key] = set()
    for number, changes in enumerate(script, 1):
        for ordinal, change in enumerate(changes, 1):
            if change.op == Op.TRUNCATE:
                held.clear()
                apply_naively(rows, [change])
                continue
            new = None if change.after is None else change.after[:1]
            keys = [key for key in dict.fromkeys((change.key or new, new)) if key is not None]
            if held.isdisjoint(keys) and (new is None or new[0] not in bad):
                apply_naively(rows, [change])
                continue
            held.update(keys)
            letters += [(number, ordinal, key) for key in keys]
    return rows, letters, held


def _of(key: Key, letters: list[tuple[int, int, Key]]) -> list[tuple[int, int, Key]]:
    return [letter for letter in letters if letter[2] == key]


def _since_truncate(script: list[list[Change]], letters: list[tuple[int, int, Key]]) -> list[tuple[int, int, Key]]:
    cuts = [(n, o) for n, changes in enumerate(script, 1) for o, c in enumerate(changes, 1) if c.op == Op.TRUNCATE]
    return [letter for letter in letters if not cuts or letter[:2] > max(cuts)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(transactions(), st.sets(st.integers(1, 5), max_size=3), st.data())
def test_any_script_with_any_bad_keys_parks_exactly_what_taking_it_one_by_one_would(
    script: list[list[Change]], bad: set[int], data: st.DataObject
) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    sink, letters = PickySink(url), Letters()
    table = created(sink, notes())
    fence(sink)
    sink.bad = bad
    written = Script(table)
    for changes in script:
        written.add(*changes)
    work, done = parker(sink, letters), 0
    while done < len(script):
        upto = data.draw(st.integers(done + 1, len(script)))
        # A batch may overlap with what was applied, come twice, and its worker die between the letters and the rest.
        batch = written.batch(data.draw(st.integers(1, done + 1)), upto)
        sink.crash = data.draw(st.booleans())
        try:
            outcome = work.apply(batch)
        except Transient:
            outcome = work.apply(batch)
        assert outcome == Outcome.APPLIED
        assert work.apply(batch) == Outcome.DUPLICATE
        done = upto
    rows, expected, held = _model(script, bad)
    assert read_rows(sink, table) == rows
    mark = sink.marks(PIPELINE)[SHARD]
    assert mark.parked == {(TABLE, key) for key in held}
    found = [(int(Position.parse(x.position).commit, 16), x.ordinal, parse_key(x.key)) for x in letters.kept.values()]
    assert [letter for letter in found if letter not in expected] == []
    for key in {letter[2] for letter in expected}:
        # In the order of the log, within a key; what a truncate in the same batch made void needs no letter.
        assert _of(key, _since_truncate(script, found)) == _of(key, _since_truncate(script, expected))  # type: ignore[arg-type]
    MemoryDatabase.drop(url)


# -- finding what is refused


def test_three_refused_of_a_thousand_take_few_tries() -> None:
    bad, tries = {17, 500, 999}, 0

    def attempt(refused: Collection[int], count: int) -> Permanent | None:
        nonlocal tries
        tries += 1
        return (
            TargetRejected("")
            if bad - set(refused) & set(range(count)) & bad
            and any(place < count and place not in refused for place in bad)
            else None
        )

    assert set(find_refused([1000], attempt, 10)) == bad
    assert tries <= 3 * 12 + 10


def test_more_refusals_than_may_be_parked_end_the_search() -> None:
    def attempt(refused: Collection[int], count: int) -> Permanent | None:
        return None if all(place in refused for place in range(count)) else TargetRejected("all of them")

    with pytest.raises(TooMany, match="all of them"):
        find_refused([50, 100], attempt, 7)


def test_rows_that_swap_a_unique_value_are_not_taken_for_refused_ones(sink: PickySink) -> None:
    swapped = created(sink, table_schema("seats", *notes().columns))
    MemoryDatabase.of(sink_url(sink)).create_table(swapped, unique=[("body",)])
    fence(sink)
    script = Script(swapped)
    script.add(*(insert((number, "t", str(number))) for number in range(1, 9)))
    script.add(
        update((1, "t", "2")),
        update((2, "t", "3")),
        update((3, "t", "1")),
        insert((66, "bad", "66")),
        insert((9, "t", "9")),
    )
    letters = Letters()
    sink.bad = [66]
    assert parker(sink, letters).apply(script.whole()) == Outcome.APPLIED
    assert [letter.key for letter in letters.kept.values()] == ["[66]"]
    assert {row[0]: row[2] for row in read_rows(sink, swapped).values()} == {
        1: "2", 2: "3", 3: "1", **{number: str(number) for number in range(4, 10)}
    }  # fmt: skip


def sink_url(sink: PickySink) -> str:
    database = sink._database
    return next(f"memory://{name}" for name, known in MemoryDatabase._all.items() if known is database)


# -- letters


def test_a_letter_tells_which_change_it_is_and_holds_it(sink: PickySink, table: TableSchema) -> None:
    fence(sink)
    script = Script(table)
    script.add(insert((1, "a", None)))
    script.add(insert((2, "b", None)), insert((3, "c", "secret")), update((3, "d", None)))
    letters = Letters()
    sink.bad = [3]
    assert parker(sink, letters).apply(script.whole()) == Outcome.APPLIED
    first, second = letters.kept.values()
    assert (first.pipeline, first.shard, first.table, first.key, first.op) == (PIPELINE, SHARD, TABLE, "[3]", "c")
    assert (first.position, first.ordinal, first.attempts) == (f"{at(2).commit}/2/0", 2, 1)
    assert (first.error_type, second.error_type, second.attempts) == ("TargetRejected", WAITING, 0)
    assert "secret" not in f"{first}{second}"
    alone = decode(first.payload)
    assert alone.changes == [script.transactions[1][1]]
    assert alone.tables == {1: table}


def test_a_key_that_moves_has_a_letter_under_each_name(sink: PickySink, table: TableSchema) -> None:
    fence(sink)
    script = Script(table)
    script.add(insert((1, "a", None)), update((7, "a", None), (1,)))
    script.add(insert((1, "new", None)), update((2, "x", None), (7,)))
    letters = Letters()
    sink.bad = [7]
    assert parker(sink, letters).apply(script.whole()) == Outcome.APPLIED
    assert [letter.key for letter in letters.kept.values()] == ["[1]", "[7]", "[1]", "[7]", "[2]"]
    assert sink.marks(PIPELINE)[SHARD].parked == {(TABLE, (1,)), (TABLE, (7,)), (TABLE, (2,))}
    assert read_rows(sink, table) == {(1,): (1, "a", None)}


def test_a_row_of_a_snapshot_is_parked_and_its_table_goes_on(sink: PickySink, table: TableSchema) -> None:
    fence(sink)
    letters = Letters()
    sink.bad = [2]
    work = parker(sink, letters)
    rows: list[Row] = [(number, "r", None) for number in (1, 2, 3)]
    assert work.apply(chunk_batch(table, rows, BEGINNING, 1)) == Outcome.APPLIED
    assert sorted(read_rows(sink, table)) == [(1,), (3,)]
    mark = sink.marks(PIPELINE)[SHARD]
    assert mark.snapshots[TABLE].chunk == 1
    # After a crash another row may be read at the same place of the log: it is another letter.
    other = chunk_batch(table, [(5, "r", None), (6, "r", None)], BEGINNING, 1)
    sink.bad = [6]
    sink.forget(PIPELINE)
    fence(sink)
    assert work.apply(other) == Outcome.APPLIED
    assert [(letter.key, letter.op) for letter in letters.kept.values()] == [("[2]", "r"), ("[6]", "r")]


def test_a_replay_that_is_refused_again_changes_the_letters_it_has(sink: PickySink, table: TableSchema) -> None:
    fence(sink)
    script = Script(table)
    script.add(insert((3, "c", None)))
    letters = Letters()
    sink.bad = [3]
    work = parker(sink, letters)
    assert work.apply(script.whole()) == Outcome.APPLIED
    upto = Position(at(1).commit, at(1).ordinal, 1)
    row = Change(1, Op.READ, 1, None, None, (3, "again", None))
    replay = Batch("s", PIPELINE, SHARD, 1, at(1), upto, [], {1: table}, [row], released=[(TABLE, (3,))])
    assert work.apply(replay) == Outcome.APPLIED
    mark = sink.marks(PIPELINE)[SHARD]
    assert mark.position == upto
    assert mark.parked == {(TABLE, (3,))}
    assert (letters.again, len(letters.kept)) == (["[3]"], 1)
    # A key without a letter gets one: no key is held unseen.
    letters.kept.clear()
    sink.forget(PIPELINE)
    sink.fence(PIPELINE, SHARD, 1, mark.identity, at(1))
    sink.park(PIPELINE, SHARD, 1, mark.parked)
    assert work.apply(replay) == Outcome.APPLIED
    assert [letter.key for letter in letters.kept.values()] == ["[3]"]


# -- what is not parked


def test_with_halt_nothing_is_parked_but_what_waits_for_parked_keys(sink: PickySink, table: TableSchema) -> None:
    fence(sink)
    script = Script(table)
    script.add(insert((3, "c", None)))
    script.add(update((3, "d", None)), insert((4, "x", None)))
    script.add(insert((5, "x", None)))
    letters = Letters()
    sink.bad = [3, 5]
    with pytest.raises(TargetRejected):
        parker(sink, letters, "halt").apply(script.batch(1, 1))
    assert not letters.kept
    assert parker(sink, letters).apply(script.batch(1, 1)) == Outcome.APPLIED
    assert parker(sink, letters, "halt").apply(script.batch(2, 2)) == Outcome.APPLIED
    with pytest.raises(TargetRejected):
        parker(sink, letters, "halt").apply(script.batch(3, 3))
    assert [letter.key for letter in letters.kept.values()] == ["[3]", "[3]"]
    assert read_rows(sink, table) == {(4,): (4, "x", None)}


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"per_batch": 2}, "dead_letters.per_batch"),
        ({"keys": 2}, "dead_letters.keys"),
        ({"letters": 4}, "dead_letters.letters"),
    ],
)
def test_more_than_the_limits_halts_as_a_broken_target_does(
    sink: PickySink, table: TableSchema, limits: dict[str, Any], named: str
) -> None:
    fence(sink)
    script = Script(table)
    script.add(*(insert((number, "x", None)) for number in (1, 2, 3)), *(delete((number,)) for number in (1, 2, 3)))
    letters = Letters()
    sink.bad = [1, 2, 3]
    with pytest.raises(TargetRejected, match=named):
        parker(sink, letters, **limits).apply(script.whole())
    assert not letters.kept
    assert sink.marks(PIPELINE)[SHARD].position == BEGINNING


def test_a_refused_row_without_a_key_is_not_parked(sink: PickySink) -> None:
    bag = created(sink, table_schema("lines", Column("n", Type(Kind.INT, "bigint", size=64), False), key=()))
    fence(sink)
    script = Script(bag)
    script.add(insert((1,)), insert((2,)))
    sink.bad = [2]
    letters = Letters()
    with pytest.raises(TargetRejected):
        parker(sink, letters).apply(script.whole())
    assert not letters.kept
    assert sink.marks(PIPELINE)[SHARD].position == BEGINNING


def test_a_truncate_makes_what_was_refused_before_it_void(sink: PickySink, table: TableSchema) -> None:
    fence(sink)
    script = Script(table)
    script.add(insert((3, "c", None)), truncate(), insert((4, "x", None)))
    sink.bad = [3]
    letters = Letters()
    assert parker(sink, letters).apply(script.whole()) == Outcome.APPLIED
    assert (letters.kept, sink.marks(PIPELINE)[SHARD].parked) == ({}, frozenset())
    assert read_rows(sink, table) == {(4,): (4, "x", None)}


def test_what_was_refused_and_is_applied_by_another_worker_meanwhile_ends_as_applied(
    sink: PickySink, table: TableSchema
) -> None:
    fence(sink)
    script = Script(table)
    script.add(insert((3, "c", None)), insert((4, "x", None)))
    batch, letters = script.whole(), Letters()
    sink.bad = [3]

    class Late(Letters):
        def park(self, some: Collection[Letter]) -> None:
            letters.park(some)
            sink.bad = []
            assert MemorySink.apply(sink, batch) == Outcome.APPLIED

        def changes(self, pipeline: str) -> int:
            return 0

    assert parker(sink, Late()).apply(batch) == Outcome.DUPLICATE
    assert (len(read_rows(sink, table)), sink.marks(PIPELINE)[SHARD].parked) == (2, frozenset())
    assert changes_beyond(batch, at(1)) == []
    assert TableName("public", "notes") == table.table
