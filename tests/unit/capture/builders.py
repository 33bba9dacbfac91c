"""Small builders for capture tests."""

from __future__ import annotations

from connectors.base import Mark
from worker_sync.capture.lane import Cut, Lane, LaneId
from worker_sync.capture.pipeline import BatchLimits, Pipeline
from worker_sync.capture.routing import Route, Routes
from worker_sync.core.change import Change, Op, Piece, TransactionInfo
from worker_sync.core.position import Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type

ITEMS = TableSchema(
    TableName("public", "items"),
    (
        Column("id", Type(Kind.INT, "bigint", size=64), nullable=False),
        Column("name", Type(Kind.TEXT, "text")),
        Column("body", Type(Kind.TEXT, "text")),
    ),
    ("id",),
    "postgresql",
)
ITEMS_ID = 7
START = "0000000000000010"


def commit(number: int) -> str:
    return f"{number:016X}"


def info(number: int) -> TransactionInfo:
    return TransactionInfo(commit(number), number * 1_000_000, str(number))


def insert(ordinal: int, key: int, name: str = "n", body: str = "b") -> Change:
    return Change(ordinal, Op.INSERT, ITEMS_ID, None, None, (key, name, body))


def piece(number: int, changes: list[Change], *, last: bool = True) -> Piece:
    return Piece(info(number), changes, last, 100 * len(changes))


def lanes(published: list[Cut], count: int = 1, start: str = START) -> list[Lane]:
    mark = Mark(1, Position(start), "server")
    return [Lane(LaneId("shop", "p", shard, 1), mark, start, published.append) for shard in range(count)]


def pipeline(made: list[Lane], changes: int = 3, linger_s: float = 0.0, max_linger_s: float | None = None) -> Pipeline:
    routes = Routes({ITEMS_ID: ITEMS}, lambda schema: Route(schema, schema, None))
    return Pipeline("p", made, routes, BatchLimits(changes, 1 << 20, linger_s, max_linger_s or linger_s))


def applied(lane: Lane, upto: Position) -> bool:
    return lane.advance(Mark(1, upto, "server"))
