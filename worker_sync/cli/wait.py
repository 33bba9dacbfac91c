"""`wait`: until what is committed now is applied."""

from __future__ import annotations

import time

import click

from worker_sync.cli.options import as_json_option, configured, pipeline_argument, state
from worker_sync.cli.output import print_json
from worker_sync.composition.workspace import Workspace


@click.command(epilog="\b\nExamples:\n  worker-sync wait shop-to-reporting --timeout 30 && run-the-report")
@configured
@pipeline_argument
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds.")
@as_json_option
@click.pass_context
def wait(ctx: click.Context, pipeline: str, timeout: float, as_json: bool) -> int:
    """Return once everything that was committed in the source at the call is applied in the target.

    Exit code 1 when that takes longer than the timeout, or the pipeline is halted.
    """
    started = time.monotonic()
    with Workspace(state(ctx).settings()) as space:
        position = space.waiter(space.settings.pipeline(pipeline)).wait(timeout)
    seconds = time.monotonic() - started
    if as_json:
        print_json({"pipeline": pipeline, "position": position, "seconds": round(seconds, 3)})
    else:
        click.echo(f"{pipeline} has applied everything up to {position} ({seconds:.2f} s).")
    return 0
