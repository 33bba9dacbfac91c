"""`audit triggers`: recording changes in a PostgreSQL whose log may not be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from connectors.postgres.triggers.install import Installer, Step
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import mark, print_json
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import ConfigError
from worker_sync.core.schema import TableName
from worker_sync.core.sections import is_trail

_dry_run = click.option("--dry-run", is_flag=True, help="Print the SQL, for a role of your choice, and change nothing.")


@click.group(
    epilog="\b\nExamples:\n  worker-sync audit triggers install shop --dry-run | psql\n"
    "  worker-sync audit triggers list shop"
)
@configured
def triggers() -> None:
    """Triggers that record changes where logical replication is not allowed: install, list, remove."""


@contextmanager
def _opened(ctx: click.Context, source: str) -> Iterator[tuple[Installer, list[TableName]]]:
    """The database, and the tables that its trail names."""
    settings = state(ctx).settings()
    settings.database(source)
    if source not in settings.audit or settings.audit[source].capture != "triggers":
        raise ConfigError(f"audit.{source}.capture is not triggers; set it, or leave the log to tell of changes")
    with Workspace(settings) as space:
        trail = next(flow for flow in settings.flows.values() if flow.source == source and is_trail(flow.name))
        tables = [chosen.source.table for chosen in settings.select(trail, space.tables(source))]
        with Installer(settings.database(source).url.reveal()) as installer:
            yield installer, tables


def _take(installer: Installer, steps: Sequence[Step], *, dry_run: bool) -> None:
    for step in steps:
        if dry_run:
            click.echo(step.script())
        else:
            installer.run(step)
            click.echo(f"{mark('ok')}  {step.what}")


@triggers.command()
@click.argument("source")
@_dry_run
@as_json_option
@configured
@click.pass_context
def install(ctx: click.Context, source: str, dry_run: bool, as_json: bool) -> None:
    """Install what is missing so that the tables of audit.SOURCE are recorded, and remove triggers of other tables.

    Needs the tables' owner. Each table is locked for a moment, never longer than a second at a time.
    """
    with _opened(ctx, source) as (installer, tables):
        steps = installer.install_steps(tables)
        if as_json:
            done = [{"what": step.what, "sql": step.script()} for step in steps]
            if not dry_run:
                for step in steps:
                    installer.run(step)
            print_json({"source": source, "dry_run": dry_run, "steps": done})
            return
        _take(installer, steps, dry_run=dry_run)
    if not dry_run:
        click.echo(f"{len(tables)} tables are recorded. Next: worker-sync check")


@triggers.command(name="list")
@click.argument("source")
@as_json_option
@configured
@click.pass_context
def list_triggers(ctx: click.Context, source: str, as_json: bool) -> int:
    """Show the tables of audit.SOURCE and whether their changes are recorded. Exit code 1 when one's are not."""
    with _opened(ctx, source) as (installer, tables):
        found, unread = installer.audited(tables), installer.unread()
    if as_json:
        listed = [{"table": str(table), "state": word} for table, word in found]
        print_json({"source": source, "tables": listed, "unread_changes": unread})
    else:
        for table, word in found:
            click.echo(f"{mark('ok' if word == 'enabled' else 'failed')}  {table}: {word}")
        click.echo(f"{unread} recorded changes are not in the ledger yet")
    return 0 if all(word == "enabled" for _, word in found) else 1


@triggers.command()
@click.argument("source")
@click.option("--discard", is_flag=True, help="Also where recorded changes are not in the ledger yet: they are lost.")
@_dry_run
@configured
@click.pass_context
def remove(ctx: click.Context, source: str, discard: bool, dry_run: bool) -> int:
    """Remove the triggers of audit.SOURCE, and what they recorded once all of it is in the ledger.

    Exit code 1 when recorded changes are kept because they are not in the ledger yet.
    """
    with _opened(ctx, source) as (installer, _):
        _take(installer, installer.remove_steps(), dry_run=dry_run)
        unread = installer.unread()
        if unread and not discard:
            click.echo(f"{unread} recorded changes are not in the ledger yet, and are kept.", err=True)
            click.echo(f"Next: worker-sync wait audit.{source}, then this again; or --discard", err=True)
            return 1
        _take(installer, installer.drop_schema_steps(), dry_run=dry_run)
    return 0
