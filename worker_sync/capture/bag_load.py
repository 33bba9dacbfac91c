"""The copy of a table without key.

Its rows have no order to go on from and can't be laid over each other, so the table is read as a whole, in one
snapshot, while its changes are withheld from the stream. Those that the snapshot saw are dropped; the others follow the
rows, in order, and with the last of them the table joins the stream. The first batch empties the target's table, so an
attempt that was interrupted leaves nothing behind for the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from connectors.base import Chunk
from worker_sync.capture.fetcher import Fetched, TableLoad
from worker_sync.capture.routing import Route
from worker_sync.capture.withheld import Withheld
from worker_sync.core.change import Change, Op, TransactionInfo
from worker_sync.core.errors import Transient
from worker_sync.core.schema import TableName

#: Withheld changes that follow in one batch.
CHANGES: Final = 4_000


class BagLoad:
    """One table's copy, from being queued to joining the stream."""

    def __init__(self, load: TableLoad) -> None:
        self.load = load
        self._withheld = Withheld()
        self._snapshot: Chunk | None = None
        self._route: Route | None = None
        self._taken_from: str | None = None
        self._begun = False
        #: All rows are in the stream; what was withheld follows.
        self.copied = False
        #: The newest transaction that changed the table, whether or not the snapshot saw it.
        self.last: TransactionInfo | None = None

    @property
    def route(self) -> Route:
        """The table as the snapshot has it."""
        assert self._route is not None
        return self._route

    @property
    def hold(self) -> str | None:
        """The position from which on the log is needed: what is withheld is known to this process only."""
        return self._taken_from or self._withheld.hold

    def close(self) -> None:
        self._withheld.close()

    def withhold(self, read: str, info: TransactionInfo, changes: Sequence[Change]) -> None:
        """Changes of the table that the stream brings. `read` is the last transaction that was read completely."""
        self.last = info
        if self._snapshot is None or not self._snapshot.sees(info):
            self._withheld.add(read, info, changes)

    def seen_by(self, chunk: Chunk) -> None:
        """A snapshot of another table, older than this table's will be."""
        self._withheld.forget(chunk.sees)

    def begin(self, fetched: Fetched) -> None:
        """The next rows are there, all of one snapshot."""
        if self._begun and fetched.route is not self._route:
            raise Transient(f"the columns of {self.route.source.table} changed while it was being read")
        if self._snapshot is None:
            self._withheld.forget(fetched.chunk.sees)
        self._snapshot, self._route = fetched.chunk, fetched.route

    def rows(self, fetched: Fetched) -> list[Change]:
        """The rows as changes, the first of all behind a truncate."""
        changes = [] if self._begun else [Change(1, Op.TRUNCATE, 0, None, None, None)]
        self._begun = True
        self.copied = fetched.chunk.done
        first = len(changes) + 1
        shaped = map(fetched.route.row, fetched.chunk.rows)
        changes += [
            Change(number, Op.READ, 0, None, None, row) for number, row in enumerate(shaped, first) if row is not None
        ]
        self.load.rows += len(fetched.chunk.rows)
        return changes

    def following(self, routes: Mapping[int, Route | None]) -> list[Change]:
        """The next withheld changes that the snapshot did not see."""
        assert self._snapshot is not None
        self._taken_from = self.hold
        taken = self._withheld.take(CHANGES, self._snapshot.sees)
        shaped = (self._shaped(number, change, routes[change.table]) for number, change in enumerate(taken, 1))
        return [change for change in shaped if change is not None]

    @property
    def is_complete(self) -> bool:
        """Nothing is withheld any more."""
        return self.copied and self._withheld.hold is None

    def _shaped(self, number: int, change: Change, route: Route | None) -> Change | None:
        source = self.route.source
        if route is None or route.source.column_names != source.column_names or route.source.key != source.key:
            raise Transient(f"the columns of {source.table} changed while it was being read")
        shaped = route.change(change)
        return shaped and Change(number, shaped.op, 0, shaped.key, shaped.before, shaped.after)


def split(
    changes: Iterable[Change], bags: Mapping[TableName, BagLoad], routes: Mapping[int, Route | None]
) -> tuple[list[Change], dict[BagLoad, list[Change]]]:
    """The changes that go on, and those of tables that are being copied."""
    others: list[Change] = []
    withheld: dict[BagLoad, list[Change]] = {}
    for change in changes:
        route = routes[change.table]
        bag = None if route is None else bags.get(route.source.table)
        if bag is None:
            others.append(change)
        else:
            withheld.setdefault(bag, []).append(change)
    return others, withheld
