"""`init`: everything that must exist before data can flow."""

from __future__ import annotations

import click

from worker_sync.cli.check import print_checked
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import print_json
from worker_sync.composition.preflight import exit_code, preflight
from worker_sync.composition.setup import create_all
from worker_sync.composition.workspace import Workspace


@click.command(epilog="\b\nExamples:\n  worker-sync init -c worker-sync.yaml")
@configured
@as_json_option
@click.pass_context
def init(ctx: click.Context, as_json: bool) -> int:
    """Create the control store's tables, the places of watermarks, missing target tables, and the sources' streams.

    Checks everything first and creates nothing when a check fails. What exists is left as it is.
    """
    settings = state(ctx).settings()
    with Workspace(settings) as space:
        checked = preflight(space, list(settings.flows.values()))
        if code := exit_code(checked):
            print_checked(checked, only_bad=True)
            click.echo("Nothing was created. Mend this, then run init again.")
            return code
        steps = create_all(space)
    if as_json:
        print_json({"created": steps})
    else:
        click.echo("\n".join(steps) if steps else "Everything was there already.")
        click.echo("Next: worker-sync up")
    return 0
