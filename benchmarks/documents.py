"""Rows per second from PostgreSQL to MongoDB."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pymongo

from benchmarks import load
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.report import Figure, Report, cpu_note
from benchmarks.sides import WorkerSync
from benchmarks.throughput import USUAL

TABLE = "documents"


def documents(bed: Bed, options: Options, report: Report) -> None:
    """Transactions of 1,000 rows, each row a document."""
    rows = max(USUAL, options.rows // 3)
    load.create(bed.source, bed.target, TABLE)
    side = WorkerSync(bed, bed.documents)
    with pymongo.MongoClient[dict[str, Any]](bed.documents) as client, side.running(TABLE):
        collection = client.get_default_database()[TABLE]
        before = side.usage()
        started = time.monotonic()
        load.bulk(bed.source, TABLE, rows, USUAL)
        _await(collection, rows)
        seconds = time.monotonic() - started
        used = cpu_note(before, side.usage(), rows)
        arrived = collection.count_documents({})
        _compare(bed, collection)
    load.drop(bed.source, bed.target, TABLE)
    note = f"ms CPU/1k rows: {used}"
    report.add(Figure("mongodb", "PostgreSQL to MongoDB", "rows/s", rows / seconds, None, note, rows, arrived))


def _await(collection: pymongo.collection.Collection[dict[str, Any]], rows: int) -> None:
    deadline = time.monotonic() + load.PATIENCE_S
    while collection.find_one({"_id": rows}) is None:
        if time.monotonic() > deadline:
            raise load.LoadFailed(f"{rows} documents did not arrive within {load.PATIENCE_S:.0f} s")
        time.sleep(load.LOOK_S)


def _compare(bed: Bed, collection: pymongo.collection.Collection[dict[str, Any]]) -> None:
    """Keys and one column of all rows: an order of magnitude cheaper than everything, and enough to see a loss."""
    with psycopg.connect(bed.source) as connection:
        sent: dict[int, str] = dict(connection.execute(f"SELECT id, note FROM public.{TABLE}".encode()).fetchall())
    if sent != {found["_id"]: found["note"] for found in collection.find({}, {"note": 1})}:
        raise load.LoadFailed("the collection does not hold the table's rows")
