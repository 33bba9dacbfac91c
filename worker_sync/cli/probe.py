"""`probe`: whether the processes on this machine are alive."""

from __future__ import annotations

import click

from worker_sync.cli.options import configured, state
from worker_sync.core import alive


@click.command(
    epilog="\b\nExamples:\n  worker-sync probe worker --max-age 30\n  worker-sync probe worker --name w1 --ready"
)
@configured
@click.argument("role", required=False, type=click.Choice(alive.ROLES))
@click.option("--name", help="Only the one with this name: a worker's --name, a capture's source.")
@click.option(
    "--max-age",
    type=click.FloatRange(min=0, min_open=True),
    default=alive.MAX_AGE_S,
    show_default=True,
    metavar="S",
    help="Seconds of silence after which a process counts as hung.",
)
@click.option("--ready", is_flag=True, help="Ask whether it is ready for work, too.")
@click.pass_context
def probe(ctx: click.Context, role: str | None, name: str | None, max_age: float, ready: bool) -> int:
    """Say whether the processes of this configuration on this machine are alive, without asking any other system.

    Exit code 1 when one of them hangs or none is there. ROLE takes those of one role only.
    """
    directory = alive.run_directory(str(state(ctx).config_path))
    problems = alive.probe(role, name, max_age, directory, ready=ready)
    for problem in problems:
        click.echo(f"worker-sync: {problem}", err=True)
    return int(bool(problems))
