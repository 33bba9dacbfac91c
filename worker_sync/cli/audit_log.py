"""`audit log`: who changed what, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from connectors.ledger.filters import Wanted
from connectors.ledger.reader import LedgerReader
from connectors.ledger.revealing import Revealer
from worker_sync.cli.audit_options import opened
from worker_sync.cli.audit_output import TOLD, print_csv, print_history, print_lines
from worker_sync.cli.audit_personal import keys_of, needed, subject_id
from worker_sync.cli.letter_options import MOMENT
from worker_sync.cli.options import configured
from worker_sync.core.parking import key_text
from worker_sync.core.settings import Settings
from worker_sync.ledger.changes import OPERATIONS
from worker_sync.ledger.indexed import key_column, searchable, shortened

#: Entries that are listed unless said otherwise.
SHOWN: Final = 100

#: Of what kinds entries are.
KINDS: Final = ("change", *TOLD)

#: The exit code where a value was altered is that of the finding.
ALTERED: Final = 10


@click.command(
    epilog="\b\nExamples:\n  worker-sync audit log --newest-first --limit 20\n"
    "  worker-sync audit log --table public.orders --row 17\n"
    "  worker-sync audit log --actor anna --since 2026-01-31 --csv > anna.csv\n"
    "  worker-sync audit log --kind gap --json\n"
    "  worker-sync audit log --table public.customers --subject 17 --reveal --json"
)
@configured
@click.option("--source", help="Of this source database.")
@click.option("--table", help="Of this table of the source, namespace.name.")
@click.option(
    "--row",
    help="The history of one row, as the fields that changed: its key, or a JSON array or object for one of several "
    "columns.",
)
@click.option("--key", help="Of the row with this key, one line an entry.")
@click.option("--subject", help="With data of whom this value names: what personal_data calls the table's subject.")
@click.option("--reveal", is_flag=True, help="Show personal data in plain text. Needs ledger.personal_key.")
@click.option("--actor", help="By whom, as the application said.")
@click.option(
    "--session-user", help="By whom, as the database knew (audit triggers). Reads all that other filters leave."
)
@click.option("--operation", type=click.Choice(list(OPERATIONS.values())), help="Of this operation.")
@click.option("--kind", help=f"Of this kind: {', '.join(KINDS)}.")
@click.option("--transaction", help="Of this transaction, by its number or, without one, its position.")
@click.option("--since", type=MOMENT, help="Committed since then: 2h, 1d, or a date and time.")
@click.option("--until", type=MOMENT, help="Committed before then.")
@click.option("--first", type=click.IntRange(min=0), help="From this number on.")
@click.option("--end", type=click.IntRange(min=0), help="Up to, not including, this number.")
@click.option("--newest-first", is_flag=True, help="The newest first.")
@click.option("--limit", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Entries to list; 0: all.")
@click.option("--json", "form", flag_value="json", help="Print the entries themselves, one JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.pass_context
def log(ctx: click.Context, /, row: str | None, limit: int, form: str | None, **given: Any) -> int:
    """List entries of the trail, in the order in which they were recorded.

    What is shown is what the tables say; `audit verify` says whether that is true. A change of a key stands under the
    key that the row had before. Personal data is shown as `encrypted`; with --reveal in plain text, as `forgotten`
    where its key was destroyed, and as `unreadable`, with exit code 10, where it was altered.
    """
    if row is not None and (given["key"] is not None or given["table"] is None or given["newest_first"]):
        raise click.UsageError("--row needs --table, and neither --key nor --newest-first")
    if given["subject"] is not None and given["table"] is None:
        raise click.UsageError("--subject needs --table")
    with opened(ctx) as (settings, reader):
        wanted = _wanted(settings, reader, given, row, limit)
        texts = (entry for _, entry in reader.find(wanted))
        if not given["reveal"]:
            _print(wanted, texts, form, history=row is not None)
            return 0
        revealer = Revealer(reader, needed(settings).key)
        _print(wanted, _revealed(revealer, texts), form, history=row is not None)
    if revealer.unreadable:
        click.echo(f"{revealer.unreadable} values were altered or moved. Next: worker-sync audit verify", err=True)
        return ALTERED
    return 0


def _revealed(revealer: Revealer, texts: Iterator[str]) -> Iterator[str]:
    return (json.dumps(revealer.reveal(json.loads(text)), ensure_ascii=False) for text in texts)


def _print(wanted: Wanted, texts: Iterator[str], form: str | None, *, history: bool) -> None:
    if form == "json":
        for text in texts:
            click.echo(text)
        return
    entries = map(json.loads, texts)
    if form == "csv":
        print_csv(entries)
    elif history:
        print_history(entries)
    else:
        _list(wanted, entries)


def _list(wanted: Wanted, entries: Iterator[Any]) -> None:
    count = print_lines(entries)
    if count == 0:
        click.echo("No entries. Next: worker-sync audit log without filters, or worker-sync status")
    elif count == wanted.limit:
        click.echo(f"There may be more; {count} are listed. See --limit, --newest-first and the filters.", err=True)


def _wanted(settings: Settings, reader: LedgerReader, given: dict[str, Any], row: str | None, limit: int) -> Wanted:
    key = row if row is not None else given["key"]
    source, table, subject = given["source"], given["table"], given["subject"]
    if subject is not None:
        source, subject = subject_id(settings, reader, source, table, subject)
    keys = () if key is None else (key_of(key), *keys_of(settings, reader, source, table, _parts(key)))
    return Wanted(
        source=searchable(source),
        table=searchable(table) if subject is None else None,
        keys=tuple(dict.fromkeys(keys)),
        subject=subject,
        actor=searchable(given["actor"]),
        session_user=given["session_user"],
        operation=given["operation"],
        kind=given["kind"],
        transaction=searchable(given["transaction"]),
        since=given["since"],
        until=given["until"],
        first=given["first"],
        end=given["end"],
        newest_first=given["newest_first"],
        limit=limit or None,
    )


def key_of(text: str) -> str:
    """A key as it is searched: of one column as it is, of several as a JSON array in the order of the columns' names,
    or as a JSON object. Numbers are texts in the ledger."""
    found = _parts(text)
    return key_column(found) if isinstance(found, dict) else shortened(key_text(tuple(found)))


def _parts(text: str) -> dict[str, Any] | list[Any]:
    try:
        found = json.loads(text, parse_int=_as_text, parse_float=_as_text) if text[:1] in ("[", "{") else text
    except ValueError:
        found = text
    return found if isinstance(found, dict | list) else [text]


def _as_text(number: str) -> Any:
    return number
