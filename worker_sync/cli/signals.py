"""`snapshot`, `pause`, `resume`, `resync`: what a person asks of a running pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from worker_sync.cli.options import as_json_option, configured, pipeline_argument, state
from worker_sync.cli.output import print_json, print_table
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import is_trail
from worker_sync.core.settings_file import suggestion
from worker_sync.store.pipelines import Standing, Status
from worker_sync.store.signals import SignalKind

_TABLE: Final = click.argument("table", required=False)


@click.command(epilog="\b\nExamples:\n  worker-sync pause shop-to-reporting")
@configured
@pipeline_argument
@as_json_option
@click.pass_context
def pause(ctx: click.Context, pipeline: str, as_json: bool) -> int:
    """Stop a pipeline until it is resumed. Nothing is lost: its source keeps the log."""
    return _set_standing(ctx, pipeline, as_json, lambda space: space.store.pipelines.pause(pipeline, "by hand"))


@click.command(epilog="\b\nExamples:\n  worker-sync resume shop-to-reporting")
@configured
@pipeline_argument
@as_json_option
@click.pass_context
def resume(ctx: click.Context, pipeline: str, as_json: bool) -> int:
    """Let a paused or halted pipeline run again, from where it stood."""
    return _set_standing(ctx, pipeline, as_json, lambda space: space.store.pipelines.resume(pipeline))


def _set_standing(ctx: click.Context, name: str, as_json: bool, change: Callable[[Workspace], Standing]) -> int:
    with Workspace(state(ctx).settings()) as space:
        space.settings.pipeline(name)
        standing = change(space)
    if as_json:
        print_json({"pipeline": name, "state": standing.status.value, "reason": standing.reason})
    elif standing.status is Status.HALTED:
        click.echo(f"{name} is halted ({standing.reason}): {standing.detail}. To recover: {standing.recovery}")
    else:
        click.echo(f"{name} is {standing.status.value}.")
    return 0


@click.command(
    epilog="\b\nExamples:\n  worker-sync snapshot shop-to-reporting public.orders\n"
    "  worker-sync snapshot shop-to-reporting"
)
@configured
@pipeline_argument
@_TABLE
@as_json_option
@click.pass_context
def snapshot(ctx: click.Context, pipeline: str, table: str | None, as_json: bool) -> int:
    """Copy the existing rows of a table (or all tables) once more, while changes go on."""
    return _send(ctx, SignalKind.SNAPSHOT, pipeline, table, as_json)


@click.command(
    epilog="\b\nExamples:\n  worker-sync resync shop-to-reporting --dry-run\n  worker-sync resync shop-to-reporting"
)
@configured
@pipeline_argument
@_TABLE
@click.option("--dry-run", is_flag=True, help="Only show what would be dropped and copied.")
@as_json_option
@click.pass_context
def resync(ctx: click.Context, pipeline: str, table: str | None, dry_run: bool, as_json: bool) -> int:
    """Begin a pipeline (or one of its tables) anew: forget where it stood, copy all rows, remove what the source has
    not. The way out of a stream that can't be continued."""
    if dry_run:
        return _preview(ctx, pipeline, table, as_json)
    return _send(ctx, SignalKind.RESYNC, pipeline, table, as_json)


def _send(ctx: click.Context, kind: SignalKind, name: str, table: str | None, as_json: bool) -> int:
    with Workspace(state(ctx).settings()) as space:
        pipeline = space.settings.pipeline(name)
        if table is not None:
            _known_table(space, name, table)
        number = space.store.signals.send(pipeline.source, kind, name, table)
        if kind is SignalKind.RESYNC:
            space.store.pipelines.resume(name)
    if as_json:
        print_json({"signal": number, "kind": kind.value, "pipeline": name, "table": table})
    else:
        click.echo(f"{kind.value} of {table or name} is requested. Next: worker-sync status")
    return 0


def _known_table(space: Workspace, name: str, table: str) -> None:
    names = [str(route.source.table) for route in space.routes(space.settings.pipeline(name))]
    if table not in names:
        raise ConfigError(f"pipeline {name!r} carries no table {table!r}{suggestion(table, names)}")


def _preview(ctx: click.Context, name: str, table: str | None, as_json: bool) -> int:
    with Workspace(state(ctx).settings()) as space:
        pipeline = space.settings.pipeline(name)
        if table is not None:
            _known_table(space, name, table)
        plan = [] if is_trail(name) else _plan(space, name, table)
    if as_json:
        print_json({"pipeline": name, "target": pipeline.target, "tables": plan})
        return 0
    if is_trail(name):
        click.echo(f"{name} would begin anew at the newest change of {pipeline.source}, and record the gap.")
        click.echo("What the ledger holds would stay. Nothing was changed.")
        return 0
    click.echo(f"{name} would forget its watermarks in {pipeline.target}, then copy:")
    print_table(["table", "to", "rows (about)"], [list(entry.values()) for entry in plan])
    click.echo("Rows that the target has and the source has not would be deleted. Nothing was changed.")
    return 0


def _plan(space: Workspace, name: str, table: str | None) -> list[dict[str, Any]]:
    pipeline = space.settings.pipeline(name)
    with space.source(pipeline.source).reader() as reader:
        return [
            {
                "table": str(route.source.table),
                "to": str(route.target.table),
                "rows": reader.count(route.source),
            }
            for route in space.routes(pipeline)
            if table in (None, str(route.source.table))
        ]
