"""Finds the changes of a batch that a target refuses, by trying parts of it.

What is tried is the batch up to some change, without those that were found already. The states of the source between
its transactions come first: a part that ends inside a transaction may be refused for a state that nobody ever saw, such
as two rows that swap a unique value. For the same reason what was found is tried again in the end: a change is only
refused if the batch can't be applied with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from worker_sync.core.errors import Permanent, TargetRejected, Unrepresentable

#: What makes a change a poisoned one; other permanent errors are about more than a row.
REFUSALS = (TargetRejected, Unrepresentable)

#: Tries the first `n` changes without those at the given places; the refusal, or None when the target takes them.
Attempt = Callable[[Collection[int], int], Permanent | None]


class TooMany(Exception):
    """More changes are refused than may be parked."""

    def __init__(self, last: Permanent) -> None:
        super().__init__(str(last))
        self.last = last


def find_refused(ends: Sequence[int], attempt: Attempt, limit: int) -> dict[int, Permanent]:
    """The places of the refused changes, with the reason of each. `ends` are the ascending numbers of changes after
    which the source was in a state of its own, the last of them that of all changes. Raises TooMany beyond `limit`."""
    refused: dict[int, Permanent] = {}
    fine = 0
    while (error := attempt(refused, ends[-1])) is not None:
        if len(refused) == limit:
            raise TooMany(error)
        if fine == ends[-1]:
            raise error  # and yet it took all of that a moment ago: this is not about a row
        fine, end, error = _narrowed(fine, [end for end in ends if end > fine], refused, attempt, error)
        _, place, error = _narrowed(fine, range(fine + 1, end + 1), refused, attempt, error)
        refused[place - 1] = error
        fine = place
    return _needed(refused, ends, attempt)


def _narrowed(
    fine: int, ends: Sequence[int], refused: Collection[int], attempt: Attempt, error: Permanent
) -> tuple[int, int, Permanent]:
    """Two neighbours of `ends` (or `fine` and the first) of which the target takes the first and refuses the second;
    it refuses the last of `ends` for `error`."""
    low, high = -1, len(ends) - 1
    while high - low > 1:
        middle = (low + high) // 2
        found = attempt(refused, ends[middle])
        if found is None:
            low = middle
        else:
            high, error = middle, found
    return (fine if low < 0 else ends[low]), ends[high], error


def _needed(refused: dict[int, Permanent], ends: Sequence[int], attempt: Attempt) -> dict[int, Permanent]:
    """Those of `refused` without which the target takes everything else."""
    total = ends[-1]
    for places in _by_transaction(refused, ends):
        for place in places if len(places) > 1 else ():
            fewer = {at: error for at, error in refused.items() if at == place or at not in places}
            if attempt(fewer, total) is None:
                refused = fewer
                break
    for place in list(refused):
        fewer = {at: error for at, error in refused.items() if at != place}
        if fewer and attempt(fewer, total) is None:
            refused = fewer
    return refused


def _by_transaction(places: Collection[int], ends: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    start = 0
    for end in ends:
        groups.append([place for place in places if start <= place < end])
        start = end
    return groups
