"""What the ledger holds of the four tables, held against the source that it is about."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from tests.faults.books import COLUMNS, SqlBooks
from worker_sync.ledger.merkle import Frontier, leaf_hash

Entry = dict[str, Any]
#: What two changes can't both have done to a row of these tables: every change gives a row another version.
_NUMBERED = ("items", "accounts", "steps")
_LEAVES = "SELECT number, leaf, entry FROM worker_sync_ledger.entries ORDER BY number"
_HEAD = "SELECT size, roots FROM worker_sync_ledger.head"


def assert_one_tree(control: str) -> int:
    """Every number from 0 on stands once, in one tree whose head is the ledger's; returns its size."""
    frontier = Frontier()
    with psycopg.connect(control) as connection:
        # Others record all the while: both answers are of one moment.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        rows = connection.execute(_LEAVES).fetchall()
        head = connection.execute(_HEAD).fetchone()
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert all(leaf_hash(entry.encode()) == leaf for _, leaf, entry in rows)
    assert all(json.loads(entry)["number"] == str(number) for number, _, entry in rows)
    frontier.append([row[1] for row in rows])
    assert head == (frontier.size, b"".join(frontier.roots))
    return frontier.size


def assert_recorded(control: str, source: str, books: SqlBooks) -> None:
    """Every change of the source since its trail began stands in the ledger once, in the order of the log."""
    entries = list(_entries(control, source))
    others = [entry["kind"] for entry in entries if entry["kind"] != "change"]
    assert others == ["begin", "scope"], f"{source} has a gap, or said again what it records"
    changes = [entry for entry in entries if entry["kind"] == "change"]
    assert changes, f"nothing is recorded of {source}"
    twice = [name for name, count in Counter(entry["id"] for entry in changes).items() if count > 1]
    assert twice == [], f"changes of {source} stand in the ledger twice"
    places = [(entry["transaction"]["position"], int(entry["ordinal"])) for entry in changes]
    assert places == sorted(places), f"the ledger has changes of {source} in another order than its log"
    _assert_steps(source, [_table(entry)[1] for entry in changes if _table(entry)[0] == "steps"], books)
    for table in _NUMBERED:
        _assert_last(source, table, [entry for entry in changes if _table(entry)[0] == table], books)


def _entries(control: str, source: str) -> Iterator[Entry]:
    query = "SELECT entry FROM worker_sync_ledger.entries WHERE source = %s ORDER BY number"
    with psycopg.connect(control) as connection:
        for (entry,) in connection.execute(query, [source]):
            yield json.loads(entry)


def _table(entry: Entry) -> tuple[str, Entry]:
    return entry["table"].rpartition(".")[2], entry


def _assert_steps(source: str, entries: Sequence[Entry], books: SqlBooks) -> None:
    """Every transaction adds the next step, so one that is missing shows."""
    numbers = [int(entry["after"]["n"]) for entry in entries]
    assert numbers == list(range(numbers[0], books.steps() + 1)), f"steps of {source}"


def _assert_last(source: str, table: str, entries: Sequence[Entry], books: SqlBooks) -> None:
    """What the entries of every row come to in the end is what the row is now."""
    names = COLUMNS[table]
    now = {str(row[0]): dict(zip(names, map(_text, row), strict=True)) for row in books.rows(table)}
    for key, row in _replayed(names[0], entries).items():
        there = now.get(key)
        if row is None or there is None:
            assert row == there, f"{table} {key} of {source}: the ledger has {row}, the source {there}"
        else:
            # Of a row that was there before, columns that were never sent are not known.
            assert row == {name: there[name] for name in row}, f"{table} {key} of {source}: the ledger, and the source"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _replayed(key: str, entries: Sequence[Entry]) -> dict[str, dict[str, str | None] | None]:
    """Each row that the entries know, by its key; None where it was deleted."""
    rows: dict[str, dict[str, str | None] | None] = {}
    for entry in entries:
        if entry["operation"] == "truncate":
            rows = dict.fromkeys(rows)
            continue
        before = rows.get(entry["key"][key]) or {}
        rows[entry["key"][key]] = None
        if entry["after"] is not None:
            sent = {name: value for name, value in entry["after"].items() if value != {"unchanged": True}}
            rows[entry["after"][key]] = {**before, **sent}
    return rows
