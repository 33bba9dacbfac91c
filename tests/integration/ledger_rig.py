"""A ledger in a real database: batches for it, and what it holds, recomputed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from connectors.ledger.sink import LedgerSink
from worker_sync.core.change import Batch, Change, Op, Section, TransactionInfo
from worker_sync.core.position import BEGINNING, Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.indexed import Indexed, indexed
from worker_sync.ledger.merkle import Frontier, leaf_hash, split_hashes

TRAIL = "audit.shop"
IDENTITY = "server-1"
COMMITTED_US = 1_769_860_800_000_000
TEXT = Type(Kind.TEXT, "text")
ORDERS = TableSchema(
    TableName("public", "orders"),
    (Column("id", Type(Kind.INT, "bigint", size=64), False), Column("state", TEXT), Column("note", TEXT)),
    ("id",),
    "postgresql",
)


def at(number: int) -> Position:
    """The end of transaction `number`."""
    return Position(f"{number:016x}") if number else BEGINNING


def inserts(number: int, count: int = 1) -> list[Change]:
    """The changes of transaction `number`: `count` new rows, whose keys tell them from those of all others."""
    return [Change(n, Op.INSERT, 1, None, None, (number * 1_000_000 + n, "new", "ж")) for n in range(1, count + 1)]


def batch(first: int, *transactions: list[Change], trail: str = TRAIL, context: str = "", **more: Any) -> Batch:
    """The transactions from number `first` on."""
    numbered = list(enumerate(transactions, first))
    fields: dict[str, Any] = {
        "source": trail.removeprefix("audit."),
        "pipeline": trail,
        "shard": 0,
        "epoch": 1,
        "after": at(first - 1),
        "upto": at(first + len(transactions) - 1),
        "sections": [
            Section(
                TransactionInfo(at(number).commit, 1_769_860_800_000_000 + number, str(number)), len(changes), context
            )
            for number, changes in numbered
            if changes
        ],
        "tables": {1: ORDERS},
        "changes": [change for _, changes in numbered for change in changes],
        "captured_at": 1_769_860_801_000_000,
        "host": "db-1",
    }
    return Batch(**(fields | more))


def opened(url: str) -> LedgerSink:
    return LedgerSink("ledger", f"ledger+{url}")


def fenced(sink: LedgerSink, trail: str = TRAIL, epoch: int = 1) -> None:
    sink.fence(trail, 0, epoch, IDENTITY, BEGINNING)


def read(url: str) -> list[dict[str, Any]]:
    """All entries, after everything that the ledger holds was computed again from their bytes."""
    with psycopg.connect(url, row_factory=namedtuple_row) as connection:
        rows: list[Any] = connection.execute("SELECT * FROM worker_sync_ledger.entries ORDER BY number").fetchall()
        heads: list[Any] = connection.execute("SELECT * FROM worker_sync_ledger.head").fetchall()
        stored = connection.execute("SELECT level, index, hash FROM worker_sync_ledger.subtrees").fetchall()
    tree = Frontier()
    completed = tree.append([leaf_hash(row.entry.encode()) for row in rows])
    assert [row.number for row in rows] == list(range(len(rows)))
    entries = [_checked(row) for row in rows]
    times = [row.recorded_at for row in rows]
    assert times == sorted(times)
    assert [(head.size, tuple(split_hashes(head.roots))) for head in heads] == [(tree.size, tree.roots)]
    assert sorted(stored) == sorted((s.level, s.index, s.hash) for s in completed)
    return entries


def changes(url: str, trail: str = TRAIL) -> list[str]:
    """The ids of the changes of a trail, as they stand in the ledger."""
    source = trail.removeprefix("audit.")
    return [entry["id"] for entry in read(url) if entry["kind"] == "change" and entry["source"] == source]


def _checked(row: Any) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(row.entry)
    assert canonical(entry) == row.entry.encode()
    assert row.leaf == leaf_hash(row.entry.encode())
    assert entry["number"] == str(row.number)
    assert entry["recorded_at"] == _text(row.recorded_at)
    columns = row.kind, row.source, row.table_name, row.operation, row.key, row.transaction, _text(row.committed_at)
    assert Indexed(*columns, row.actor) == indexed(entry)
    return entry


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
