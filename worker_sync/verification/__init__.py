"""Is everything applied, and is it the same? Answers from a source and a target, engine neutral, while traffic runs."""

from worker_sync.verification.compare import Comparison
from worker_sync.verification.result import Difference, DifferenceKind, Result, TablePair, TableResult
from worker_sync.verification.shaped import ShapedReader, Shaping
from worker_sync.verification.wait import NotAppliedInTime, Waiter

__all__ = [
    "Comparison",
    "Difference",
    "DifferenceKind",
    "NotAppliedInTime",
    "Result",
    "ShapedReader",
    "Shaping",
    "TablePair",
    "TableResult",
    "Waiter",
]
