"""What the recorded rows of a table mean: the columns that it had then, as one version of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.postgres.pgoutput import Relation, RelationColumn
from connectors.postgres.relations import Relations
from connectors.postgres.triggers.rows import BadRow, fields
from connectors.postgres.types import Converter, converters
from worker_sync.core.change import Change
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName
from worker_sync.core.values import Key, Row

_LAYOUT_SQL = """
SELECT root::bigint, names::text[], types::bigint[], modifiers, generated, root_names::text[]
FROM worker_sync_audit.layouts WHERE id = %s
"""


class Recorded(NamedTuple):
    """A row of `worker_sync_audit.changes` that is no message."""

    op: str
    layout: int
    old: str | None
    new: str | None


class Layout:
    """How rows of one definition of one table are read; a partition's in the order of the whole table."""

    def __init__(self, table_id: int, name: str, picks: tuple[int, ...], width: int, key: tuple[int, ...]) -> None:
        self.table_id = table_id
        self._name = name
        self._picks = picks
        self._width = width
        self._key = key
        self.converters: tuple[Converter, ...] = ()

    def change(self, ordinal: int, row: Recorded) -> Change:
        """The change, with whole rows. Raises Halt for what is no row of this table."""
        try:
            old = None if row.old is None else self._row(row.old)
            new = None if row.new is None else self._row(row.new)
        except (ValueError, KeyError):
            # The error may quote the row.
            detail = f"a recorded change of {self._name} holds what is no row of it"
            raise Halt(State.UNREPRESENTABLE_VALUE, detail, "worker-sync resync PIPELINE") from None
        return Change(ordinal, row.op, self.table_id, self._key_of(old, new), old, new)

    def _row(self, text: str) -> Row:
        found = fields(text)
        if len(found) != self._width:
            raise BadRow("another number of values than the table has columns")
        texts = [found[pick] for pick in self._picks]
        return tuple(
            [
                text if text is None or convert is None else convert(text)
                for text, convert in zip(texts, self.converters, strict=True)
            ]
        )

    def _key_of(self, old: Row | None, new: Row | None) -> Key | None:
        if old is None:
            return None
        key = tuple([old[index] for index in self._key])
        return None if new is not None and key == tuple([new[index] for index in self._key]) else key


class Layouts:
    """The layouts of the tables that a stream is about, `wanted` by their OIDs; looked up when they are first met."""

    def __init__(self, conn: Connection[TupleRow], relations: Relations, wanted: Mapping[int, TableName]) -> None:
        self._conn = conn
        self._relations = relations
        self._wanted = wanted
        self._known: dict[int, Layout | None] = {}

    def forget(self) -> None:
        """The catalog says something else now: keys, and what types are called, may have changed."""
        self._known.clear()

    def of(self, number: int) -> Layout | None:
        """The layout with this number; None when its table is none of the stream's."""
        if number not in self._known:
            self._known[number] = self._load(number)
        return self._known[number]

    def _load(self, number: int) -> Layout | None:
        found = self._conn.execute(_LAYOUT_SQL, (number,)).fetchone()
        if found is None:
            detail = f"layout {number} of recorded changes is missing in worker_sync_audit.layouts"
            raise Halt(State.POSITION_LOST, detail, "worker-sync resync PIPELINE")
        root, names, types, modifiers, generated, root_names = found
        table = self._wanted.get(root)
        if table is None:
            return None
        at = {name: index for index, name in enumerate(names) if not generated[index]}
        # A table that has got columns which its root lacks, or lost some: its own order.
        order = [name for name in root_names if name in at] if set(at) <= set(root_names) else list(at)
        columns = tuple(RelationColumn(name, (types[at[name]], modifiers[at[name]]), True) for name in order)
        # Recorded rows are whole, as those of the identity FULL are.
        table_id, schema = self._relations.describe(Relation(root, table, "f", columns))
        picks = tuple(at[name] for name in order)
        layout = Layout(table_id, str(table), picks, len(names), schema.key_indexes)
        layout.converters = converters(schema)
        return layout
