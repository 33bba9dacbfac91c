"""A comparison of tables without a key: as many of every row on both sides, whatever order they come in.

First a sum of the rows' digests in each of many buckets, which takes the same memory for any size. Only buckets whose
sums differ are looked at row by row: how many of each digest the source has, then the target once the pipeline has
applied what the source held by then, then the source again. A row of which the source had as many before as after must
be there as often in the target. Traffic makes differences that are none, so one must be seen twice in a row.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import xxhash

from connectors.base import TableReader
from worker_sync.core.bags import exact
from worker_sync.core.schema import TableSchema
from worker_sync.core.values import Row
from worker_sync.verification.result import Difference, DifferenceKind, TablePair, TableResult
from worker_sync.verification.settle import CONFIRMATIONS, TRIES

#: Buckets of the first pass.
BUCKETS: Final = 1 << 16
#: Rows, as far as the first pass counted them, whose digests are kept at once.
ROWS_AT_ONCE: Final = 500_000
#: Differences that are shown as examples for each table.
EXAMPLES: Final = 100
_LOW: Final = (1 << 64) - 1

#: Called with each number of rows that was read.
Progress = Callable[[int], None]


def digest_of(row: Row) -> int:
    """128 bits that equal rows have in common, and others for all practical purposes have not."""
    return xxhash.xxh3_128_intdigest(exact(row))


class Sums:
    """Count and sum of the digests in each bucket."""

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * BUCKETS))
        self._sums = array("Q", bytes(8 * BUCKETS))
        self.rows = 0

    def add(self, digest: int) -> None:
        bucket = digest % BUCKETS
        self.counts[bucket] += 1
        # The bits that don't choose the bucket.
        self._sums[bucket] = self._sums[bucket] + (digest >> 64) & _LOW
        self.rows += 1

    def differing(self, other: Sums) -> list[int]:
        """The buckets that do not hold the same."""
        return [
            bucket
            for bucket in range(BUCKETS)
            if self.counts[bucket] != other.counts[bucket] or self._sums[bucket] != other._sums[bucket]
        ]


class BagComparison:
    """Compares one table; see the module's text. `catch_up` is that of `Comparison`."""

    def __init__(
        self,
        source: TableReader,
        target: TableReader,
        catch_up: Callable[[], None],
        chunk_rows: int,
        progress: Progress,
    ) -> None:
        self._source = source
        self._target = target
        self._catch_up = catch_up
        self._chunk_rows = chunk_rows
        self._progress = progress

    def run(self, pair: TablePair, result: TableResult) -> None:
        """Fill in the result."""
        there = self._sums(self._source, pair.source)
        self._catch_up()
        found = self._sums(self._target, pair.target)
        result.source_rows, result.target_rows = there.rows, found.rows
        for buckets in _groups(there, found):
            self._settle(pair, buckets, result)

    def _sums(self, reader: TableReader, table: TableSchema) -> Sums:
        sums = Sums()
        for rows in self._rows(reader, table):
            for row in rows:
                sums.add(digest_of(row))
        return sums

    def _rows(self, reader: TableReader, table: TableSchema) -> Iterator[list[Row]]:
        with reader.scan(table, self._chunk_rows) as scan:
            done = False
            while not done:
                chunk = scan.chunk()
                done = chunk.done
                self._progress(len(chunk.rows))
                yield chunk.rows

    def _settle(self, pair: TablePair, buckets: set[int], result: TableResult) -> None:
        suspects: dict[int, int] | None = None
        confirmed: dict[int, int] = {}
        now: Mapping[int, int] = self._counts(self._source, pair.source, buckets)
        for _ in range(TRIES):
            before = now
            self._catch_up()
            target = self._counts(self._target, pair.target, buckets)
            now = self._counts(self._source, pair.source, buckets)
            if suspects is None:
                suspects = dict.fromkeys((d for d in {*before, *target, *now} if _excess(d, target, now)), 0)
                result.rechecked += len(suspects)
            for digest in list(suspects):
                excess = _excess(digest, target, now)
                if not excess or not _excess(digest, target, before):
                    del suspects[digest]
                elif before.get(digest, 0) == now.get(digest, 0):
                    suspects[digest] += 1
                    if suspects[digest] >= CONFIRMATIONS:
                        confirmed[digest] = excess
                        del suspects[digest]
            if not suspects:
                break
        result.unsettled += len(suspects or ())
        self._report(pair, confirmed, result)

    def _counts(self, reader: TableReader, table: TableSchema, buckets: set[int]) -> Counter[int]:
        counts: Counter[int] = Counter()
        for rows in self._rows(reader, table):
            counts.update(digest for row in rows if (digest := digest_of(row)) % BUCKETS in buckets)
        return counts

    def _report(self, pair: TablePair, excesses: Mapping[int, int], result: TableResult) -> None:
        for excess in excesses.values():
            result.counts[DifferenceKind.EXTRA if excess > 0 else DifferenceKind.MISSING] += abs(excess)
        shown = dict(list(excesses.items())[: EXAMPLES - len(result.differences)])
        missing = self._find(self._source, pair.source, {digest for digest, excess in shown.items() if excess < 0})
        extra = self._find(self._target, pair.target, {digest for digest, excess in shown.items() if excess > 0})
        for digest, excess in shown.items():
            kind = DifferenceKind.EXTRA if excess > 0 else DifferenceKind.MISSING
            key = (f"row {digest:032x}, {abs(excess)} times",)
            result.differences.append(Difference(kind, key, (), missing.get(digest), extra.get(digest)))

    def _find(self, reader: TableReader, table: TableSchema, wanted: set[int]) -> dict[int, Row]:
        found: dict[int, Row] = {}
        if wanted:
            for rows in self._rows(reader, table):
                found.update((digest, row) for row in rows if (digest := digest_of(row)) in wanted)
                if len(found) == len(wanted):
                    break
        return found


def _excess(digest: int, target: Mapping[int, int], source: Mapping[int, int]) -> int:
    """How many more of the row the target has."""
    return target.get(digest, 0) - source.get(digest, 0)


def _groups(source: Sums, target: Sums) -> Iterator[set[int]]:
    """The buckets that differ, as many at once as fit into memory."""
    group: set[int] = set()
    rows = 0
    for bucket in source.differing(target):
        group.add(bucket)
        rows += max(source.counts[bucket], target.counts[bucket])
        if rows >= ROWS_AT_ONCE:
            yield group
            group, rows = set(), 0
    if group:
        yield group
