"""Figures, and how they are printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from benchmarks.sides import Usage

CAVEATS: Final = (
    "Servers, load generator, capture and worker share the machine's cores; rates while loading include that.",
    "Each benchmark's rows are counted and their contents compared at the target after its time is taken.",
    "The clock of a row starts at the source's commit and stops at the target's, both without the flush that follows.",
    "Native replication overwrites the commit time in the target, so for it the row's writing counts, a moment before.",
    "'observed' times are those of a client that asks the target until it sees the row, from the end of its COMMIT.",
    "Native replication does not flush its commits in the target (its default, synchronous_commit=off); we flush ours.",
    "CPU is that of our two processes, or of native replication's two; the sessions that serve ours are not in it.",
    "The control store is a database of the target's server. Beat, exporter and Flower do not run.",
    "The generator waits for its flushes: where the disk is slow, fewer transactions are reached than were asked for.",
    "With synchronous_commit=off in the source its log would be up to wal_writer_delay (200 ms) late by itself.",
    "Short runs (--quick) prove that it works; their figures mean nothing.",
)


@dataclass(slots=True)
class Figure:
    """One line of the table. `sent` and `arrived` are rows; equal rows had equal contents."""

    benchmark: str
    what: str
    unit: str
    ours: float | None
    native: float | None = None
    note: str = ""
    sent: int = 0
    arrived: int = 0
    #: More is better.
    rate: bool = True

    @property
    def ratio(self) -> float | None:
        """Ours against native's."""
        return self.ours / self.native if self.ours is not None and self.native else None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


@dataclass(slots=True)
class Report:
    """All figures of one run; prints each when it is known."""

    machine: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)

    def begin(self) -> None:
        for name, value in self.machine.items():
            print(f"{name:<24} {value}")
        print(f"\n{'benchmark':<12}{'what':<38}{'ours':>12}{'native':>12}{'ratio':>8}  unit", flush=True)

    def add(self, figure: Figure) -> None:
        self.figures.append(figure)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        note = f"  {figure.note}" if figure.note else ""
        print(
            f"{figure.benchmark:<12}{figure.what:<38}{_number(figure.ours):>12}{_number(figure.native):>12}{ratio:>8}"
            f"  {figure.unit}{note}",
            flush=True,
        )

    def end(self) -> None:
        print("\nCaveats")
        for line in CAVEATS:
            print(f"- {line}")

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "figures": [figure.as_json() for figure in self.figures],
            "caveats": list(CAVEATS),
        }


def middle(figures: list[Figure]) -> Figure:
    """The pair with the median ratio, as a figure of its own."""
    ratios = [figure.ratio for figure in figures if figure.ratio is not None]
    ours = median([figure.ours or 0.0 for figure in figures])
    first = figures[0]
    note = f"median of {len(figures)} ratios {median(ratios):.2f}"
    native = median([figure.native or 0.0 for figure in figures])
    return Figure(first.benchmark, "median", first.unit, ours, native, note)


def cpu_note(before: Usage, after: Usage, rows: int) -> str:
    """CPU milliseconds per 1,000 rows by process."""
    used = {name: (after[name] - before.get(name, 0.0)) * 1_000_000 / rows for name in after}
    return ", ".join(f"{name} {value:.1f}" for name, value in used.items())


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
