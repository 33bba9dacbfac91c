"""A second look at keys that differed: traffic makes differences that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from connectors.base import TableReader
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Key, Row
from worker_sync.verification.result import Difference, DifferenceKind, TablePair

#: How often a key is looked at again before it counts as unsettled.
TRIES: Final = 8
#: How often in a row a difference must be seen. Once could be a row that changed there and back meanwhile.
CONFIRMATIONS: Final = 2
#: Keys read in one request.
KEYS_A_READ: Final = 1000

RowsByKey = dict[Key, Row]


def rows_by_key(reader: TableReader, table: TableSchema, keys: Sequence[Key]) -> RowsByKey:
    """The rows with these keys, by key."""
    return by_key(table, reader.rows(table, keys).rows)


def by_key(table: TableSchema, rows: Sequence[Row]) -> RowsByKey:
    indexes = table.key_indexes
    return {tuple([row[index] for index in indexes]): row for row in rows}


def differing_columns(table: TableSchema, source: Row, target: Row) -> tuple[str, ...]:
    """The names of the columns that differ. Two NaN are the same."""
    pairs = zip(table.column_names, source, target, strict=True)
    return tuple(name for name, left, right in pairs if left != right and not (left != left and right != right))


def compare_rows(table: TableSchema, key: Key, source: Row | None, target: Row | None) -> Difference | None:
    """The difference between two rows of one key; None when there is none."""
    if source == target:
        return None
    if target is None:
        return Difference(DifferenceKind.MISSING, key, (), source, None)
    if source is None:
        return Difference(DifferenceKind.EXTRA, key, (), None, target)
    columns = differing_columns(table, source, target)
    return Difference(DifferenceKind.DIFFERENT, key, columns, source, target) if columns else None


class Settlement:
    """Looks at suspect keys until each is the same on both sides, or stays different.

    One look: the source's row, then the target's once the pipeline has applied what the source held by then, then the
    source's again. If the source's row stood still meanwhile, the target's must be equal to it.
    """

    def __init__(self, source: TableReader, target: TableReader, catch_up: Callable[[], None]) -> None:
        self._source = source
        self._target = target
        self._catch_up = catch_up

    def settle(self, pair: TablePair, keys: Sequence[Key]) -> tuple[list[Difference], int]:
        """The differences that stay, and how many keys never stood still."""
        found: list[Difference] = []
        unsettled = 0
        for at in range(0, len(keys), KEYS_A_READ):
            differences, restless = self._settle_some(pair, keys[at : at + KEYS_A_READ])
            found += differences
            unsettled += restless
        return found, unsettled

    def _settle_some(self, pair: TablePair, keys: Sequence[Key]) -> tuple[list[Difference], int]:
        suspects: dict[Key, int] = dict.fromkeys(keys, 0)
        found: list[Difference] = []
        for _ in range(TRIES):
            for key, difference in self._look(pair, list(suspects)):
                if difference is None:
                    del suspects[key]
                elif (seen := suspects[key] + 1) < CONFIRMATIONS:
                    suspects[key] = seen
                else:
                    del suspects[key]
                    found.append(difference)
            if not suspects:
                break
        return found, len(suspects)

    def _look(self, pair: TablePair, keys: Sequence[Key]) -> Iterator[tuple[Key, Difference | None]]:
        """The keys that stood still or are equal, with what was found; the others are left out."""
        before = rows_by_key(self._source, pair.source, keys)
        self._catch_up()
        target = rows_by_key(self._target, pair.target, keys)
        after = rows_by_key(self._source, pair.source, keys)
        for key in keys:
            then, there, now = before.get(key), target.get(key), after.get(key)
            difference = compare_rows(pair.source, key, now, there)
            if difference is None or compare_rows(pair.source, key, then, there) is None:
                yield key, None
            elif compare_rows(pair.source, key, then, now) is None:
                yield key, difference
