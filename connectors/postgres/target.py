"""What a target table looks like on the server, and which columns of a source's table can be written to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection

from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName

_RELATION: Final = """
SELECT c.oid, has_table_privilege(c.oid, 'TRUNCATE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'f')
"""

_COLUMNS: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typcategory = 'N', a.attidentity = 'a', a.attgenerated <> ''
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

#: Unique indexes that can identify rows: whole, on plain columns. Those that are checked at once come first.
_UNIQUE: Final = """
SELECT array(SELECT a.attname FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k (attnum)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum)::text[],
       i.indimmediate
FROM pg_index i
WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indimmediate DESC
"""

_FOREIGN_KEYS: Final = """
SELECT conrelid, confrelid, confdeltype = 'a' AND condeferrable
FROM pg_constraint
WHERE contype = 'f' AND (conrelid = $1::oid OR confrelid = $1::oid)
"""


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column of an existing table. `type` is its SQL name; `always` means GENERATED ALWAYS AS IDENTITY."""

    name: str
    type: str
    numeric: bool
    always: bool
    generated: bool


@dataclass(frozen=True, slots=True)
class TargetTable:
    """An existing table.

    `unique` holds the column sets that identify rows, with whether each is checked at once (only such can arbitrate
    an upsert). `parents` are the tables that it references, `children` those that reference it, itself left out.
    `deletable` is False when the deletion of a row that comes back in the same transaction would do harm through a
    foreign key (CASCADE, SET NULL, RESTRICT, or one that can't be deferred).
    """

    oid: int
    name: TableName
    columns: dict[str, TargetColumn]
    unique: dict[frozenset[str], bool]
    parents: frozenset[int]
    children: frozenset[int]
    self_reference: bool
    deletable: bool
    truncatable: bool

    def can_identify(self, key: Sequence[str]) -> bool:
        """Whether a unique index stands on exactly these columns."""
        return frozenset(key) in self.unique


def load_target(connection: Connection[Any], name: TableName) -> TargetTable | None:
    """The table as it is now; None when it isn't there."""
    relation = connection.execute(_RELATION, [name.namespace, name.name]).fetchone()
    if relation is None:
        return None
    oid, truncatable = relation
    columns = {row[0]: TargetColumn(*row) for row in connection.execute(_COLUMNS, [oid])}
    unique: dict[frozenset[str], bool] = {}
    for names, immediate in connection.execute(_UNIQUE, [oid]):
        unique.setdefault(frozenset(names), immediate)
    keys = connection.execute(_FOREIGN_KEYS, [oid]).fetchall()
    return TargetTable(
        oid=oid,
        name=name,
        columns=columns,
        unique=unique,
        parents=frozenset(parent for child, parent, _ in keys if child == oid != parent),
        children=frozenset(child for child, parent, _ in keys if parent == oid != child),
        self_reference=any(child == parent for child, parent, _ in keys),
        deletable=all(harmless for _, parent, harmless in keys if parent == oid),
        truncatable=truncatable,
    )


def require_target(connection: Connection[Any], name: TableName) -> TargetTable:
    """As `load_target`; a table that isn't there is Halt(schema-mismatch)."""
    target = load_target(connection, name)
    if target is None:
        raise Halt(
            State.SCHEMA_MISMATCH,
            f"the target has no table {name}",
            f"create table {name} in the target, or set create_tables: true",
        )
    return target
