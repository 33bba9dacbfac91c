"""Shows the progress: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker_sync.demo.progress import Progress

#: Seconds between two plain lines.
LINE_EVERY_S: Final = 2.0


class View(Protocol):
    """What the demo shows. Used by one thread."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def show(self, progress: Progress) -> None:
        """The traffic's progress, several times a second."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Plain:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def step(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, progress: Progress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY_S
            self._console.print(one_line(progress), highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Bars:
    """Bars that move, below the steps done so far."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def step(self, text: str) -> None:
        self._console.print(Text.assemble(("→ ", "bold green"), text), soft_wrap=True)

    def show(self, progress: Progress) -> None:
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        self._live.update(_picture(progress))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class Silent:
    """Nothing: the result is printed as JSON."""

    def step(self, text: str) -> None:
        return

    def show(self, progress: Progress) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


def one_line(progress: Progress) -> str:
    """The progress in one line."""
    parts = [f"{progress.produced:,} of {progress.total:,} changes at {progress.rate:,.0f}/s"]
    parts += [f"{t.pipeline} {t.rate:,.0f}/s lag {_ms(t.lag_ms)}" for t in progress.targets]
    parts.append(_window(progress))
    parts.append(f"{_seconds(progress.eta_s)} left")
    return " · ".join(parts)


def _picture(progress: Progress) -> Group:
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right", "right", "right"):
        table.add_column(justify=justify)
    table.add_row("", "", Text("changes", "dim"), Text("rows/s", "dim"), Text("lag", "dim"), Text("tasks", "dim"))
    source = f"{progress.rate:,.0f}"
    table.add_row("source", _bar(progress.produced, progress.total), f"{progress.produced:,}", source, "", "")
    for target in progress.targets:
        table.add_row(
            target.pipeline,
            _bar(target.arrived, progress.total),
            f"{target.arrived:,}",
            f"{target.rate:,.0f}",
            _ms(target.lag_ms),
            f"{target.batches:,}",
        )
    return Group(table, Text(f"{_window(progress)} · {_seconds(progress.eta_s)} left", "dim"))


def _bar(value: int, total: int) -> ProgressBar:
    return ProgressBar(total=total, completed=value, width=36)


def _window(progress: Progress) -> str:
    if progress.window_bytes is None:
        return "window unknown"
    return f"window {progress.window_bytes / 1_048_576:.1f} MiB in {progress.window_batches} batches"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value // 60:.0f}:{value % 60:02.0f}"
