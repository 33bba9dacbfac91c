"""`up`: everything of a configuration in one process tree."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import click

from worker_sync.cli.check import print_checked
from worker_sync.cli.options import configured, state
from worker_sync.composition.preflight import exit_code, preflight
from worker_sync.composition.setup import create_all
from worker_sync.composition.tree import specs
from worker_sync.composition.workspace import Workspace
from worker_sync.core.settings import Settings
from worker_sync.store.pipelines import Status
from worker_sync.supervisor import Guardian, Supervisor

_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")


@click.command(epilog="\b\nExamples:\n  worker-sync up -c worker-sync.yaml")
@configured
@click.pass_context
def up(ctx: click.Context) -> int:
    """Run everything of a configuration: servers that it leaves out, init, captures, workers, beat, exporter, Flower.

    Children that crash are started again. SIGTERM or Ctrl-C stops all in order, a second one at once. Exit code 1 when
    every capture stands in a named state.
    """
    settings = state(ctx).settings()
    with guarded(settings), Workspace(settings) as space:
        checked = preflight(space, list(settings.flows.values()))
        if code := exit_code(checked):
            print_checked(checked, only_bad=True)
            return code
        for step in create_all(space):
            click.echo(f"created {step}")
        supervisor = Supervisor(specs(space.settings, state(ctx).config_path), Prefixed())
        with stopping_on_signals(supervisor.stop):
            code = supervisor.run()
        if code:
            explain_halts(space)
        return code


def explain_halts(space: Workspace) -> None:
    """Say which pipelines stand in a named state, and the way out."""
    for name, standing in space.store.pipelines.all().items():
        if standing.status is Status.HALTED:
            click.echo(f"{name} is halted ({standing.reason}): {standing.detail}. To recover: {standing.recovery}")


@contextlib.contextmanager
def guarded(settings: Settings) -> Iterator[None]:
    """With a guardian beside us, if there are embedded servers that must not outlive us."""
    if settings.control is not None and settings.broker is not None:
        yield
        return
    guardian = Guardian(settings.state_dir)
    try:
        yield
    finally:
        # It acts only when we end without getting here; the workspace has stopped the servers.
        guardian.dismiss()


@contextlib.contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop`."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Prefixed:
    """Prints the lines of several processes, each behind its name."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        with self._lock:
            if name not in self._names:
                colour = _COLOURS[len(self._names) % len(_COLOURS)]
                self._names[name] = click.style(f"{name:<18} | ", fg=colour)
            try:
                click.echo(self._names[name] + line)
            except BrokenPipeError:
                # Nobody reads any more; what runs goes on.
                sys.stdout = sys.stderr
