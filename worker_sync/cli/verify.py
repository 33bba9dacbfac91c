"""`verify`: the same rows on both sides?"""

from __future__ import annotations

import sys

import click

from worker_sync.cli.options import as_json_option, configured, pipeline_argument, state
from worker_sync.cli.output import mark, print_json, print_table
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import is_trail
from worker_sync.verification import Comparison, DifferenceKind, Result, TableResult
from worker_sync.verification.compare import Walked


@click.command(
    epilog="\b\nExamples:\n  worker-sync verify shop-to-reporting\n"
    "  worker-sync verify shop-to-reporting --json --show-values"
)
@configured
@pipeline_argument
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds for each wait.")
@click.option("--show-values", is_flag=True, help="Print the values that differ, too.")
@as_json_option
@click.pass_context
def verify(ctx: click.Context, pipeline: str, timeout: float, show_values: bool, as_json: bool) -> int:
    """Compare source and target key by key, while changes go on.

    A key that differs is looked at again once the pipeline has caught up; only what stays different is reported.
    A key whose changes are parked in dead letters is counted apart. Exit code 1 on a difference.
    """
    with Workspace(state(ctx).settings()) as space:
        result = run(space, pipeline, timeout, quiet=as_json or not sys.stderr.isatty())
    if as_json:
        print_json(result.as_json(show_values=show_values))
    else:
        print_result(result, show_values=show_values)
    return 0 if result.ok else 1


def run(space: Workspace, name: str, timeout: float, *, quiet: bool) -> Result:
    """Compare the tables of one pipeline."""
    pipeline = space.settings.pipeline(name)
    if is_trail(name):
        raise ConfigError(f"{name} has no rows to compare; the ledger is verified by: worker-sync audit verify")
    waiter = space.waiter(pipeline)
    waiter.wait(timeout)
    with space.source_reader(pipeline) as source, space.sink(pipeline.target).reader() as target:
        progress = _silent if quiet else _show
        comparison = Comparison(
            source, target, waiter.catch_up, progress=progress, parked=lambda: space.parked(pipeline)
        )
        result = comparison.run(name, space.pairs(pipeline))
    if not quiet:
        click.echo("\r\033[K", err=True, nl=False)
    return result


def _silent(_: Walked) -> None:
    return


def _show(walked: Walked) -> None:
    click.echo(f"\r\033[K{walked.table}: {walked.rows:,} of about {walked.estimate:,} rows", err=True, nl=False)


def print_result(result: Result, *, show_values: bool) -> None:
    headings = ["table", "to", "source rows", "target rows", *DifferenceKind, "unsettled", ""]
    print_table(headings, [_row(table) for table in result.tables])
    for table in result.tables:
        _print_differences(table, show_values=show_values)
    if result.ok:
        click.echo(f"{result.pipeline}: source and target hold the same rows.")
        return
    parked = result.total(DifferenceKind.PARKED)
    if parked:
        click.echo(f"{result.pipeline}: parked keys that differ: {parked}. Next: worker-sync dead-letters list")
    if not all(table.only_parked for table in result.tables):
        click.echo(f"{result.pipeline}: source and target differ. Next: worker-sync resync {result.pipeline} --dry-run")


def _row(table: TableResult) -> list[object]:
    counts = list(table.counts.values())
    names = [str(table.pair.name), str(table.pair.target.table)]
    return [
        *names,
        table.source_rows,
        table.target_rows,
        *counts,
        table.unsettled,
        mark("ok" if table.ok else "failed"),
    ]


def _print_differences(table: TableResult, *, show_values: bool) -> None:
    for found in table.as_json(show_values=show_values)["differences"]:
        key = ", ".join(map(str, found["key"]))
        columns = f": {', '.join(found['columns'])}" if found["columns"] else ""
        click.echo(f"  {table.pair.name} ({key}) {found['kind']}{columns}")
        if show_values:
            click.echo(f"    source {found['source']}\n    target {found['target']}")
