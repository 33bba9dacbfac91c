"""From a batch to entries of the ledger. docs/reference/ledger-format.md has their fields.

All but an entry's number and the time of its recording is known before the ledger is locked. So entries are prepared
as the pieces of their canonical bytes between which these two belong.
"""

from __future__ import annotations

from typing import Final

from worker_sync.core.alteration import Alteration
from worker_sync.core.change import Batch
from worker_sync.core.position import Position
from worker_sync.core.schema import TableSchema
from worker_sync.ledger.canonical import Json
from worker_sync.ledger.changes import Recorder, unrecordable
from worker_sync.ledger.entries import GAP_KIND
from worker_sync.ledger.prepared import Prepared, moment_or_none, prepared
from worker_sync.ledger.scopes import SCOPE_KIND
from worker_sync.ledger.sealing import Sealer

BEGIN_KIND: Final = "begin"
SCHEMA_KIND: Final = "schema"


def prepare(batch: Batch, sealer: Sealer | None = None) -> list[Prepared]:
    """The entries of a batch, in order: one for each of its changes, or the one of its alteration. `sealer` seals what
    is personal of them.

    Raises Halt for a value that an entry has no form for.
    """
    if batch.alteration is not None:
        return [_schema(batch, batch.alteration)]
    return list(Recorder(batch, sealer).entries())


def begin(source: str, identity: str, position: Position) -> Prepared:
    """Recording begins: what committed up to `position` on the server `identity` is not in the ledger."""
    return prepared({"kind": BEGIN_KIND, "source": source, "identity": identity, "position": str(position)})


def gap(source: str, identity: str, last: str, start: Position | None, reason: str) -> Prepared:
    """What committed after `last`, the last position in the ledger, and up to `start` may not have been recorded; None
    where that goes on."""
    to = None if start is None else str(start)
    return prepared(
        {"kind": GAP_KIND, "source": source, "identity": identity, "from": last, "to": to, "reason": reason}
    )


def last_position(entry: Json) -> str:
    """Up to where the trail of an entry's source is recorded with it, as `Position` is text."""
    kind = entry["kind"]
    if kind in (BEGIN_KIND, SCOPE_KIND):
        return str(entry["position"])
    if kind == GAP_KIND:
        return str(entry["to"] or entry["from"])
    commit = entry["transaction"]["position"]
    return str(Position(commit, int(entry["ordinal"])) if "ordinal" in entry else Position(commit))


def _schema(batch: Batch, change: Alteration) -> Prepared:
    # An alteration's batch has no tables; the source's name of its one stands where that of a first one would.
    table = batch.origins.get(0) or str(change.before.table if change.is_end else change.after.table)
    entry = {
        "kind": SCHEMA_KIND,
        "source": batch.source,
        "table": table,
        "before": _shape(change.before),
        "after": None if change.is_end else _shape(change.after),
        "text": str(change),
        "transaction": {"position": batch.upto.commit, "id": None},
        "captured_at": moment_or_none(batch.captured_at),
        "host": batch.host or None,
    }
    try:
        return prepared(entry)
    except ValueError as error:
        raise unrecordable(f"the alteration of {table}", error) from error


def _shape(schema: TableSchema) -> Json:
    columns = [
        {"name": column.name, "type": column.type.native or str(column.type.kind), "nullable": column.nullable}
        for column in schema.columns
    ]
    return {"columns": columns, "key": list(schema.key)}
