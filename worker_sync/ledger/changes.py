"""Changes of rows as entries: what takes most of the time, so the bytes are written in their order by one encoder call.

That they are the canonical ones is a property test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from worker_sync.core.change import Batch, Change, Op, Section, TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row
from worker_sync.ledger.canonical import MISSING, Json, utf16, value
from worker_sync.ledger.context import Context, read_context
from worker_sync.ledger.indexed import Indexed, searchable, shortened
from worker_sync.ledger.prepared import Prepared, moment_or_none, split
from worker_sync.ledger.sealing import Sealer, TableSealer
from worker_sync.ledger.sessions import session_field

CHANGE_KIND: Final = "change"
OPERATIONS: Final = {
    Op.INSERT.value: "insert",
    Op.UPDATE.value: "update",
    Op.DELETE.value: "delete",
    Op.TRUNCATE.value: "truncate",
    Op.READ.value: "read",
}
HAS_BEFORE: Final = frozenset({Op.UPDATE.value, Op.DELETE.value})
_LEAVES: Final = frozenset({str, bool, type(None)})
_UNCHANGED: Final = value(UNCHANGED)

_encode: Final = msgspec.json.Encoder().encode


class _Fields:
    """Some columns of a table in the order in which an object has them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._places = sorted(range(len(names)), key=lambda place: utf16(names[place]))
        self.names = [names[place] for place in self._places]
        # Of one place it would take the value alone, of none nothing.
        self._pick = itemgetter(*self._places) if len(names) > 1 else tuple

    def of(self, row: Row | Key) -> dict[str, Json]:
        """The values of a row, or a key, by column. Raises ValueError for one of another length."""
        if len(row) != len(self._places):
            raise ValueError(f"{len(row)} values for {len(self._places)} columns")
        values = self._pick(row)
        if not _LEAVES.issuperset(map(type, values)):
            values = [v if (kind := type(v)) in _LEAVES else str(v) if kind is int else value(v) for v in values]
        return dict(zip(self.names, values, strict=True))


class _Table:
    def __init__(self, schema: TableSchema, origin: str, sealer: Sealer | None) -> None:
        self.origin = origin
        self.sealer = None if sealer is None else sealer.of(schema, origin)
        self.name = searchable(origin)
        self.row = _Fields(schema.column_names)
        self._key = _Fields(schema.key)

    def key(self, change: Change, before: Json, after: Json) -> dict[str, Json] | None:
        """The row's key as it was before the change, of a new row its first one; `before` and `after` as the entry has
        them."""
        if not self._key.names or change.op == Op.TRUNCATE:
            return None
        if change.key is not None:
            return self._key.of(change.key)
        if after is None and change.before is None:
            raise ValueError("a change of a table with a key has neither key nor row")
        row = before if after is None else after
        key = {name: row[name] for name in self._key.names}
        if before is not None and change.before is not None and _UNCHANGED in key.values():
            key = {name: before[name] if part == _UNCHANGED else part for name, part in key.items()}
        return key


class _Said(NamedTuple):
    """What all changes of a section have in common."""

    id_prefix: str
    transaction: msgspec.Raw
    committed_at: str | None
    context: Context
    session: Mapping[str, msgspec.Raw]
    searched: tuple[str | None, str | None, str | None]


def _said(source: str, section: Section) -> _Said:
    info, context = section.info, read_context(section.context)
    transaction = msgspec.Raw(_encode({"id": info.xid or None, "position": info.commit}))
    committed_at = moment_or_none(info.committed_at)
    searched = searchable(info.xid or info.commit), committed_at, searchable(context.actor)
    id_prefix = f"{source}:{info.commit}:"
    return _Said(id_prefix, transaction, committed_at, context, session_field(section.session), searched)


class Recorder:
    """Makes entries of a batch's changes."""

    def __init__(self, batch: Batch, sealer: Sealer | None = None) -> None:
        self._batch = batch
        self._source = searchable(batch.source)
        self._captured_at = moment_or_none(batch.captured_at)
        self._tables = {number: _Table(schema, batch.origin(number), sealer) for number, schema in batch.tables.items()}

    def entries(self) -> Iterator[Prepared]:
        """One for each change, in order. Raises Halt for what an entry has no form for."""
        changes = iter(self._batch.changes)
        for section in self._batch.sections:
            said = _said(self._batch.source, section)
            for change in islice(changes, section.count):
                yield self._entry(change, said)
        # Rows that were read again belong to no transaction; their place is that of their batch.
        upto = self._batch.upto
        alone = _said(self._batch.source, Section(TransactionInfo(upto.commit, 0), 0))
        said = alone._replace(id_prefix=f"{self._batch.source}:{upto}:")
        for change in changes:
            yield self._entry(change, said)

    def _entry(self, change: Change, said: _Said) -> Prepared:
        try:
            return self._encoded(change, said)
        except (TypeError, ValueError, OverflowError) as error:
            where = f"{said.id_prefix}{change.ordinal} of {self._tables[change.table].origin}"
            raise unrecordable(where, error) from error

    def _encoded(self, change: Change, said: _Said) -> Prepared:
        table = self._tables[change.table]
        operation = OPERATIONS[change.op]
        after = None if change.after is None else table.row.of(change.after)
        before: Json = None
        if change.op in HAS_BEFORE:
            before = dict(MISSING) if change.before is None else table.row.of(change.before)
        key = table.key(change, before, after)
        change_id = f"{said.id_prefix}{change.ordinal}"
        changed = _changed(change, before, after)
        if table.sealer is not None:
            before, after, key = _sealed(table.sealer, change, change_id, before, after, key)
        # In the order of the names, which the encoder keeps.
        entry = {
            "actor": said.context.actor,
            "after": after,
            "before": before,
            "captured_at": self._captured_at,
            "changed": changed,
            "committed_at": said.committed_at,
            "context": said.context.encoded,
            "host": self._batch.host or None,
            "id": change_id,
            "key": key,
            "kind": CHANGE_KIND,
            "number": "",
            "operation": operation,
            "ordinal": str(change.ordinal),
            "recorded_at": "",
            **said.session,
            "source": self._batch.source,
            "table": table.origin,
            "transaction": said.transaction,
        }
        # The bytes of `key_text`: there are no lone surrogates, which it alone escapes.
        searched = None if key is None else shortened(_encode(list(key.values())).decode())
        found = Indexed(CHANGE_KIND, self._source, table.name, operation, searched, *said.searched)
        return split(_encode(entry), found)


def _sealed(
    sealer: TableSealer, change: Change, change_id: str, before: Json, after: Json, key: Json
) -> tuple[Json, Json, Json]:
    if after is not None:
        after = sealer.row(change, change_id, "after", after)
    if change.before is not None and before is not None:
        before = sealer.row(change, change_id, "before", before)
    return before, after, None if key is None else sealer.key(key)


def _changed(change: Change, before: Json, after: Json) -> list[str] | None:
    if change.op != Op.UPDATE or change.before is None or after is None:
        return None
    if change.after == change.before:
        return []
    return [name for name, now in after.items() if now != before[name] and now != _UNCHANGED]


def unrecordable(what: str, error: Exception) -> Halt:
    """A ledger has no holes: what has no form in it stops its trail."""
    # The codec's own words quote the value.
    why = "a lone surrogate, which is no Unicode text" if isinstance(error, UnicodeEncodeError) else error
    return Halt(State.UNREPRESENTABLE_VALUE, f"{what} can't be recorded: {why}", "worker-sync resume PIPELINE")
