"""Errors of an apply, named by table, constraint and key; never by the values of a row."""

from __future__ import annotations

import pymysql

from connectors.mysql.errors import DUPLICATE, code_of, translate
from worker_sync.core.change import Batch
from worker_sync.core.errors import Halt, Permanent, State, Transient, WorkerSyncError

#: NULL for a column of the key: the guard of an upsert that met another row (see `TargetTable.upsert_tail`); the other
#: number is the guard's where the column is a timestamp.
_GUARD = (1048, 1242)
_SYNTAX = (1064, 1149, 1305)


def is_collision(error: pymysql.Error) -> bool:
    """Two rows stood in each other's way: worth one try with the rows rewritten."""
    return code_of(error) in DUPLICATE or code_of(error) in _GUARD


def is_transient(error: pymysql.Error | WorkerSyncError) -> bool:
    """Whether the same batch may succeed later without anything being changed."""
    known = translate(error, "") if isinstance(error, pymysql.Error) else error
    return isinstance(known, Transient)


def refusal(error: pymysql.Error | WorkerSyncError, batch: Batch) -> WorkerSyncError:
    """The error in the runtime's terms."""
    if isinstance(error, WorkerSyncError):
        return error
    known = translate(error, _where(batch))
    if type(known) is Permanent and code_of(error) in _SYNTAX:
        recovery = "worker-sync check, mend the table, then worker-sync resume PIPELINE"
        return Halt(State.SCHEMA_MISMATCH, known.detail, recovery)
    return known


def _where(batch: Batch) -> str:
    """The tables of the batch; the key when it is one change. The server's message names constraint and column."""
    where = " or ".join(sorted(str(table.table) for table in batch.tables.values()))
    if len(batch.changes) != 1:
        return where
    change = batch.changes[0]
    key = change.key
    if key is None and change.after is not None:
        key = tuple(change.after[index] for index in batch.tables[change.table].key_indexes)
    return where if key is None else f"{where}, key ({', '.join(map(repr, key))})"
