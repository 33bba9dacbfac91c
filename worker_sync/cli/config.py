"""`config`: is the file right, and what may stand in it."""

from __future__ import annotations

import click

from beat_schedule import schedule
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import print_json
from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import json_schema
from worker_sync.core.settings_file import Problem, SettingsError


@click.group()
def config() -> None:
    """Look at the configuration file."""


@config.command(epilog="\b\nExamples:\n  worker-sync config validate -c worker-sync.yaml")
@configured
@as_json_option
@click.pass_context
def validate(ctx: click.Context, as_json: bool) -> int:
    """Say everything that is wrong with the file, with the exact path of each error. Reaches no server."""
    path = state(ctx).config_path
    try:
        settings = state(ctx).settings()
        schedule(settings)
    except ConfigError as error:
        if not as_json:
            raise
        found = error.problems if isinstance(error, SettingsError) else [Problem("", error.detail)]
        problems = [{"path": problem.path, "what": problem.what} for problem in found]
        print_json({"file": str(path), "ok": False, "problems": problems})
        return error.exit_code
    if as_json:
        print_json({"file": str(path), "ok": True, "problems": []})
    else:
        counts = f"{len(settings.databases)} databases, {len(settings.pipelines)} pipelines"
        click.echo(f"{path.name} is fine: {counts}. Next: worker-sync check")
    return 0


@config.command(epilog="\b\nExamples:\n  worker-sync config schema > worker-sync.schema.json")
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    print_json(json_schema())
