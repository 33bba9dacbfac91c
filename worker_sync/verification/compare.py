"""A keyed comparison of a pipeline's tables on both sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from connectors.base import TableReader
from worker_sync.core.parking import NONE_PARKED, Parked
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row
from worker_sync.verification.bags import BagComparison
from worker_sync.verification.result import DifferenceKind, Result, TablePair, TableResult
from worker_sync.verification.settle import Settlement, by_key, compare_rows, rows_by_key

#: Rows read in one request.
CHUNK_ROWS: Final = 5000
#: Suspect keys that are collected before they are settled: one wait for many, in bounded memory.
SUSPECTS: Final = 20_000
#: Differences that are kept as examples for each table.
EXAMPLES: Final = 100


@dataclass(frozen=True, slots=True)
class Walked:
    """Progress: so many of about so many rows of a table's two sides were walked."""

    table: TableName
    rows: int
    estimate: int


class Comparison:
    """Compares tables over two readers, which it does not close. Used by one thread at a time.

    `catch_up` returns once the target has applied all that the source held when it was called, `parked` the keys whose
    changes are parked by now.
    """

    def __init__(
        self,
        source: TableReader,
        target: TableReader,
        catch_up: Callable[[], None],
        *,
        progress: Callable[[Walked], None] = lambda _: None,
        chunk_rows: int = CHUNK_ROWS,
        parked: Callable[[], Parked] = lambda: NONE_PARKED,
    ) -> None:
        self._source = source
        self._target = target
        self._catch_up = catch_up
        self._settlement = Settlement(source, target, catch_up)
        self._progress = progress
        self._chunk_rows = chunk_rows
        self._parked = parked

    def run(self, pipeline: str, pairs: Sequence[TablePair]) -> Result:
        """Compare every pair, in order."""
        result = Result(pipeline)
        for pair in pairs:
            result.tables.append(self.table(pair))
        return result

    def table(self, pair: TablePair) -> TableResult:
        """Compare one table: every row of the source with the target's, then every key of the target; one without key
        as a bag of rows."""
        started = time.monotonic()
        result = TableResult(pair)
        estimate = self._source.count(pair.source) + self._target.count(pair.target)
        if not pair.source.key:
            self._bag(pair, result, estimate)
            result.seconds = time.monotonic() - started
            return result
        suspects: dict[Key, None] = {}
        for found in chain(self._walks(pair, result, estimate), (None,)):
            suspects.update(dict.fromkeys(found or ()))
            if suspects and (found is None or len(suspects) >= SUSPECTS):
                self._settle(pair, list(suspects), result)
                suspects = {}
        result.seconds = time.monotonic() - started
        return result

    def _bag(self, pair: TablePair, result: TableResult, estimate: int) -> None:
        read = 0

        def progress(rows: int) -> None:
            nonlocal read
            read += rows
            self._progress(Walked(pair.name, read, max(read, estimate)))

        BagComparison(self._source, self._target, self._catch_up, self._chunk_rows, progress).run(pair, result)

    def _walks(self, pair: TablePair, result: TableResult, estimate: int) -> Iterator[list[Key]]:
        for rows in self._chunks(self._source, pair.source):
            result.source_rows += len(rows)
            yield self._differing(pair, rows)
            self._progress(Walked(pair.name, result.source_rows, estimate))
        # Values were compared above: what the target has of its own shows in its keys.
        keys = pair.keys_only()
        for rows in self._chunks(self._target, keys.target):
            result.target_rows += len(rows)
            yield self._unknown(keys, rows)
            self._progress(Walked(pair.name, result.source_rows + result.target_rows, estimate))

    def _chunks(self, reader: TableReader, table: TableSchema) -> Iterator[list[Row]]:
        after: Key | None = None
        done = False
        while not done:
            chunk = reader.chunk(table, after, self._chunk_rows)
            done = chunk.done
            if chunk.rows:
                after = tuple([chunk.rows[-1][index] for index in table.key_indexes])
                yield chunk.rows

    def _differing(self, pair: TablePair, rows: list[Row]) -> list[Key]:
        source = by_key(pair.source, rows)
        target = rows_by_key(self._target, pair.target, list(source))
        return [key for key, row in source.items() if compare_rows(pair.source, key, row, target.get(key)) is not None]

    def _unknown(self, keys: TablePair, rows: list[Row]) -> list[Key]:
        target = by_key(keys.target, rows)
        source = rows_by_key(self._source, keys.source, list(target))
        return [key for key in target if key not in source]

    def _settle(self, pair: TablePair, suspects: list[Key], result: TableResult) -> None:
        differences, unsettled = self._settlement.settle(pair, suspects)
        result.rechecked += len(suspects)
        result.unsettled += unsettled
        parked = self._parked() if differences else NONE_PARKED
        differences = [
            replace(found, kind=DifferenceKind.PARKED) if (str(pair.name), found.key) in parked else found
            for found in differences
        ]
        for difference in differences:
            result.counts[difference.kind] += 1
        result.differences += differences[: EXAMPLES - len(result.differences)]
