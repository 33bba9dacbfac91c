"""`audit forget`: the key of somebody's personal data is destroyed, by two people."""

from __future__ import annotations

import click

from connectors.ledger import forgetting
from tasks.ledger import ledger_url
from worker_sync.cli.audit_options import by_option, opened, user
from worker_sync.cli.audit_personal import subject_id
from worker_sync.cli.options import configured


@click.command(
    epilog="\b\nExamples:\n  worker-sync audit forget 17 --table public.customers --dry-run\n"
    "  worker-sync audit forget 17 --table public.customers --request --by anna\n"
    "  worker-sync audit forget --approve 1042 --by bob"
)
@configured
@click.argument("subject", required=False)
@click.option("--table", help="The table whose personal_data says what SUBJECT is a value of.")
@click.option("--source", help="Of this source database; needed where there are several trails.")
@click.option("--dry-run", is_flag=True, help="Only say how many changes hold their data.")
@click.option("--request", "asks", is_flag=True, help="Ask for it. Another person has to approve.")
@click.option("--approve", type=click.IntRange(min=0), metavar="REQUEST", help="Approve the request of this number.")
@by_option
@click.pass_context
def forget(
    ctx: click.Context,
    subject: str | None,
    table: str | None,
    source: str | None,
    dry_run: bool,
    asks: bool,
    approve: int | None,
    by: str | None,
) -> int:
    """Destroy the key of the personal data of SUBJECT: it can't be read any more, and every proof stays valid.

    One person asks with --request, another one approves; both stand in the ledger. Copies of the control store from
    before, backups too, still have the key.
    """
    if dry_run + asks + (approve is not None) != 1:
        raise click.UsageError("give one of --dry-run, --request and --approve REQUEST")
    if approve is not None:
        if subject is not None or table is not None:
            raise click.UsageError("--approve takes whom from the request: leave SUBJECT and --table out")
        return _approve(ctx, approve, by or user())
    if subject is None or table is None:
        raise click.UsageError("--dry-run and --request need SUBJECT and --table")
    with opened(ctx) as (settings, reader):
        source, whom = subject_id(settings, reader, source, table, subject)
        count = reader.changes_of(whom)
        if dry_run:
            click.echo(f"{count:,} changes hold personal data of this subject.")
            return 0
        number = forgetting.request(ledger_url(settings), source, table, whom, by or user())
    click.echo(f"Request {number}: {count:,} changes hold personal data of this subject.")
    click.echo(f"Next, by another person: worker-sync audit forget --approve {number}")
    return 0


def _approve(ctx: click.Context, number: int, by: str) -> int:
    with opened(ctx) as (settings, _):
        done = forgetting.approve(ledger_url(settings), number, by)
    asked = done.request
    click.echo(f"Entry {done.number}: the key of a subject of {asked.source} {asked.table} is destroyed.")
    click.echo(f"Asked for by {asked.by}, approved by {by}. Next: worker-sync audit checkpoint")
    return 0
