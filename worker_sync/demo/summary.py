"""What the demo found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from worker_sync.demo.measure import Lag, percentile
from worker_sync.ledger.findings import Report
from worker_sync.verification import Result


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """One target. Lags in milliseconds: of single changes while all is quiet, and under the full load."""

    pipeline: str
    quiet: Sequence[Lag]
    loaded: Sequence[Lag]
    verified: Result
    tasks: int

    def as_json(self) -> dict[str, Any]:
        return {
            "pipeline": self.pipeline,
            "tasks": self.tasks,
            "lag_ms": {"quiet": _percentiles(self.quiet), "loaded": _percentiles(self.loaded)},
            "verified": self.verified.as_json(),
        }


def _percentiles(lags: Sequence[Lag]) -> dict[str, float | None]:
    found = {"p50": percentile(lags, 0.5), "p99": percentile(lags, 0.99)}
    return {name: None if lag is None else round(lag, 1) for name, lag in found.items()}


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """The audit trail: how many changes it holds, how long its verification took, and what that found."""

    changes: int
    seconds: float
    verified: Report

    @property
    def ok(self) -> bool:
        return self.verified.ok and not self.verified.counts

    def as_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "changes": self.changes, "entries": self.verified.end, "found": self.verified.counts}


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole run. `seconds`: until everything had arrived at every target."""

    flights: int
    copied_rows: int
    copy_seconds: float
    changes: int
    transactions: int
    seconds: float
    rate: float | None
    targets: Sequence[TargetSummary]
    ledger: LedgerSummary
    total_seconds: float

    @property
    def ok(self) -> bool:
        return self.ledger.ok and all(target.verified.ok for target in self.targets)

    @property
    def throughput(self) -> float:
        """Changes per second that arrived at every target."""
        return self.changes / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "flights": self.flights,
            "snapshot": {"rows": self.copied_rows, "seconds": round(self.copy_seconds, 2)},
            "traffic": {
                "changes": self.changes,
                "transactions": self.transactions,
                "seconds": round(self.seconds, 2),
                "changes_per_second": round(self.throughput),
                "rate": self.rate,
            },
            "targets": [target.as_json() for target in self.targets],
            "ledger": self.ledger.as_json(),
            "total_seconds": round(self.total_seconds, 1),
        }


def print_summary(console: Console, summary: Summary) -> None:
    """The result for people."""
    console.print()
    console.print(
        f"{summary.changes:,} changes of {summary.flights:,} flights in {summary.transactions:,} transactions reached "
        f"every target in {summary.seconds:.1f} s: {summary.throughput:,.0f} rows/s each.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_table(summary))
    pace = "the source was held to what the targets take" if summary.rate is None else f"{summary.rate:,.0f} rows/s"
    console.print(f"Lag is from commit in the source to arrival, seen at the target; loaded: {pace}.", soft_wrap=True)
    console.print(_trail(summary.ledger), soft_wrap=True, highlight=False)
    same = "All targets hold the same rows as the source, and the audit trail is whole."
    verdict = same if summary.ok else "The targets differ from the source, or the audit trail from what was signed!"
    console.print(verdict, style="bold green" if summary.ok else "bold red")


def _trail(ledger: LedgerSummary) -> str:
    found = ", ".join(f"{kind} {count:,}" for kind, count in ledger.verified.counts.items())
    return (
        f"The audit trail holds {ledger.changes:,} changes, each once, signed and verified in {ledger.seconds:.1f} s"
        f"{f': {found}' if found else ''}."
    )


def _table(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("target", no_wrap=True)
    for heading in ("quiet p50", "p99", "loaded p50", "p99", "tasks", "rows compared", "differences"):
        table.add_column(heading, justify="right", no_wrap=True)
    for target in summary.targets:
        quiet, loaded = _percentiles(target.quiet), _percentiles(target.loaded)
        lags = [quiet["p50"], quiet["p99"], loaded["p50"], loaded["p99"]]
        compared = sum(found.source_rows for found in target.verified.tables)
        wrong = sum(sum(found.counts.values()) + found.unsettled for found in target.verified.tables)
        shown = ["-" if lag is None else f"{lag:,.0f} ms" for lag in lags]
        table.add_row(target.pipeline, *shown, f"{target.tasks:,}", f"{compared:,}", f"{wrong:,}")
    return table
