"""Where a process can die: a place in the program's code, between two things that last.

A failpoint is one line of the table. `python -m tests.faults.failpoint NAME ...` runs the program with that place
wrapped from outside; nothing in the program knows of it. `tests/architecture/test_failpoints.py` holds that every
place exists, so a rename fails there and not by a failpoint that never strikes.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final, Literal

Role = Literal["capture", "worker", "replay", "discard"]
Moment = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Failpoint:
    """The process that plays `role` ends by SIGKILL right `moment` the `call`-th call of `place`. `after` counts calls
    that return: a copy into a table that has the row already raises, and is done in another way.

    `replay` and `discard` are the commands of these names. `place` is `module:name` or `module:Class.method`. `given`:
    only calls count that have this among their arguments. `engine`: of which the source (of a capture) or the target
    (of a worker) has to be. `fresh`: it is passed only while nothing is set up yet, in the order of the table.
    """

    name: str
    role: Role
    moment: Moment
    place: str
    call: int = 1
    given: str = ""
    engine: str = ""
    fresh: bool = False


def _capture(name: str, moment: Moment, place: str, call: int = 1, **more: Any) -> Failpoint:
    return Failpoint(name, "capture", moment, place, call, **more)


def _worker(name: str, moment: Moment, place: str, call: int = 1, **more: Any) -> Failpoint:
    return Failpoint(name, "worker", moment, place, call, **more)


_PG, _MY, _MO = "connectors.postgres", "connectors.mysql", "connectors.mongodb"
_CAP = "worker_sync.capture"
_STORE = "worker_sync.store"
_LEDGER = "connectors.ledger"

CAPTURE: Final = (
    # Setting up: each start of a capture comes one step further.
    _capture("lease taken, nothing recorded", "after", f"{_STORE}.leases:Leases.acquire", fresh=True),
    _capture("before versions are saved", "before", f"{_STORE}.versions:TableVersions.save_all", fresh=True),
    _capture("versions saved, no stream", "after", f"{_STORE}.versions:TableVersions.save_all", fresh=True),
    _capture("postgresql stream created, no checkpoint", "after", f"{_PG}.source:PostgresSource.create_stream",
             engine="postgresql", fresh=True),
    _capture("mysql stream created, no checkpoint", "after", f"{_MY}.source:MysqlSource.create_stream",
             engine="mysql", fresh=True),
    _capture("checkpoint saved, no target", "after", f"{_STORE}.checkpoints:Checkpoints.save", fresh=True),
    _capture("place for watermarks made, no table", "after", f"{_PG}.sink:PostgresSink.prepare", fresh=True),
    _capture("target table created, not fenced", "after", f"{_PG}.sink:PostgresSink.create_table", fresh=True),
    _capture("target fenced, lanes not saved", "after", f"{_PG}.sink:PostgresSink.fence", fresh=True),
    # The copy.
    _capture("chunk read, not sent", "after", f"{_CAP}.fetcher:Fetcher._read", 2),
    _capture("chunk sent to the first shard", "after", f"{_CAP}.lane:Lane.send_chunk", 2),
    _capture("table without key copied in part", "after", f"{_CAP}.snapshot:Loader._send_bag"),
    # The stream.
    _capture("batch cut, not published", "before", f"{_CAP}.publisher:Publisher._deliver", 8),
    _capture("batch handed to the broker's client", "before", "tasks.parcels:publish", 8),
    _capture("batch published", "after", f"{_CAP}.publisher:Publisher._deliver", 8),
    _capture("applied, checkpoint not saved", "before", f"{_STORE}.checkpoints:Checkpoints.save", 4),
    _capture("checkpoint saved, source not confirmed", "after", f"{_STORE}.checkpoints:Checkpoints.save", 4),
    _capture("before the slot is confirmed", "before", f"{_PG}.stream:PostgresStream.confirm", 2, engine="postgresql"),
    _capture("slot confirmed", "after", f"{_PG}.stream:PostgresStream.confirm", 2, engine="postgresql"),
)  # fmt: skip

WORKER: Final = (
    _worker("task taken, nothing done", "before", "tasks.sync:apply_batch", 3),
    _worker("postgresql: watermark locked", "after", f"{_PG}.sink:PostgresSink._stand", 3, engine="postgresql"),
    _worker("postgresql: rows staged, none written", "after", f"{_PG}.sink:_load", 3, engine="postgresql"),
    _worker("postgresql: rows written, watermark not", "before", f"{_PG}.watermarks:advance", 3, engine="postgresql"),
    _worker("postgresql: watermark moved, not committed", "before", "psycopg:Connection.execute", 3,
            given="COMMIT", engine="postgresql"),
    _worker("postgresql: committed, not acknowledged", "after", f"{_PG}.sink:PostgresSink.apply", 3,
            engine="postgresql"),
    _worker("mysql: watermark locked", "after", f"{_MY}.session:Session.transaction", 3, engine="mysql"),
    _worker("mysql: rows written, watermark not", "before", f"{_MY}.sink:MysqlSink._advance", 3, engine="mysql"),
    _worker("mysql: committed, not acknowledged", "after", f"{_MY}.sink:MysqlSink._advance", 3, engine="mysql"),
    _worker("mongodb: watermark moved, rows not", "before", f"{_MO}.writes:Writer.write", 3, engine="mongodb"),
    _worker("mongodb: rows written, not committed", "before", f"{_MO}.applying:_commit", 3, engine="mongodb"),
    _worker("mongodb: committed, not acknowledged", "after", f"{_MO}.applying:_commit", 3, engine="mongodb"),
    _worker("applied, message not acknowledged", "before", "celery.worker.request:Request.acknowledge", 3),
    _worker("message acknowledged", "after", "celery.worker.request:Request.acknowledge", 3),
)  # fmt: skip

#: Passed only where something is parked.
PARKING: Final = (_worker("letters written, keys not held", "after", f"{_STORE}.dead_letters:DeadLetters.park"),)

#: Passed only while a person's decision about parked keys is carried out.
DECISIONS: Final = (
    Failpoint("replay decided, nobody asked", "replay", "before", f"{_STORE}.signals:Signals.send"),
    Failpoint("replay asked, nobody told", "replay", "after", f"{_STORE}.signals:Signals.send"),
    _capture("replay read, not sent", "before", f"{_CAP}.replay:Replayer._send"),
    _capture("replay sent", "after", f"{_CAP}.replay:Replayer._send"),
    _capture("keys let go, letters parked", "before", f"{_STORE}.dead_letters:DeadLetters.resolve"),
    _capture("letters replayed, request unfinished", "before", f"{_STORE}.signals:Signals.finish"),
    Failpoint("discard decided, not recorded", "discard", "before", f"{_STORE}.dead_letters:DeadLetters.discard"),
    Failpoint("discard recorded, nobody told", "discard", "after", f"{_STORE}.dead_letters:DeadLetters.discard"),
)

#: Passed only while a target takes nothing, or takes what had gone over the capture's disk.
SPILLING: Final = (
    _capture("batches spilled, not synced", "before", f"{_CAP}.spill_file:FileWriter.sync", 3),
    _capture("spill synced, checkpoint not saved", "after", f"{_CAP}.spill_file:FileWriter.sync", 3),
    _capture("spill continued in a file of its own", "after", f"{_CAP}.spill:Spill._new_file"),
)
#: Passed while it is read back.
READING_BACK: Final = (
    _capture("spilled batch read, not sent", "after", f"{_CAP}.spill:Spill.read", 3),
    _capture("spill read to its end", "before", f"{_CAP}.spilling:Spilling._end"),
)

#: Passed by whoever records in the ledger, in the order of the table: the first two when a trail begins.
RECORDING: Final = (
    _worker("ledger: trail marked, not begun", "after", "connectors.postgres.watermarks:fence"),
    _worker("ledger: trail begun, not committed", "after", f"{_LEDGER}.appender:Appender.advance"),
    _worker("ledger: entries prepared, nothing locked", "after", f"{_LEDGER}.sink:prepare", 3),
    _worker("ledger: watermark locked, head not", "after", f"{_LEDGER}.sink:LedgerSink._stand", 3),
    _worker("ledger: head locked, nothing written", "after", f"{_LEDGER}.appender:Appender.lock", 4),
    _worker("ledger: entries sent in part", "after", f"{_LEDGER}.appender:rows", 4),
    _worker("ledger: entries written, head not", "after", f"{_LEDGER}.appender:Appender.write", 4),
    _worker("ledger: head moved, watermark not", "after", f"{_LEDGER}.appender:Appender.advance", 4),
    _worker("ledger: watermark moved, not committed", "before", "psycopg:Connection.execute", 3, given="COMMIT"),
    _worker("ledger: committed, not acknowledged", "after", f"{_LEDGER}.sink:LedgerSink._record", 3),
)

ROUTINE: Final = {point.name: point for point in (*CAPTURE, *WORKER)}
_RARE: Final = (*PARKING, *DECISIONS, *SPILLING, *READING_BACK, *RECORDING)
FAILPOINTS: Final = {**ROUTINE, **{point.name: point for point in _RARE}}


def located(place: str) -> tuple[Any, str, Any]:
    """What holds the place, its name in there, and what is there. Raises when there is no such place."""
    module, _, path = place.partition(":")
    holder: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    # Of a class that inherits it another class's calls would count too.
    return holder, name, vars(holder)[name]
