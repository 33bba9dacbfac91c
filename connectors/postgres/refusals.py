"""Errors of an apply, named by table, constraint and key; never by the values of a row."""

from __future__ import annotations

from typing import Final

import psycopg

from connectors.postgres.errors import one_line, translate
from connectors.postgres.merge import Statement
from worker_sync.core.change import Batch, Change
from worker_sync.core.errors import Halt, State, TargetRejected, Transient, WorkerSyncError
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key

#: A row that is too large for an index.
_PROGRAM_LIMIT: Final = "54"
#: Our statement does not fit the table.
_SYNTAX_OR_ACCESS: Final = "42"
_INSUFFICIENT_PRIVILEGE: Final = "42501"


def is_transient(error: psycopg.Error | WorkerSyncError) -> bool:
    """Whether the same batch may succeed later without anything being changed."""
    known = translate(error, "") if isinstance(error, psycopg.Error) else error
    return isinstance(known, Transient)


def check_count(statement: Statement, count: int) -> None:
    """Raises TargetRejected when a partial update, or a delete from a table without key, did not find its row."""
    if count == statement.expected:
        return
    if not statement.table.schema.key:
        missing = (statement.expected or 0) - count
        raise TargetRejected(
            f"{statement.table.target.name}: {missing} of {statement.expected} rows to delete or replace are not there"
        )
    key = "" if statement.key is None else f" with key {_shown(statement.key)}"
    raise TargetRejected(
        f"{statement.table.target.name}: an update without all columns found {count} of {statement.expected} rows{key}"
    )


def refusal(error: psycopg.Error | WorkerSyncError, batch: Batch) -> WorkerSyncError:
    """The error in the runtime's terms."""
    if isinstance(error, WorkerSyncError):
        return error
    code = error.sqlstate or ""
    where = _where(error, batch)
    if code.startswith(_SYNTAX_OR_ACCESS) and code != _INSUFFICIENT_PRIVILEGE:
        recovery = "worker-sync check, mend the table, then worker-sync resume PIPELINE"
        return Halt(State.SCHEMA_MISMATCH, f"{where}: {one_line(error)}", recovery)
    # The driver itself refuses what can't be sent, such as a NUL in a text.
    if code.startswith(_PROGRAM_LIMIT) or (not code and isinstance(error, psycopg.DataError)):
        return TargetRejected(f"{where}: {one_line(error)}")
    return translate(error, where)


def _where(error: psycopg.Error, batch: Batch) -> str:
    """Table, column and constraint as the server names them; the key when the batch is one change."""
    diag = error.diag
    parts = [f"{diag.schema_name}.{diag.table_name}" if diag.table_name else _tables(batch)]
    parts += [
        f"{word} {name}" for word, name in (("column", diag.column_name), ("constraint", diag.constraint_name)) if name
    ]
    if len(batch.changes) == 1:
        change = batch.changes[0]
        parts.append(f"key {_shown(_key(change, batch.tables[change.table]))}")
    return ", ".join(parts)


def _tables(batch: Batch) -> str:
    return " or ".join(sorted(str(table.table) for table in batch.tables.values()))


def _key(change: Change, table: TableSchema) -> Key:
    if change.key is not None or change.after is None:
        return change.key or ()
    return tuple(change.after[index] for index in table.key_indexes)


def _shown(key: Key) -> str:
    return f"({', '.join(map(repr, key))})"
