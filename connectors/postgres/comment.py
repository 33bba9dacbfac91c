"""What a publication's comment says: notes of ours that must be there when, and only when, the publication is.

The comment is changed in one transaction with what it tells of. Its first line says how far the publication is, the
second one has the rest as JSON. Earlier ones had no more than a list of tables there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from worker_sync.core.schema import TableName

SETTLED: Final = "worker-sync"
#: New tables may still have writers that the stream doesn't see.
SETTLING: Final = "worker-sync: waiting for writers that are older than this publication's tables"


@dataclass(frozen=True, slots=True)
class Note:
    """`state`: SETTLED or SETTLING, or what somebody else wrote; empty without a comment. `full`: tables whose replica
    identity was changed for this publication. `version` and `tables`: which rows of the catalog it consisted of when we
    altered it last, see `connectors.postgres.publication`; empty when that was not noted."""

    state: str = ""
    full: frozenset[TableName] = frozenset()
    version: str = ""
    tables: Mapping[str, str] = field(default_factory=dict)


def read(conn: Connection[TupleRow], name: str) -> Note:
    """The note of a publication, which may be missing. Raises psycopg.Error."""
    row = conn.execute(
        "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = %s", (name,)
    ).fetchone()
    return parse(row[0] if row else None)


def parse(text: str | None) -> Note:
    state, _, rest = (text or "").partition("\n")
    noted: Any = json.loads(rest or "{}")
    if isinstance(noted, list):
        noted = {"full": noted}
    full = frozenset(TableName(namespace, table) for namespace, table in noted.get("full", ()))
    return Note(state, full, noted.get("version", ""), noted.get("tables", {}))


def write(conn: Connection[TupleRow], name: str, note: Note) -> None:
    """Replace the comment of an existing publication. Raises psycopg.Error."""
    noted = {
        "full": [[table.namespace, table.name] for table in sorted(note.full)],
        "version": note.version,
        "tables": dict(sorted(note.tables.items())),
    }
    text = f"{note.state}\n{json.dumps(noted)}"
    conn.execute(sql.SQL("COMMENT ON PUBLICATION {} IS {}").format(sql.Identifier(name), sql.Literal(text)))
